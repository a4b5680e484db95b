"""Reads clicks from their JSON without making an object of any of them.

The reader is strict and knows little: one flat object, ASCII, no escapes, no exponents, ids short
enough for `xxh3`.
Whatever it is not sure of, good or bad, it leaves to msgspec, which says what is wrong with it.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner
from streams.decoding.byte_steps import (
    Data,
    Table,
    end_of_text,
    index_of_text,
    is_word,
    same_bytes,
    skip_digits,
    skip_space,
    texts,
)
from streams.decoding.xxh3 import LONGEST, xxh3
from streams.events import MAX_COUNT
from streams.kafka.columns import KEY, KEY_SIZE, VALUE, VALUE_SIZE

# Fields of a click in the order of their bits; ids first, whose spans and hashes are columns.
NAMES = (
    b"user_id", b"item_id", b"event_id", b"action", b"timestamp_ms",
    b"request_id", b"position", b"dwell_ms", b"value", b"context",
)  # fmt: skip
USER, ITEM, EVENT, ACTION, TIME, REQUEST, POSITION, DWELL, AMOUNT, CONTEXT = range(10)
_REQUIRED = (1 << REQUEST) - 1
_NONE, _TEXT, _INTEGER, _DECIMAL, _OTHER = range(5)  # kinds of values: null, ..., true and false
_MOST_DIGITS = 18

njit = numba.njit(cache=True, nogil=True)


FIELDS = texts(NAMES)


@inner
def _value(data: Data, at: int, end: int) -> tuple[Any, Any, Any]:
    """Kind of the value at `at`, where it ends, and its number; a kind of -1 is not for this reader.

    A text ends at its closing quote. A decimal has no number.
    """
    nothing = np.int64(0)
    if at >= end:
        return np.int64(-1), nothing, nothing
    byte = data[at]
    if byte == 34:
        stop = end_of_text(data, at + 1, end)
        return np.int64(_TEXT if stop >= 0 else -1), np.int64(stop), nothing
    if 48 <= byte <= 57:
        stop, number = at, np.int64(0)
        while stop < end and 48 <= data[stop] <= 57:
            number = number * 10 + np.int64(data[stop] - 48)
            stop += 1
        if stop - at > _MOST_DIGITS or (byte == 48 and stop - at > 1):
            return np.int64(-1), nothing, nothing
        if stop < end and data[stop] == 46:
            whole = stop
            stop = skip_digits(data, whole + 1, end)
            if not 1 < stop - whole <= _MOST_DIGITS:
                return np.int64(-1), nothing, nothing
            return np.int64(_DECIMAL), np.int64(stop), nothing
        return np.int64(_INTEGER), np.int64(stop), number
    if is_word(data, at, end, 110, 117, 108, 108):  # null
        return np.int64(_NONE), np.int64(at + 4), nothing
    if is_word(data, at, end, 116, 114, 117, 101):  # true
        return np.int64(_OTHER), np.int64(at + 4), nothing
    if is_word(data, at + 1, end, 97, 108, 115, 101) and byte == 102:  # false
        return np.int64(_OTHER), np.int64(at + 5), nothing
    return np.int64(-1), nothing, nothing


@inner
def _fits(field: int, kind: int, size: int, number: int) -> bool:
    """Whether a value may stand in a field; a False leaves the click to msgspec."""
    if field <= EVENT:
        return kind == _TEXT and 1 <= size <= LONGEST
    if field == ACTION:
        return kind == _TEXT
    if field == TIME:
        return kind == _INTEGER and 100_000_000_000 <= number <= 9_999_999_999_999
    if field == REQUEST:
        return kind in (_TEXT, _NONE)
    if field == POSITION:
        return kind == _NONE or (kind == _INTEGER and number <= MAX_COUNT)
    if field in (DWELL, AMOUNT):
        return kind in (_INTEGER, _DECIMAL, _NONE)
    return kind == _NONE if field == CONTEXT else True


@inner
def _click(
    data: Data, at: int, end: int, fields: Data, field_bounds: Table, names: Data, name_bounds: Table,
    spans: Table, numbers: Table,
) -> bool:  # fmt: skip
    """Read one click: spans (3, 2), begin and size of the ids; numbers (2,), action and time."""
    at = skip_space(data, at, end)
    if at >= end or data[at] != 123:
        return False
    seen = 0
    while True:
        at = skip_space(data, at + 1, end)
        if at >= end or data[at] != 34:
            return False
        stop = end_of_text(data, at + 1, end)
        if stop < 0:
            return False
        field = index_of_text(data, at + 1, stop - at - 1, fields, field_bounds)
        at = skip_space(data, stop + 1, end)
        if at >= end or data[at] != 58:
            return False
        at = skip_space(data, at + 1, end)
        kind, stop, number = _value(data, at, end)
        if kind < 0:
            return False
        if field <= CONTEXT:
            if seen >> field & 1 or not _fits(field, kind, stop - at - 1, number):
                return False
            seen |= 1 << field
            if field <= EVENT:
                spans[field, 0], spans[field, 1] = at + 1, stop - at - 1
            elif field == ACTION:
                numbers[0] = index_of_text(data, at + 1, stop - at - 1, names, name_bounds)
            elif field == TIME:
                numbers[1] = number
        at = skip_space(data, stop + 1 if kind == _TEXT else stop, end)
        if at >= end or (data[at] != 44 and data[at] != 125):
            return False
        if data[at] == 125:
            return skip_space(data, at + 1, end) == end and seen & _REQUIRED == _REQUIRED


@njit
def read_clicks(
    data: Data, table: Table, fields: Data, field_bounds: Table, names: Data, name_bounds: Table,
    spans: Table, numbers: Table, hashes: NDArray[np.uint64], read: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Read the clicks that are plain.

    Parameters
    ----------
    table : (n, 6) int64, as in `RecordColumns`
    spans : (3, n, 2) int64, out: begin and size in `data` of user, item and event id
    numbers : (n, 2) int64, out: number of the action among the names, or how many there are; time in ms
    hashes : (3, n) uint64, out: xxh3 of the ids
    read : (n,) bool, out: False where msgspec must read
    """
    for k in range(len(table)):
        begin, size = table[k, VALUE], table[k, VALUE_SIZE]
        read[k] = size >= 0 and _click(
            data, begin, begin + size, fields, field_bounds, names, name_bounds, spans[:, k], numbers[k]
        )
        if read[k]:
            for which in range(3):
                hashes[which, k] = xxh3(data, spans[which, k, 0], spans[which, k, 1])


@njit
def other_keys(data: Data, table: Table, spans: Table) -> int:
    """Count the records whose key is not their user's id."""
    count = 0
    for k in range(len(table)):
        size = table[k, KEY_SIZE]
        same = size == spans[USER, k, 1]
        count += not (same and same_bytes(data, table[k, KEY], data, spans[USER, k, 0], size))
    return count
