"""Compiled writing of changelog rows: the msgpack bytes of `state.rows.UserChunk` and `state.rows.CoVisits`.

All rows of a flush are written into one buffer, without a Python object for any of them. The bytes are those
that msgspec writes of the same structs. Columns inside a row are little-endian, as the arrays in memory must
be.
"""

import math
import sys
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import copy_bytes
from model_core.signals.horizons import MOMENTS
from streams.kafka.packed_rows import END, KEY, VALUE
from streams.state.profile_kernels import CHUNK_SLOT, EVENTS, FIRST, NAME_END, SIZE, Chunks
from streams.state.rings import CHUNK
from streams.state.rows import COVISIT_PREFIX, SCHEMA_VERSION

assert sys.byteorder == "little"

Data = NDArray[np.uint8]
Ints = NDArray[np.int64]
Rows = NDArray[np.int32]

# Bytes of a chunk's row beside twice its user's id and the counters: headers and numbers, and 16 events.
CHUNK_BYTES = 96 + CHUNK * 33
COVISIT_BYTES = 66 + MOMENTS  # of an item's row beside its counters
KEY_PREFIX = np.frombuffer(COVISIT_PREFIX, np.uint8)  # of an item's row

njit = numba.njit(cache=True, nogil=True)


def as_bytes(column: NDArray[Any]) -> Data:
    """(n, bytes a row) uint8, the bytes of an array's rows: a view."""
    width = column.dtype.itemsize * math.prod(column.shape[1:])
    return np.ascontiguousarray(column).reshape(-1).view(np.uint8).reshape(len(column), width)


@njit
def _put(out: Data, at: int, head: int, value: int, size: int) -> int:
    """Write a type byte and a big-endian integer of `size` bytes; return where the next byte goes."""
    out[at] = head
    for k in range(size):
        out[at + 1 + k] = (value >> (8 * (size - 1 - k))) & 255
    return at + 1 + size


@njit
def _put_int(out: Data, at: int, value: int) -> int:
    if -32 <= value < 128:
        out[at] = value & 255
        return at + 1
    if value >= 0:
        if value < 1 << 8:
            return _put(out, at, 0xCC, value, 1)
        if value < 1 << 16:
            return _put(out, at, 0xCD, value, 2)
        if value < 1 << 32:
            return _put(out, at, 0xCE, value, 4)
        return _put(out, at, 0xCF, value, 8)
    if value >= -(1 << 7):
        return _put(out, at, 0xD0, value, 1)
    if value >= -(1 << 15):
        return _put(out, at, 0xD1, value, 2)
    if value >= -(1 << 31):
        return _put(out, at, 0xD2, value, 4)
    return _put(out, at, 0xD3, value, 8)


@njit
def _put_bin_size(out: Data, at: int, size: int) -> int:
    if size < 1 << 8:
        return _put(out, at, 0xC4, size, 1)
    if size < 1 << 16:
        return _put(out, at, 0xC5, size, 2)
    return _put(out, at, 0xC6, size, 4)


@njit
def _put_text_size(out: Data, at: int, size: int) -> int:
    if size < 32:
        out[at] = 0xA0 | size
        return at + 1
    if size < 1 << 8:
        return _put(out, at, 0xD9, size, 1)
    if size < 1 << 16:
        return _put(out, at, 0xDA, size, 2)
    return _put(out, at, 0xDB, size, 4)


@njit
def _put_column(out: Data, at: int, column: Data, size: int) -> int:
    """Write `size` bytes as a binary."""
    at = _put_bin_size(out, at, size)
    copy_bytes(out, at, column, 0, size)
    return at + size


@njit
def _put_keys(out: Data, at: int, keys: Data, rows: Rows, size: int) -> int:
    """Write the keys of items as a binary."""
    at = _put_bin_size(out, at, 8 * size)
    for row in rows[:size]:
        copy_bytes(out, at, keys, 8 * np.int64(row), 8)
        at += 8
    return at


@njit
def pack_chunks(
    c: Chunks, order: Ints, times: Data, keys: Data, offsets: Data, item_keys: Data, out: Data, spans: Ints
) -> int:
    """Write the rows of chunks; return the bytes written.

    order : (n,) the chunks, in the order in which their rows are written
    times, keys, offsets : (n, 128) bytes of the arrays of these names in `c`
    item_keys : (n_items, 8) bytes of the items' keys
    out : room for the rows, see `CHUNK_BYTES`
    spans : (n, 3), written
    """
    heads, counts, names = c.heads, c.counts, c.names
    end = 0
    for row in range(len(order)):
        i = order[row]
        size = heads[i, SIZE]
        name = heads[i - 1, NAME_END] if i else 0
        name_size = heads[i, NAME_END] - name
        spans[row, KEY] = end
        for k in range(name_size):
            out[end + k] = names[name + k]
        end = _put(out, end + name_size, 0, heads[i, CHUNK_SLOT], 2)
        spans[row, VALUE] = end
        out[end] = 0x9A  # an array of ten
        end = _put_int(out, end + 1, SCHEMA_VERSION)
        end = _put_text_size(out, end, name_size)
        for k in range(name_size):
            out[end + k] = names[name + k]
        end = _put_int(out, end + name_size, heads[i, EVENTS])
        end = _put_int(out, end, heads[i, FIRST])
        end = _put_bin_size(out, end, 4 * counts.shape[1])
        for k in range(counts.shape[1]):
            for j in range(4):
                out[end + j] = (counts[i, k] >> (8 * j)) & 255
            end += 4
        end = _put_keys(out, end, item_keys, c.items[i], size)
        end = _put_column(out, end, c.actions[i], size)
        end = _put_column(out, end, times[i], 8 * size)
        end = _put_column(out, end, keys[i], 8 * size)
        end = _put_column(out, end, offsets[i], 8 * size)
        spans[row, END] = end
    return end


@njit
def pack_covisits(
    partition: int, keys: NDArray[np.uint64], item_keys: Data, applied: Ints, popularity: Ints, bounds: Ints,
    others: Rows, counts: Data, moments: Data, out: Data, spans: Ints,
) -> int:  # fmt: skip
    """Write the rows of items as `CoVisitation.neighbours_of` gives them; return the bytes written.

    keys : (n,) of the items
    item_keys : (n_items, 8) bytes of all items' keys
    counts : (bounds[-1], 4) bytes
    moments : (n, MOMENTS) bytes
    """
    end = 0
    for i in range(len(keys)):
        spans[i, KEY] = end
        for k in range(len(KEY_PREFIX)):
            out[end + k] = KEY_PREFIX[k]
        end = _put(out, end + len(KEY_PREFIX), partition >> 8, partition, 1)
        for k in range(8):
            out[end + k] = (keys[i] >> np.uint64(56 - 8 * k)) & np.uint64(255)
        end += 8
        spans[i, VALUE] = end
        out[end] = 0x96  # an array of six
        end = _put_int(out, end + 1, SCHEMA_VERSION)
        end = _put_int(out, end, applied[i])
        end = _put_int(out, end, popularity[i])
        begin, size = bounds[i], bounds[i + 1] - bounds[i]
        end = _put_keys(out, end, item_keys, others[begin:], size)
        end = _put_bin_size(out, end, 4 * size)
        copy_bytes(out, end, counts, 4 * begin, 4 * size)
        end += 4 * size
        end = _put_column(out, end, moments[i], moments.shape[1])
        spans[i, END] = end
    return end
