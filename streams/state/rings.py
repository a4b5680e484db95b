"""Users' rings of events: the arrays they lie in, and the inner loops that link and fill them.

A user's last events lie in chunks of 16, linked in a circle in the order of their slots: event number n
goes to position n % 16 of slot (n // 16) % n_slots. A chunk is overwritten as a whole: when its turn comes
again, its 16 old events are gone.

A chunk takes memory as it is filled: its events lie in cells of 4, with 16 bytes an event. The keys of event
ids are kept of the chunk being filled and the `DEDUPE_CHUNKS` before it, which is where a repeated one is
noticed; the block of 16 keys then goes to a newer chunk. Cell 0 and block 0 stand for none.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner
from model_core.robust.influence import HOUR_MS

CHUNK, CELL = 16, 4
DEDUPE_CHUNKS = 2  # full chunks, beside the one being filled, in which a repeated event id is noticed
ACTION_BITS, ACTION = 8, 255  # of a stamp
LATEST_HOUR = (1 << 31) - 1  # of a column of `links`
FARTHEST = (1 << 32) - 1  # of an event's offset from its chunk's base

# Columns of `users`, which has 8: a cache line. GUARD is N as of when item rows were last taken, TAKES how
# often they had been taken then: both are brought up to date by the user's next event.
# BOUNDED_AT is N as of the latest event that did not count, or may not have; 0 if there was none.
N, OFFSET, FIRST_MS, HEAD, STORED, GUARD, TAKES, BOUNDED_AT = range(8)
# Columns of `links`, which has 8: half a cache line. SINCE is the hour of the earliest of the chunk's events;
# SIGN, of two columns, has one bit set for each item: where an item's is not, the item is not in the chunk.
PREV, NEXT, OWNER, SLOT, KEYS, SINCE, SIGN = range(7)
LINKS = 8
# Cells of `heap`.
USED, FREE, DIRTY, COVISITS_FIRST, TAKEN, CELLS_USED, CELLS_FREE, KEYS_USED, KEYS_FREE = range(9)

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Bytes = NDArray[np.uint8]
Keys = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Deltas = NDArray[np.uint32]


class Rings(NamedTuple):
    """The arrays of `Profiles`; they are replaced when they grow beyond the room that was reserved."""

    users: Ints  # (n_users, 8) events ever, applied offset, first event's time, newest chunk, and so on
    counts: Rows  # (n_users, n_actions) events ever
    links: Rows  # (capacity, 8) chunk before, chunk after, user row, slot, block of keys, and so on
    cells: Rows  # (capacity, 4) of each chunk's events
    bases: Ints  # (capacity,) what the offsets of each chunk's events count from
    dirty: Flags  # (capacity,)
    dirty_chunks: Rows  # (capacity,) the first heap[DIRTY] are dirty
    items: Rows  # (4 * cells,)
    stamps: Ints  # (4 * cells,) time in ms, and in the low 8 bits the action
    offsets: Deltas  # (4 * cells,)
    keys: Keys  # (blocks, 16) of the event ids
    heap: Ints  # chunks used, first free chunk, dirty chunks, 1 if item rows go with users', and so on


@inner
def at(cells: Rows, chunk: int, position: int) -> int:
    """Index of an event in `items`, `stamps` and `offsets`."""
    return np.int64(cells[chunk, position >> 2]) * CELL + (position & 3)  # type: ignore[return-value]


@inner
def make_cell(cells: Rows, items: Rows, heap: Ints, chunk: int, position: int) -> None:
    """Let a chunk have a cell for an event."""
    part = position >> 2
    if cells[chunk, part]:
        return
    cell = heap[CELLS_FREE]
    if cell:
        heap[CELLS_FREE] = items[cell * CELL]
    else:
        cell = heap[CELLS_USED]
        heap[CELLS_USED] += 1
    cells[chunk, part] = cell


@inner
def put_offset(cells: Rows, bases: Ints, offsets: Deltas, chunk: int, position: int, offset: int) -> None:
    """Keep the offset of the newest event of a chunk.

    Where it is 2**32 and more from the first, the base follows: events so far back are not read again.
    """
    if position == 0:
        bases[chunk] = offset
    beyond = offset - bases[chunk] - FARTHEST
    if beyond > 0:
        bases[chunk] += beyond
        for k in range(position):
            where = at(cells, chunk, k)
            offsets[where] = max(np.int64(offsets[where]) - beyond, 0)
    offsets[at(cells, chunk, position)] = offset - bases[chunk]


@inner
def sign_bit(item: int) -> int:
    """The bit, of the 64 of SIGN, that an item has."""
    return ((item * 0x9E3779B1) & 0xFFFFFFFF) >> 26


@inner
def sign(links: Rows, chunk: int, position: int, item: int, time: int) -> None:
    """Note an event of a chunk in SINCE and SIGN."""
    hour = min(time // HOUR_MS, LATEST_HOUR)
    if position == 0:
        links[chunk, SINCE] = hour
        links[chunk, SIGN] = links[chunk, SIGN + 1] = 0
    links[chunk, SINCE] = min(links[chunk, SINCE], hour)
    bit = sign_bit(item)
    links[chunk, SIGN + (bit >> 5)] |= 1 << (bit & 31)


@inner
def link_chunk(links: Rows, chunk: int, user: int, head: int, slot: int) -> None:
    """Put a chunk after `head` in the user's circle."""
    if head < 0:
        links[chunk, PREV] = chunk
        links[chunk, NEXT] = chunk
    else:
        after = links[head, NEXT]
        links[chunk, PREV] = head
        links[chunk, NEXT] = after
        links[head, NEXT] = chunk
        links[after, PREV] = chunk
    links[chunk, OWNER] = user
    links[chunk, SLOT] = slot


@inner
def take_keys(links: Rows, keys: Keys, heap: Ints, chunk: int) -> int:
    """Return the block of keys of a user's newest chunk: the one that has become too old gives it up."""
    if links[chunk, KEYS]:
        return int(links[chunk, KEYS])
    old = links[chunk, PREV]
    for _ in range(DEDUPE_CHUNKS):
        if old != chunk:
            old = links[old, PREV]
    block = links[old, KEYS]
    if block:
        links[old, KEYS] = 0
    elif heap[KEYS_FREE]:
        block = heap[KEYS_FREE]
        heap[KEYS_FREE] = np.int64(keys[block, 0])
    else:
        block = heap[KEYS_USED]
        heap[KEYS_USED] += 1
    links[chunk, KEYS] = block
    return int(block)


@inner
def free_chunk(links: Rows, cells: Rows, items: Rows, keys: Keys, heap: Ints, chunk: int) -> None:
    """Let a chunk, its cells and its keys be taken by others."""
    for part in range(CELL):
        cell = cells[chunk, part]
        if cell:
            items[cell * CELL] = heap[CELLS_FREE]
            heap[CELLS_FREE] = cell
            cells[chunk, part] = 0
    block = links[chunk, KEYS]
    if block:
        keys[block, 0] = heap[KEYS_FREE]
        heap[KEYS_FREE] = block
        links[chunk, KEYS] = 0
    links[chunk, OWNER] = -1
    links[chunk, NEXT] = heap[FREE]
    heap[FREE] = chunk


@inner
def next_chunk(users: Ints, links: Rows, heap: Ints, user: int, n_slots: int) -> int:
    """Return the chunk for an event that begins one: the one of 16 * n_slots events ago, or a new one."""
    head = users[user, HEAD]
    slot = (users[user, N] // CHUNK) % n_slots
    if head >= 0 and links[links[head, NEXT], SLOT] == slot:
        chunk = links[head, NEXT]
        users[user, STORED] = max(0, min(users[user, STORED], CHUNK * (n_slots - 1)))
    else:
        chunk = heap[FREE]
        if chunk >= 0:
            heap[FREE] = links[chunk, NEXT]
        else:
            chunk = heap[USED]
            heap[USED] += 1
        link_chunk(links, chunk, user, head, slot)
    users[user, HEAD] = chunk
    return int(chunk)


@inner
def mark(dirty: Flags, dirty_chunks: Rows, heap: Ints, chunk: int) -> None:
    """Note that a chunk has changed."""
    if not dirty[chunk]:
        dirty[chunk] = True
        dirty_chunks[heap[DIRTY]] = chunk
        heap[DIRTY] += 1
