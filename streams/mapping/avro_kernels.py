"""Writes what the paths of a mapping lead to in Avro records as JSON, for `click_kernels`.

A program says how the records of a schema are walked: `avro_plan` makes it. What the walk is not sure to read
as `avro` does, good or bad, it leaves to that: texts that JSON escapes, what is cut off or damaged, numbers
out of the range of their kind.
"""

from typing import Any

import numpy as np

from model_core.kernels import inner
from streams.decoding.byte_steps import Data, Table
from streams.decoding.click_kernels import njit
from streams.kafka.columns import VALUE, VALUE_SIZE
from streams.mapping.click_kernels import put_number, put_text
from streams.mapping.json_kernels import is_utf8

# What a step of a program does; its three arguments are named here.
END, UNSURE = range(2)  # the record ends; it is left to others
TEXT = 2  # writes texts[a:b]
BOOLEAN = 3  # a: whether it is written, as of all that follow
NUMBER = 4  # a, b: the least and the greatest that it may be; c: what it is divided by, 0 where not written
STRING, UUID = 5, 6
BYTES, FIXED = 7, 8  # are passed over; a: the most that there may be, how many there are
SWITCH = 9  # goes to one of the next a steps, which jump, by a number that is read
JUMP = 10  # goes to a
BLOCK = 11  # begins a block of items at depth a; goes to b behind the last block
NEXT = 12  # ends an item at depth a: goes to b at the next one, to c behind the last
REAL = 13  # a: whether it is written; b: its bytes
DEEPEST = 16  # lists within lists
HEAD = 5  # bytes before the value
_MAX_DECIMALS = 6
_EXACT = 1e15  # whole numbers below it are doubles
LEFT, NEW = -1, -2  # sizes of a value that is left to others, and of one whose schema has no program yet


@inner
def _long(data: Data, at: Any, end: int) -> tuple[Any, Any]:
    """Read a zigzag varint; return it and where the next byte is, beyond `end` where it is none."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end:
        byte = np.uint64(data[np.uint64(at)])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            if shift == np.uint64(63) and byte > np.uint64(1):
                break
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), np.int64(at)
        shift += np.uint64(7)
        if shift > np.uint64(63):
            break
    return np.int64(0), np.int64(end + 1)


@inner
def _is_text(data: Data, at: int, end: int, written: bool) -> bool:
    """Whether it is UTF-8; and, where it is to be written, that of no escape."""
    high, odd = np.uint8(0), False
    for k in range(np.uint64(at), np.uint64(end)):
        byte = data[k]
        high |= byte
        odd |= (byte < 32) | (byte == 34) | (byte == 92)
    if odd and written:
        return False
    return True if high < 128 else is_utf8(data, at, end)


@inner
def _is_uuid(data: Data, at: int, size: int) -> bool:
    """Whether it is a UUID as it is usually written, in lower case."""
    if size != 36:
        return False
    for k in range(36):
        byte = data[np.uint64(at + k)]
        if k == 8 or k == 13 or k == 18 or k == 23:
            if byte != 45:
                return False
        elif not (48 <= byte <= 57 or 97 <= byte <= 102):
            return False
    return True


@inner
def _bits(data: Data, at: int, size: int) -> Any:
    """Little-endian number without a sign."""
    bits = np.uint64(0)
    for k in range(size - 1, -1, -1):
        bits = bits << np.uint64(8) | np.uint64(data[np.uint64(at + k)])
    return bits


@inner
def _real(data: Data, at: int, size: int) -> Any:
    """Read a double, or a float of 4 bytes."""
    if size == 8:
        double = np.uint64(_bits(data, at, 8))
        return double.view(np.float64)
    single = np.uint32(_bits(data, at, 4))
    return np.float64(single.view(np.float32))


@inner
def _put_real(number: float, out: Data, at: Any) -> Any:
    """Write a number that has few decimals; return where it ends, -1 of others.

    Both parts of the division are exact, so that what is written is read as this number.
    """
    size = abs(number)
    scale, decimals = np.int64(10), 1
    while decimals <= _MAX_DECIMALS and size * scale < _EXACT:
        digits = np.int64(np.rint(size * scale))
        if digits / scale == size:
            if number < 0:
                out[at] = 45
                at += 1
            whole = digits // scale
            at = put_number(whole, out, at)
            # A one before the decimals keeps the zeros that they begin with; the point replaces it.
            stop = put_number(digits - whole * scale + scale, out, at)
            out[at] = 46
            return np.int64(stop)
        scale *= 10
        decimals += 1
    return np.int64(-1)


@inner
def _record(
    data: Data, at: Any, end: int, used: Any, step: Any, steps: Table, texts: Data, left: Table
) -> Any:
    """Write one record at `used`; return where that ends, -1 where it is left to others.

    left : (DEEPEST,) scratch: items of the blocks that are being read
    """
    items = np.int64(end - at)  # at most: those without bytes could be any number
    while True:
        what, a = steps[step, 0], steps[step, 1]
        step += 1
        if what == TEXT:
            used = put_text(texts, a, steps[step - 1, 2], data, used)
        elif what in (STRING, UUID):
            size, at = _long(data, at, end)
            if size < 0 or size > end - at:
                return np.int64(-1)
            if not (_is_text(data, at, at + size, a == 1) if what == STRING else _is_uuid(data, at, size)):
                return np.int64(-1)
            if a == 1:
                used = put_text(data, at, at + size, data, used)
            at += size
        elif what == NUMBER:
            number, at = _long(data, at, end)
            if at > end or number < a or number > steps[step - 1, 2]:
                return np.int64(-1)
            divisor = steps[step - 1, 3]
            if divisor:
                if divisor > 1:
                    number //= divisor
                if number < 0:
                    data[used] = 45
                    used += 1
                    number = -number
                used = np.int64(put_number(number, data, used))
        elif what == SWITCH:
            branch, at = _long(data, at, end)
            if at > end or branch < 0 or branch >= a:
                return np.int64(-1)
            step = steps[step + branch, 1]
        elif what == JUMP:
            step = a
        elif what == BOOLEAN:
            if at >= end or data[at] > 1:
                return np.int64(-1)
            if a == 1:
                used = put_text(_FALSE_TRUE, 5 * data[at], 5 + 4 * data[at], data, used)
            at += 1
        elif what == FIXED:
            if a > end - at:
                return np.int64(-1)
            at += a
        elif what == REAL:
            size = steps[step - 1, 2]
            if size > end - at:
                return np.int64(-1)
            if a == 1:
                used = _put_real(_real(data, at, size), data, used)
                if used < 0:
                    return np.int64(-1)
            at += size
        elif what == BYTES:
            size, at = _long(data, at, end)
            if size < 0 or size > end - at or size > a:
                return np.int64(-1)
            at += size
        elif what == BLOCK:
            count, at = _long(data, at, end)
            if count < 0:
                count = -count
                _, at = _long(data, at, end)  # its bytes: the items are read, as what they hold may be wrong
            if at > end or count < 0 or count > items:
                return np.int64(-1)
            items -= count
            left[a] = count
            if count == 0:
                step = steps[step - 1, 2]
        elif what == NEXT:
            left[a] -= 1
            step = steps[step - 1, 2] if left[a] > 0 else steps[step - 1, 3]
        elif what == END:
            return used if at == end else np.int64(-1)
        else:
            return np.int64(-1)


_FALSE_TRUE = np.frombuffer(b"falsetrue", np.uint8)


@njit
def transcode(
    data: Data, table: Table, used: int, ids: Table, starts: Table, steps: Table, texts: Data, values: Table
) -> int:
    """Write records as JSON objects; return where the last of them ends.

    Parameters
    ----------
    data : (bytes,) what the records lie in, and from `used` on, out, the objects
    table : (n, 6) int64, as in `RecordColumns`
    ids, starts : (schemas,) the id of each schema, and the first step of its program or -1
    steps : (steps, 4) what is done and its arguments; texts : (bytes,) what they write
    values : (n, 2) out: where in `data` each object begins, and its size, LEFT or NEW
    """
    left = np.empty(DEEPEST, np.int64)
    last, n = -1, len(ids)
    for k in range(len(table)):
        at, size = table[k, VALUE], table[k, VALUE_SIZE]
        values[k, 1] = LEFT
        if size < HEAD or data[at] != 0:
            continue
        number = np.int64(0)
        for byte in range(1, HEAD):
            number = number << np.int64(8) | np.int64(data[at + byte])
        if last < 0 or ids[last] != number:
            last = -1
            for which in range(n):
                if ids[which] == number:
                    last = which
                    break
            if last < 0:
                values[k, 1] = NEW
                continue
        if starts[last] < 0:
            continue
        stop = _record(data, at + HEAD, at + size, used, starts[last], steps, texts, left)
        if stop >= 0:
            values[k, 0], values[k, 1] = used, stop - used
            used = stop
    return used
