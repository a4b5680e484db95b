"""Reads clicks from JSON of any shape, by the paths of a mapping, without making an object of any of them.

As `streams.decoding.click_kernels` it knows little: ids without escapes, whole times or plain decimals, ISO
text of the usual form. Whatever it is not sure of, good or bad, it leaves to `translate`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner
from streams.decoding.byte_steps import Data, Table, index_of_text, skip_digits
from streams.decoding.click_kernels import njit
from streams.decoding.xxh3 import LONGEST, xxh3
from streams.events import MAX_COUNT
from streams.kafka.columns import KEY, KEY_SIZE, OFFSET, TIMESTAMP, VALUE, VALUE_SIZE
from streams.mapping.json_kernels import (
    ABSENT,
    BEGIN,
    BOOLEAN,
    DECIMAL,
    ESCAPED,
    INTEGER,
    KIND,
    MAX_DEPTH,
    MAX_GUESSES,
    NONE,
    NUMBER,
    OBJECT,
    OTHER,
    SIZE,
    TEXT,
    is_utf8,
    opens_with,
    walk,
)
from streams.mapping.time_kernels import RECORD_TIME, time_ms

# What becomes of a record.
READ, LEFT_OUT, UNSURE = range(3)
# Where an id comes from: a text, a text or a whole number, the record's key, or its offset between two texts.
FROM_TEXT, FROM_SCALAR, FROM_KEY, FROM_OFFSET = range(4)
# What must hold; of the last two, that this reader is not sure where they do not.
IS, IS_NOT, EXISTS, EXISTS_NOT, AT_LEAST, AT_MOST, SURE_WITH, SURE_WITHOUT = range(8)
# What an optional field is turned to, -1 of none.
AS_TEXT, AS_NUMBER, AS_INTEGER = range(3)
# Rows of `plan`: what is done for each field; a slot of -1 is none. Optional fields have what they are turned
# to and their slot.
ACTION_ROW, TIME_ROW, REQUEST_ROW, POSITION_ROW, DWELL_ROW, AMOUNT_ROW, CONTEXT_ROW = range(3, 10)
_EXACT = 15  # digits of a number that a double holds
_SURE_COUNT = 9  # digits of what is below `MAX_COUNT`


@inner
def _double(data: Data, begin: int, size: int) -> float:
    """A number of at most `_EXACT` digits, as Python reads it: both parts of the division are exact."""
    digits, scale = np.int64(0), 1.0
    beyond = False
    for at in range(begin + (data[begin] == 45), begin + size):
        if data[at] == 46:
            beyond = True
        else:
            digits = digits * 10 + np.int64(data[at] - 48)
            scale *= 10.0 if beyond else 1.0
    return (-digits if data[begin] == 45 else digits) / scale


@inner
def _is_number(data: Data, begin: int, size: int, whole: bool) -> bool:
    """Whether a text is digits, of which some may stand behind a point unless it must be whole."""
    end = begin + size
    at = skip_digits(data, begin, end)
    if at == begin or size > _EXACT:
        return False
    if at < end and data[at] == 46 and not whole:
        begin = at + 1
        at = skip_digits(data, begin, end)
    return bool(at == end and at > begin)


@inner
def _holds(
    data: Data, slots: Table, tests: Table, test: int, choices: Data, bounds: Table, kinds: Table
) -> int:
    """Whether a condition holds: 1 or 0, -1 where this reader is not sure.

    tests : (tests, 4) slot, what must hold, and first and last + 1 of its choices, or the bits of the number
        that it is compared with; kinds : of each choice
    """
    slot = tests[test, 0]
    kind, what = slots[slot, KIND], tests[test, 1]
    if what >= SURE_WITH:
        return 1 if (kind > NONE) == (what == SURE_WITH) else -1
    if what >= AT_LEAST:
        if kind not in (INTEGER, DECIMAL, OTHER):
            return 0
        if slots[slot, SIZE] > _EXACT:
            return -1
        number = _double(data, slots[slot, BEGIN], slots[slot, SIZE])
        limit = np.int64(tests[test, 2]).view(np.float64)
        return int(number >= limit if what == AT_LEAST else number <= limit)
    if what >= EXISTS:
        return int((kind > NONE) == (what == EXISTS))
    if kind in (DECIMAL, ESCAPED, OTHER):
        return -1
    among = False
    if kind in (TEXT, INTEGER, BOOLEAN):
        at, size = slots[slot, BEGIN], slots[slot, SIZE]
        for k in range(tests[test, 2], tests[test, 3]):
            begin = bounds[k]
            if kinds[k] == kind and bounds[k + 1] - begin == size:
                same = True
                for i in range(size):
                    same &= data[at + i] == choices[begin + i]
                among |= same
    return int(among == (what == IS))


@inner
def _optional(data: Data, plan: Table, slots: Table) -> bool:
    """Whether the optional fields are of kinds that a click may have."""
    for row in range(REQUEST_ROW, CONTEXT_ROW + 1):
        if plan[row, 1] < 0:
            continue
        slot, becomes = plan[row, 1], plan[row, 0]
        kind, size = slots[slot, KIND], slots[slot, SIZE]
        if kind <= NONE:
            continue
        numeral = kind == TEXT and becomes >= AS_NUMBER
        if numeral:
            numeral = _is_number(data, slots[slot, BEGIN], size, becomes == AS_INTEGER)
        if row == REQUEST_ROW:
            fits = kind in (TEXT, ESCAPED) or (kind == INTEGER and becomes == AS_TEXT)
        elif row == POSITION_ROW:
            fits = kind == INTEGER and slots[slot, NUMBER] <= MAX_COUNT
            fits |= numeral and becomes == AS_INTEGER and size <= _SURE_COUNT
        elif row == CONTEXT_ROW:
            fits = kind == OBJECT
        else:
            fits = numeral or kind == INTEGER or (kind == DECIMAL and becomes != AS_INTEGER)
        if not fits:
            return False
    return True


@inner
def put_text(texts: Data, begin: int, end: int, out: Data, at: int) -> Any:
    """Copy a text; return where it ends."""
    place = np.uint64(at)
    for k in range(np.uint64(begin), np.uint64(end)):
        out[place] = texts[k]
        place += np.uint64(1)
    return np.int64(place)


@inner
def put_number(number: int, out: Data, at: int) -> int:
    """Write a number that is not negative; return where it ends."""
    rest, ten = np.uint64(number), np.uint64(10)
    size = 1
    while rest >= ten:
        size += 1
        rest //= ten
    rest = np.uint64(number)
    for k in range(at + size - 1, at - 1, -1):
        tens = rest // ten
        out[np.uint64(k)] = np.uint64(48) + rest - tens * ten
        rest = tens
    return at + size


@njit
def read_mapped(
    data: Data, table: Table, nodes: Table, children: Table, names: Data, plan: Table,
    tests: Table, choices: Data, choice_bounds: Table, choice_kinds: Table,
    actions: Data, action_bounds: Table, action_codes: Table, affixes: Data, affix_bounds: Table,
    opening: Data, n_slots: int, made: Data, spans: Table, numbers: Table, hashes: NDArray[np.uint64],
    status: Data,
) -> int:  # fmt: skip
    """Read the clicks that it is sure of; return the bytes used of `made`.

    Parameters
    ----------
    data : (bytes,) what the records lie in, behind it `made`
    table : (n, 6) int64, as in `RecordColumns`
    nodes, children, names : the tree of paths, see `_walk`
    plan : (10, 3) what is done for each field: its kind, its slot and, of an id, its affixes
    tests, choices, choice_bounds, choice_kinds : the conditions, see `_holds`
    actions, action_bounds, action_codes : texts of actions and the code of each; the last code is that of
        what is none of them: -1 leaves the record to others, -2 leaves it out
    affixes, affix_bounds : texts before and after an offset
    opening : (bytes,) the text up to an object that is read in place of a value that begins with it, or empty
    made : (bytes,) out: ids that are made here; `spans` count them from the end of `data` on
    spans, numbers, hashes : out, as of `streams.decoding.click_kernels.read_clicks`
    status : (n,) uint8 out: READ, LEFT_OUT or UNSURE
    """
    slots, stack = np.empty((n_slots + 1, 4), np.int64), np.empty((MAX_DEPTH, 2), np.int64)
    guesses = np.zeros((MAX_GUESSES, 4), np.int64)
    guesses[:, 3] = -2
    used, base = 0, len(data)
    for k in range(len(table)):
        status[k] = UNSURE
        begin, size = table[k, VALUE], table[k, VALUE_SIZE]
        if size < 0:
            continue
        end = begin + size
        if opens_with(data, begin, end, opening):
            begin, end = begin + len(opening), end - 1
        slots[:, KIND] = ABSENT
        if not walk(data, begin, end, nodes, children, names, slots, stack, guesses):
            continue
        kept = 1
        for c in range(len(tests)):
            kept = _holds(data, slots, tests, c, choices, choice_bounds, choice_kinds)
            if kept != 1:
                break
        if kept != 1:
            status[k] = LEFT_OUT if kept == 0 else UNSURE
            continue
        sure = _optional(data, plan, slots)
        for field in range(3):
            source = plan[field, 0]
            if source == FROM_KEY:
                at, length = table[k, KEY], table[k, KEY_SIZE]
                sure &= is_utf8(data, at, at + length)
            elif source == FROM_OFFSET:
                affix, start = plan[field, 2], used
                used = put_text(affixes, affix_bounds[affix], affix_bounds[affix + 1], made, used)
                used = put_number(table[k, OFFSET], made, used)
                used = put_text(affixes, affix_bounds[affix + 1], affix_bounds[affix + 2], made, used)
                at, length = base + start, used - start
            else:
                slot = plan[field, 1]
                kind = slots[slot, KIND]
                sure &= kind == TEXT or (source == FROM_SCALAR and kind == INTEGER)
                at, length = slots[slot, BEGIN], slots[slot, SIZE]
            sure &= 1 <= length <= LONGEST
            spans[field, k, 0], spans[field, k, 1] = at, length
        if not sure:
            continue
        code = action_codes[len(action_codes) - 1]
        if plan[ACTION_ROW, 1] >= 0:
            slot = plan[ACTION_ROW, 1]
            kind = slots[slot, KIND]
            if not (kind == TEXT or (plan[ACTION_ROW, 0] == 1 and kind in (INTEGER, BOOLEAN))):
                continue
            code = action_codes[
                index_of_text(data, slots[slot, BEGIN], slots[slot, SIZE], actions, action_bounds)
            ]
        time = table[k, TIMESTAMP]
        if plan[TIME_ROW, 0] != RECORD_TIME:
            time = time_ms(data, slots, plan[TIME_ROW, 1], plan[TIME_ROW, 0])
        if code == -1 or not 100_000_000_000 <= time <= 9_999_999_999_999:
            continue
        if code == -2:
            status[k] = LEFT_OUT
            continue
        numbers[k, 0], numbers[k, 1] = code, time
        status[k] = READ
        for field in range(3):
            at = spans[field, k, 0]
            if at >= base:
                hashes[field, k] = xxh3(made, at - base, spans[field, k, 1])
            else:
                hashes[field, k] = xxh3(data, at, spans[field, k, 1])
    return used
