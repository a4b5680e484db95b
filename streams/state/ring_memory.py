"""The memory of users' rings: reserved once, taken as it is used, and counted."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.signals.reserved import room, with_room
from streams.state.rings import CELL, CELLS_USED, CHUNK, FREE, KEYS_USED, LINKS, USED, Rings

# Reserved in each partition; what comes beyond is copied once, to twice the room.
LIKELY_USERS, LIKELY_CHUNKS, LIKELY_EVENTS = 1 << 21, 1 << 23, 1 << 26


def reserved(n_actions: int) -> Rings:
    """Return the arrays of a partition without users, with room for those that are likely to come."""
    heap = np.zeros(9, np.int64)
    heap[FREE] = -1
    heap[CELLS_USED] = heap[KEYS_USED] = 1  # the first of each stands for none
    return Rings(
        users=room(0, np.int64, width=(8,), likely=LIKELY_USERS),
        counts=room(0, np.int32, width=(n_actions,), likely=LIKELY_USERS),
        links=room(0, np.int32, width=(LINKS,), likely=LIKELY_CHUNKS),
        cells=room(0, np.int32, width=(CELL,), likely=LIKELY_CHUNKS),
        bases=room(0, np.int64, likely=LIKELY_CHUNKS),
        dirty=room(0, np.bool_, likely=LIKELY_CHUNKS),
        dirty_chunks=room(0, np.int32, likely=LIKELY_CHUNKS),
        items=room(0, np.int32, likely=LIKELY_EVENTS),
        stamps=room(0, np.int64, likely=LIKELY_EVENTS),
        offsets=room(0, np.uint32, likely=LIKELY_EVENTS),
        keys=room(1, np.uint64, width=(CHUNK,), likely=LIKELY_CHUNKS),
        heap=heap,
    )


def grown(rings: Rings, *, chunks: int, cells: int) -> Rings:
    """Return the arrays with room for so many more chunks, with their keys, and cells."""
    used, cells_used, keys_used = rings.heap[[USED, CELLS_USED, KEYS_USED]].tolist()
    needed = {name: used + chunks for name in ("links", "cells", "bases", "dirty", "dirty_chunks")}
    needed |= {name: CELL * (cells_used + cells) for name in ("items", "stamps", "offsets")}
    needed["keys"] = keys_used + chunks
    return rings._replace(**{name: with_room(getattr(rings, name), rows) for name, rows in needed.items()})


def used_bytes(rings: Rings, n_users: int) -> int:
    """Bytes of the arrays that are in use: more is reserved."""
    r = rings
    chunks, cells, blocks = (int(r.heap[k]) for k in (USED, CELLS_USED, KEYS_USED))
    of_users = n_users * _row_bytes(r.users, r.counts)
    of_chunks = chunks * _row_bytes(r.links, r.cells, r.bases, r.dirty, r.dirty_chunks)
    of_events = CELL * cells * _row_bytes(r.items, r.stamps, r.offsets)
    return of_users + of_chunks + of_events + blocks * _row_bytes(r.keys)


def _row_bytes(*arrays: NDArray[Any]) -> int:
    return sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in arrays)
