"""Compiled loops that put the rows of chunks into profiles."""

import numba
import numpy as np
from numpy.typing import NDArray

from streams.decoding.xxh3 import LONGEST, xxh3
from streams.durability.unpacking import (
    ACTIONS,
    COUNTS,
    EVENTS,
    FIRST,
    KEYS,
    KIND,
    OFFSETS,
    READ,
    TIMES,
    integer_at,
)
from streams.state.rings import ACTION_BITS, CELL, CHUNK, Rings, at, make_cell, put_offset, sign

Data = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]
Rows = NDArray[np.int32]
Table = NDArray[np.int64]

njit = numba.njit(cache=True, nogil=True)


@njit
def place(
    r: Rings, data: Data, found: Table, chunks: Rows,
    items: Rows, kinds: Data, heads: Table, counts: Rows, keys: Hashes,
) -> None:  # fmt: skip
    """Copy rows into their chunks, in order; numbers and keys of events into the arrays of `Restore`."""
    links, cells, bases, heap = r.links, r.cells, r.bases, r.heap
    all_items, stamps, offsets = r.items, r.stamps, r.offsets
    end = 0
    for i in range(len(found)):
        chunk = chunks[i]
        kinds[chunk] = found[i, KIND]
        if found[i, KIND] != READ:
            continue
        size = (found[i, EVENTS] - 1) % CHUNK + 1
        for k in range(size):
            if k % CELL == 0:
                make_cell(cells, all_items, heap, chunk, k)
            where = at(cells, chunk, k)
            all_items[where] = items[end + k]
            time = integer_at(data, found[i, TIMES] + 8 * k, 8)
            stamps[where] = time << ACTION_BITS | data[found[i, ACTIONS] + k]
            sign(links, chunk, k, items[end + k], time)
            keys[chunk, k] = np.uint64(integer_at(data, found[i, KEYS] + 8 * k, 8))
            heads[chunk, 2] = integer_at(data, found[i, OFFSETS] + 8 * k, 8)
            put_offset(cells, bases, offsets, chunk, k, heads[chunk, 2])
        end += size
        heads[chunk, 0] = found[i, EVENTS]
        heads[chunk, 1] = found[i, FIRST]
        for k in range(counts.shape[1]):
            counts[chunk, k] = integer_at(data, found[i, COUNTS] + 4 * k, 4)


@njit
def hash_names(data: Data, spans: Table, hashes: Hashes, plain: Flags) -> None:
    """Hash ids that are short and ASCII; `plain` is False of the others."""
    for i in range(len(spans)):
        at, size = spans[i, 0], spans[i, 1]
        plain[i] = size <= LONGEST
        for k in range(size):
            plain[i] &= data[at + k] < 128
        if plain[i]:
            hashes[i] = xxh3(data, at, size)


@njit
def readable(users: Rows, n: Table, n_slots: int, keep: Flags) -> None:
    """Choose of chunks, by user and oldest first, each user's newest ones without a gap.

    A gap is a chunk that was not full when a later one was begun, or one that is not there: it comes from a
    smaller `history_limit` of before.
    """
    taken = 0
    for i in range(len(users) - 1, -1, -1):
        if i == len(users) - 1 or users[i] != users[i + 1]:
            taken = 0
            keep[i] = True
        else:
            follows = (n[i] - 1) // CHUNK == (n[i + 1] - 1) // CHUNK - 1 and n[i] % CHUNK == 0
            keep[i] = keep[i + 1] and follows and taken < n_slots
        taken += 1
