"""Reads clicks from JSON of any shape, by the paths of a mapping, without making an object of any of them.

As `streams.decoding.click_kernels` it knows little: ids without escapes, whole times or plain decimals, ISO
text of the usual form. Whatever it is not sure of, good or bad, it leaves to `translate`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner
from streams.decoding.click_kernels import Data, Table, _digits, _is, _space, _which, njit
from streams.events import MAX_COUNT
from streams.kafka.columns import KEY, KEY_SIZE, OFFSET, TIMESTAMP, VALUE, VALUE_SIZE
from streams.state.xxh3 import LONGEST, xxh3

# Kinds of values. ESCAPED is a text with escapes, OTHER a number with a sign.
ABSENT, NONE, TEXT, INTEGER, DECIMAL, BOOLEAN, OBJECT, ARRAY, ESCAPED, OTHER = range(-1, 9)
KIND, BEGIN, SIZE, NUMBER = range(4)  # columns of slots
# What becomes of a record.
READ, LEFT_OUT, UNSURE = range(3)
# Where an id comes from: a text, a text or a whole number, the record's key, or its offset between two texts.
FROM_TEXT, FROM_SCALAR, FROM_KEY, FROM_OFFSET = range(4)
# Where a time comes from.
MS, SECONDS, MICROS, NANOS, ISO, RECORD_TIME = range(6)
# What must hold; of the last two, that this reader is not sure where they do not.
IS, IS_NOT, EXISTS, EXISTS_NOT, AT_LEAST, AT_MOST, SURE_WITH, SURE_WITHOUT = range(8)
# What an optional field is turned to, -1 of none.
AS_TEXT, AS_NUMBER, AS_INTEGER = range(3)
# Rows of `plan`: what is done for each field; a slot of -1 is none. Optional fields have what they are turned
# to and their slot.
ACTION_ROW, TIME_ROW, REQUEST_ROW, POSITION_ROW, DWELL_ROW, AMOUNT_ROW, CONTEXT_ROW = range(3, 10)
_DEEPEST = 32
_GUESSES = 64
_MOST_DIGITS = 18
_EXACT = 15  # digits of a number that a double holds
_SURE_COUNT = 9  # digits of what is below `MAX_COUNT`
# By byte: whether it stands for itself in a text; whether it may follow a backslash.
_PLAIN = np.array([32 <= byte < 128 and byte not in (34, 92) for byte in range(256)])
_ESCAPES = np.array([chr(byte) in '"\\/bfnrt' for byte in range(256)])
_DAYS = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365], np.int64)


@inner
def _sequence(data: Data, at: int, end: int) -> int:
    """Bytes of the UTF-8 character at `at`, 0 if it is none."""
    first = data[at]
    low, high = 128, 191
    if 194 <= first <= 223:
        size = 2
    elif 224 <= first <= 239:
        size = 3
        if first == 224:
            low = 160
        elif first == 237:
            high = 159
    elif 240 <= first <= 244:
        size = 4
        if first == 240:
            low = 144
        elif first == 244:
            high = 143
    else:
        return 0
    if at + size > end or not low <= data[at + 1] <= high:
        return 0
    for k in range(at + 2, at + size):
        if not 128 <= data[k] <= 191:
            return 0
    return size


@inner
def _escape(data: Data, at: int, end: int) -> int:
    """Bytes of the escape at `at`, 0 if it is none, or half of a character."""
    if at + 1 >= end:
        return 0
    if _ESCAPES[data[at + 1]]:
        return 2
    if data[at + 1] != 117 or at + 6 > end or (data[at + 2] | 32 == 100 and data[at + 3] > 55):
        return 0
    for k in range(at + 2, at + 6):
        letter = data[k] | 32
        if not (48 <= data[k] <= 57 or 97 <= letter <= 102):
            return 0
    return 6


@inner
def _text_end(data: Data, at: Any, end: int) -> Any:
    """Position of the quote that ends a text; minus that of one that has escapes; 0 where it is none."""
    sign = 1
    while at < end:
        place, stop = (
            np.uint64(at),
            np.uint64(end),
        )  # without a sign: NumPy's negative places are not looked for
        while place < stop and _PLAIN[data[place]]:
            place += np.uint64(1)
        at = np.int64(place)
        if at == end:
            return 0
        byte = data[place]
        if byte == 34:
            return sign * at
        elif byte == 92:
            size = _escape(data, at, end)
            if size == 0:
                return 0
            sign = -1
            at += size
        else:
            size = _sequence(data, at, end)
            if size == 0:
                return 0
            at += size
    return 0


@inner
def _is_utf8(data: Data, at: int, end: int) -> bool:
    while at < end:
        size = 1 if data[at] < 128 else _sequence(data, at, end)
        if size == 0:
            return False
        at += size
    return True


@inner
def _number(data: Data, at: int, end: int, slots: Table, slot: int) -> int:
    """Read a number without exponent into a slot; return where it ends, -1 where it is none."""
    begin = at
    negative = data[at] == 45
    if negative:
        at += 1
    number, stop = np.int64(0), at
    while stop < end and 48 <= data[stop] <= 57:
        number = number * 10 + np.int64(data[stop] - 48)
        stop += 1
    if stop == at or stop - at > _MOST_DIGITS or (data[at] == 48 and stop - at > 1):
        return -1
    kind = INTEGER
    if stop < end and data[stop] == 46:
        whole = stop
        stop = _digits(data, whole + 1, end)
        if not 1 < stop - whole <= _MOST_DIGITS:
            return -1
        kind = DECIMAL
    if stop < end and (data[stop] == 101 or data[stop] == 69):
        return -1
    slots[slot, KIND], slots[slot, NUMBER] = OTHER if negative else kind, number
    slots[slot, BEGIN], slots[slot, SIZE] = begin, stop - begin
    return stop


@inner
def _scalar(data: Data, at: int, end: int, slots: Table, slot: int) -> Any:
    """Read a text, a number, true, false or null into a slot; return where it ends, -1 where it is none."""
    byte = data[at]
    if byte == 34:
        stop = _text_end(data, at + 1, end)
        if stop == 0:
            return -1
        kind = TEXT
        if stop < 0:
            kind, stop = ESCAPED, -stop
        slots[slot, KIND], slots[slot, BEGIN], slots[slot, SIZE] = kind, at + 1, stop - at - 1
        return stop + 1
    if byte == 45 or 48 <= byte <= 57:
        return _number(data, at, end, slots, slot)
    kind, size = BOOLEAN, 4
    if _is(data, at, end, 110, 117, 108, 108):  # null
        kind = NONE
    elif byte == 102 and _is(data, at + 1, end, 97, 108, 115, 101):  # false
        size = 5
    elif not _is(data, at, end, 116, 114, 117, 101):  # true
        return -1
    slots[slot, KIND], slots[slot, BEGIN], slots[slot, SIZE] = kind, at, size
    return at + size


@inner
def _child(data: Data, at: int, size: int, node: int, nodes: Table, children: Table, names: Data) -> int:
    """Number of the child of a node that has this name, -1 if none has."""
    for k in range(nodes[node], nodes[node + 1]):
        begin = children[k, 0]
        if children[k, 1] == size:
            same = True
            for i in range(size):
                same &= data[at + i] == names[begin + i]
            if same:
                return k
    return -1


@inner
def _walk(
    data: Data, at: int, end: int, nodes: Table, children: Table, names: Data, slots: Table, stack: Table,
    guesses: Table,
) -> bool:  # fmt: skip
    """Read one JSON object: what lies at the leaves of the tree of paths goes to slots.

    Parameters
    ----------
    nodes : (nodes + 1,) where the children of each begin
    children : (children, 4) begin and size of the name, number of its node or -1, of its slot or -1
    slots : (slots + 1, 4) out; the last takes what nobody wants
    stack : (deepest, 2) scratch: the node of each open object, -1 of others; whether it is an array
    guesses : (keys, 4) of the object before this one, by the order of the keys: where a key begins, the size
        of it and its colon, the number of its child, and of its object's node. Most objects are alike.
    """
    nobody = len(slots) - 1
    at = _space(data, at, end)
    if at >= end or data[at] != 123:
        return False
    at += 1
    depth, seen = 0, np.uint64(0)
    stack[0, 0], stack[0, 1] = 0, 0
    fresh = True  # nothing has been read of the innermost object or array
    key = 0
    while True:
        if at < end and data[at] <= 32:
            at = _space(data, at, end)
        if at >= end:
            return False
        array = stack[depth, 1] == 1
        if fresh and data[at] == (93 if array else 125):
            at += 1
        else:
            child = -1
            if not array:
                if data[at] != 34:
                    return False
                node, size = int(stack[depth, 0]), 0
                if key < len(guesses) and guesses[key, 3] == node:
                    begin, size = int(guesses[key, 0]), int(guesses[key, 1])
                    if at + size > end:
                        size = 0
                    here, there = np.uint64(at), np.uint64(begin)
                    for i in range(np.uint64(size)):
                        if data[here + i] != data[there + i]:
                            size = 0
                            break
                if size:
                    child = guesses[key, 2]
                    at += size
                else:
                    begin, stop = at, _text_end(data, at + 1, end)
                    if stop <= 0:
                        return False
                    if node >= 0:
                        child = _child(data, at + 1, stop - at - 1, node, nodes, children, names)
                    at = _space(data, stop + 1, end)
                    if at >= end or data[at] != 58:
                        return False
                    at += 1
                    if key < len(guesses):
                        guesses[key, 0], guesses[key, 1] = begin, at - begin
                        guesses[key, 2], guesses[key, 3] = child, node
                key += 1
                if at < end and data[at] <= 32:
                    at = _space(data, at, end)
                if at >= end:
                    return False
            node, slot = -1, nobody
            if child >= 0:
                bit = np.uint64(1) << np.uint64(child)
                if seen & bit:
                    return False  # twice: the last one counts
                seen |= bit
                node = int(children[child, 2])
                if children[child, 3] >= 0:
                    slot = int(children[child, 3])
            byte = data[at]
            if byte == 123 or byte == 91:
                slots[slot, KIND] = OBJECT if byte == 123 else ARRAY
                depth += 1
                if depth >= _DEEPEST:
                    return False
                stack[depth, 0] = node if byte == 123 else -1
                stack[depth, 1] = byte == 91
                fresh = True
                at += 1
                continue
            at = _scalar(data, at, end, slots, slot)
            if at < 0:
                return False
            fresh = False
            if at < end and data[at] <= 32:
                at = _space(data, at, end)
            if at >= end:
                return False
            if data[at] == 44:
                at += 1
                continue
            if data[at] != (93 if stack[depth, 1] == 1 else 125):
                return False
            at += 1
        # An object or array has ended; so may have those around it.
        while True:
            depth -= 1
            at = _space(data, at, end)
            if depth < 0:
                return at == end
            if at >= end:
                return False
            if data[at] == 44:
                at += 1
                break
            if data[at] != (93 if stack[depth, 1] == 1 else 125):
                return False
            at += 1
        fresh = False


@inner
def _opens(data: Data, at: int, end: int, opening: Data) -> bool:
    """Whether a value begins with a text, if there is one, and ends with the brace that this text opens."""
    size = np.uint64(len(opening))
    if size == 0 or end - at <= len(opening) or data[end - 1] != 125:
        return False
    same, begin = True, np.uint64(at)
    for k in range(size):
        same &= data[begin + k] == opening[k]
    return same


@inner
def _two(data: Data, at: int) -> int:
    """Two digits, a number above 99 if they are none."""
    tens, ones = np.int64(data[np.uint64(at)]) - 48, np.int64(data[np.uint64(at + 1)]) - 48
    return int(tens * 10 + ones) if 0 <= tens <= 9 and 0 <= ones <= 9 else 1000


@inner
def _iso(data: Data, at: int, size: int) -> int:
    """Milliseconds of `2025-11-24T10:00:00[.000[000]][Z|+00:00]`, -1 of anything else."""
    end = at + size
    if size < 19:
        return -1
    marks = data[np.uint64(at + 4)] == 45 and data[np.uint64(at + 7)] == 45
    marks &= data[np.uint64(at + 13)] == 58 and data[np.uint64(at + 16)] == 58
    between = data[np.uint64(at + 10)]
    century, years, month, day = _two(data, at), _two(data, at + 2), _two(data, at + 5), _two(data, at + 8)
    hour, minute, second = _two(data, at + 11), _two(data, at + 14), _two(data, at + 17)
    if not marks or not (between == 84 or between == 32) or not 19 <= century <= 99 or years > 99:
        return -1
    if not 1 <= month <= 12 or day < 1 or hour > 23 or minute > 59 or second > 59:
        return -1
    year = century * 100 + years
    leap = year & 3 == 0 and (years != 0 or century & 3 == 0)
    if day > _DAYS[month] - _DAYS[month - 1] + (1 if month == 2 and leap else 0):
        return -1
    before = year - 1
    # From the year 1 on: 719,162 days to 1970.
    days = before * 365 + (before >> 2) - century + (1 if years == 0 else 0) - 719_162
    days += (century - (1 if years == 0 else 0)) >> 2
    days += _DAYS[month - 1] + (1 if month > 2 and leap else 0) + day - 1
    ms: Any = np.int64(0)
    at += 19
    if at < end and data[at] == 46:
        stop = _digits(data, at + 1, end)
        if stop - at != 4 and stop - at != 7:
            return -1
        ms = _two(data, at + 1) * 10 + np.int64(data[at + 3]) - 48
        at = stop
    shift: Any = np.int64(0)
    if at < end and data[at] == 90:
        at += 1
    elif at < end and (data[at] == 43 or data[at] == 45):
        if end - at != 6 or data[at + 3] != 58:
            return -1
        hours, minutes = _two(data, at + 1), _two(data, at + 4)
        if hours > 23 or minutes > 59:
            return -1
        shift = (hours * 60 + minutes) * (60_000 if data[at] == 43 else -60_000)
        at = end
    if at != end:
        return -1
    return int(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms - shift)


@inner
def _decimal_seconds(data: Data, begin: int, size: int, whole: int) -> int:
    """Milliseconds of a plain decimal of seconds, -1 where rounding might go either way."""
    end = begin + size
    point = _digits(data, begin, end)
    ms: Any = np.int64(0)
    rest, scale = 0.0, 1.0
    for k in range(3):
        at = point + 1 + k
        ms = ms * 10 + (np.int64(data[at]) - 48 if at < end else 0)
    for at in range(point + 4, min(end, point + 10)):
        scale /= 10.0
        rest += scale * (data[at] - 48)
    if 0.499 < rest < 0.501:
        return -1
    return int(whole * 1000 + ms + (1 if rest > 0.5 else 0))


@inner
def _time(data: Data, slots: Table, slot: int, unit: int) -> int:
    """Milliseconds of a time, -1 where this reader is not sure."""
    kind, begin, size, number = slots[slot, KIND], slots[slot, BEGIN], slots[slot, SIZE], slots[slot, NUMBER]
    if unit == ISO:
        return _iso(data, begin, size) if kind == TEXT else -1
    if kind == DECIMAL and unit == SECONDS:
        return int(_decimal_seconds(data, begin, size, number))
    if kind != INTEGER:
        return -1
    if unit == SECONDS:
        return int(number * 1000) if number < 100_000_000_000 else -1
    if unit == MICROS:
        return int(number // 1000)
    return int(number // 1_000_000) if unit == NANOS else int(number)


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
    at = _digits(data, begin, end)
    if at == begin or size > _EXACT:
        return False
    if at < end and data[at] == 46 and not whole:
        begin = at + 1
        at = _digits(data, begin, end)
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
def _put(texts: Data, begin: int, end: int, out: Data, at: int) -> Any:
    """Copy a text; return where it ends."""
    place = np.uint64(at)
    for k in range(np.uint64(begin), np.uint64(end)):
        out[place] = texts[k]
        place += np.uint64(1)
    return np.int64(place)


@inner
def _put_number(number: int, out: Data, at: int) -> int:
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
    slots, stack = np.empty((n_slots + 1, 4), np.int64), np.empty((_DEEPEST, 2), np.int64)
    guesses = np.zeros((_GUESSES, 4), np.int64)
    guesses[:, 3] = -2
    used, base = 0, len(data)
    for k in range(len(table)):
        status[k] = UNSURE
        begin, size = table[k, VALUE], table[k, VALUE_SIZE]
        if size < 0:
            continue
        end = begin + size
        if _opens(data, begin, end, opening):
            begin, end = begin + len(opening), end - 1
        slots[:, KIND] = ABSENT
        if not _walk(data, begin, end, nodes, children, names, slots, stack, guesses):
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
                sure &= _is_utf8(data, at, at + length)
            elif source == FROM_OFFSET:
                affix, start = plan[field, 2], used
                used = _put(affixes, affix_bounds[affix], affix_bounds[affix + 1], made, used)
                used = _put_number(table[k, OFFSET], made, used)
                used = _put(affixes, affix_bounds[affix + 1], affix_bounds[affix + 2], made, used)
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
            code = action_codes[_which(data, slots[slot, BEGIN], slots[slot, SIZE], actions, action_bounds)]
        time = table[k, TIMESTAMP]
        if plan[TIME_ROW, 0] != RECORD_TIME:
            time = _time(data, slots, plan[TIME_ROW, 1], plan[TIME_ROW, 0])
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
