"""Compiled reading of changelog rows: what `packing` writes, read from the bytes that the broker sent.

The readers are strict and believe no size that a row states before it has been held against the row's end.
Whatever is not written as `packing` writes it, good or bad, they leave to msgspec, which says what is wrong
with it.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.signals.horizons import MOMENTS
from streams.decoding.xxh3 import LONGEST, xxh3
from streams.durability.packing import KEY_PREFIX
from streams.kafka.columns import KEY, KEY_SIZE, VALUE, VALUE_SIZE
from streams.state.rings import ACTION_BITS, CHUNK
from streams.state.rows import SCHEMA_VERSION

Data = NDArray[np.uint8]
Table = NDArray[np.int64]
Hashes = NDArray[np.uint64]

# What a record is: for another reader; a row that was taken back; a row that was read; one left to msgspec.
OTHER, GONE, READ, LEFT = 0, 1, 2, 3
# Columns of `read_chunks`: where the parts of a row begin.
KIND, EVENTS, FIRST, COUNTS, ITEMS, ACTIONS, TIMES, KEYS, OFFSETS = range(9)
# Columns of `read_covisits`; the first is KIND as well.
APPLIED, POPULARITY, SIZE, OTHERS, TIMES_SEEN, MOMENTS_AT = range(1, 7)
CHUNK_SUFFIX = 3  # bytes of a chunk's key after the user's id
LATEST = 1 << (63 - ACTION_BITS)
COVISIT_KEY = len(KEY_PREFIX) + 10

njit = numba.njit(cache=True, nogil=True)


@njit
def _integer(data: Data, at: int, end: int) -> tuple[Any, Any]:
    """Read an integer; return it and where the next byte is, -1 if none that fits into 64 bits is there."""
    if at >= end:
        return np.int64(0), np.int64(-1)
    head = np.int64(data[at])
    at += 1
    if head < 0x80:
        return head, np.int64(at)
    if head >= 0xE0:
        return head - 256, np.int64(at)
    if head < 0xCC or head > 0xD3:
        return np.int64(0), np.int64(-1)
    signed = head >= 0xD0
    size = 1 << (head & 3)
    if at + size > end:
        return np.int64(0), np.int64(-1)
    value = np.int64(0)
    for k in range(size):
        value = (value << np.int64(8)) | np.int64(data[at + k])
    if signed and size < 8 and data[at] > 127:
        value -= np.int64(1) << np.int64(8 * size)
    if not signed and value < 0:
        return np.int64(0), np.int64(-1)
    return value, np.int64(at + size)


@njit
def _size(data: Data, at: int, end: int, first: int) -> tuple[Any, Any]:
    """Read a size of 1, 2 or 4 bytes after a type byte from `first` on, and where what it is of begins.

    The size is -1 where there is none, or what it is of does not end before `end`.
    """
    if at >= end or data[at] < first or data[at] > first + 2:
        return np.int64(-1), np.int64(at)
    width = 1 << (data[at] - first)
    at += 1
    if at + width > end:
        return np.int64(-1), np.int64(at)
    size = np.int64(0)
    for k in range(width):
        size = (size << np.int64(8)) | np.int64(data[at + k])
    at += width
    return size if at + size <= end else np.int64(-1), np.int64(at)


@njit
def _text(data: Data, at: int, end: int) -> tuple[Any, Any]:
    """Size of a text and where it begins, as `_size`."""
    if at < end and data[at] & 0xE0 == 0xA0:
        size = np.int64(data[at] & 0x1F)
        return size if at + 1 + size <= end else np.int64(-1), np.int64(at + 1)
    return _size(data, at, end, 0xD9)


@njit
def integer_at(data: Data, at: int, size: int) -> int:
    """Little-endian integer of `size` bytes."""
    value = np.int64(0)
    for k in range(size):
        value |= np.int64(data[at + k]) << np.int64(8 * k)
    return int(value)


@njit
def _chunk(data: Data, key: int, name_size: int, at: int, end: int, n_actions: int, found: Table) -> bool:
    """Read a chunk's row: where its columns lie. False leaves it to msgspec."""
    if at + 2 > end or data[at] != 0x9A or data[at + 1] != SCHEMA_VERSION:
        return False
    size, at = _text(data, at + 2, end)
    if size != name_size:
        return False
    for k in range(size):
        if data[at + k] != data[key + k]:
            return False
    found[EVENTS], at = _integer(data, at + size, end)
    if at < 0 or found[EVENTS] <= 0:
        return False
    found[FIRST], at = _integer(data, at, end)
    if at < 0:
        return False
    events = (found[EVENTS] - 1) % CHUNK + 1
    for column in range(COUNTS, OFFSETS + 1):
        size, at = _size(data, at, end, 0xC4)
        wanted = 4 * n_actions if column == COUNTS else events if column == ACTIONS else 8 * events
        if size != wanted:
            return False
        found[column] = at
        at += size
    return bool(at == end and _can_be_kept(data, found, events))


@njit
def _can_be_kept(data: Data, found: Table, events: int) -> bool:
    """Whether the offsets of events do not fall, and their times fit beside an action."""
    before = np.int64(0)
    for k in range(events):
        offset = integer_at(data, found[OFFSETS] + 8 * k, 8)
        time = integer_at(data, found[TIMES] + 8 * k, 8)
        if (k and offset < before) or not -LATEST < time < LATEST:
            return False
        before = np.int64(offset)
    return True


@njit
def _hash(data: Data, at: int, size: int) -> np.uint64:
    """Hash of a key, however long."""
    if size <= LONGEST:
        return np.uint64(xxh3(data, at, size))
    return np.uint64(xxh3(data, at, LONGEST) ^ xxh3(data, at + size - LONGEST, LONGEST))


@njit
def read_chunks(data: Data, table: Table, n_actions: int, found: Table, spans: Table, hashes: Hashes) -> int:
    """Find the chunks among records of user-state; return how many there are.

    table : (n, 6) see `streams.kafka.columns`
    n_actions : counters of a row
    found : (n, 9) of every record its kind, and of what was read the numbers and where its columns begin
    spans, hashes : (n, 2), (n,) begin and size of the key of every chunk, read or left or gone, and its hash
    """
    chunks = 0
    for i in range(len(table)):
        key, key_size, value, size = table[i, KEY], table[i, KEY_SIZE], table[i, VALUE], table[i, VALUE_SIZE]
        found[i, KIND] = OTHER
        name_size = key_size - CHUNK_SUFFIX
        if name_size <= 0 or data[key] == 0xFF or data[key + name_size] != 0:
            continue
        if data[key + key_size - 2] == 0xFF and data[key + key_size - 1] == 0xFF:
            continue
        if size < 0:
            found[i, KIND] = GONE
        else:
            read = _chunk(data, key, name_size, value, value + size, n_actions, found[i])
            found[i, KIND] = READ if read else LEFT
        spans[chunks, 0], spans[chunks, 1] = key, key_size
        hashes[chunks] = _hash(data, key, key_size)
        chunks += 1
    return chunks


@njit
def chunk_items(data: Data, found: Table, keys: Hashes) -> None:
    """Write the keys of the items of the rows read, one row after the other."""
    end = 0
    for i in range(len(found)):
        if found[i, KIND] == READ:
            for k in range((found[i, EVENTS] - 1) % CHUNK + 1):
                keys[end] = np.uint64(integer_at(data, found[i, ITEMS] + 8 * k, 8))
                end += 1


@njit
def read_covisits(data: Data, table: Table, found: Table, keys: Hashes) -> None:
    """Find the rows of items among records of policy-state.

    found : (n, 7) of every record its kind, and of what was read the numbers, how many neighbours it has,
        and where their keys, their counts and the row's moments begin
    keys : (n,) of the items, those of rows taken back too
    """
    for i in range(len(table)):
        key, key_size, value, size = table[i, KEY], table[i, KEY_SIZE], table[i, VALUE], table[i, VALUE_SIZE]
        found[i, KIND] = OTHER
        if key_size < len(KEY_PREFIX):
            continue
        same = True
        for k in range(len(KEY_PREFIX)):
            same &= data[key + k] == KEY_PREFIX[k]
        if not same:
            continue
        if size < 0 and key_size == COVISIT_KEY:
            found[i, KIND] = GONE
        elif size >= 0 and key_size == COVISIT_KEY and _covisit(data, value, value + size, found[i]):
            found[i, KIND] = READ
        elif size >= 0:
            found[i, KIND] = LEFT
        if found[i, KIND] == READ or found[i, KIND] == GONE:
            keys[i] = 0
            for k in range(key_size - 8, key_size):
                keys[i] = (keys[i] << np.uint64(8)) | np.uint64(data[key + k])


@njit
def _covisit(data: Data, at: int, end: int, found: Table) -> bool:
    if at + 2 > end or data[at] != 0x96 or data[at + 1] != SCHEMA_VERSION:
        return False
    at += 2
    for column in (APPLIED, POPULARITY):
        found[column], at = _integer(data, at, end)
        if at < 0:
            return False
    size, at = _size(data, at, end, 0xC4)
    if size < 0 or size % 8:
        return False
    found[SIZE], found[OTHERS] = size // 8, at
    size, at = _size(data, at + size, end, 0xC4)
    if size != 4 * found[SIZE]:
        return False
    found[TIMES_SEEN] = at
    size, at = _size(data, at + size, end, 0xC4)
    found[MOMENTS_AT] = at
    return bool(size == MOMENTS and at + size == end)


@njit
def neighbours(data: Data, found: Table, others: Hashes, counts: NDArray[np.int32]) -> None:
    """Write the keys of the neighbours and the counts of the rows in `found`, one row after the other."""
    end = 0
    for i in range(len(found)):
        for k in range(found[i, SIZE]):
            others[end] = np.uint64(integer_at(data, found[i, OTHERS] + 8 * k, 8))
            counts[end] = integer_at(data, found[i, TIMES_SEEN] + 4 * k, 4)
            end += 1


@njit
def moments(data: Data, found: Table, out: Data) -> None:
    """Write the moments of the rows in `found`: (n, MOMENTS) bytes."""
    for i in range(len(found)):
        for k in range(out.shape[1]):
            out[i, k] = data[found[i, MOMENTS_AT] + k]
