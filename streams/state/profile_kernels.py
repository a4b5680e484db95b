"""Compiled loops over users' rings of events, see `rings`: what is given back, saved, restored and marked."""

from typing import NamedTuple

import numba
import numpy as np

from streams.state.rings import (
    ACTION,
    ACTION_BITS,
    BOUNDED_AT,
    CELL,
    CHUNK,
    DIRTY,
    FIRST_MS,
    HEAD,
    KEYS,
    NEXT,
    OFFSET,
    OWNER,
    PREV,
    SLOT,
    STORED,
    USED,
    Bytes,
    Flags,
    Ints,
    Keys,
    N,
    Rings,
    Rows,
    at,
    free_chunk,
    link_chunk,
    mark,
    take_keys,
)

EVENTS, SIZE, FIRST, NEWEST, CHUNK_SLOT, NAME_END = 0, 1, 2, 3, 4, 5  # columns of `Chunks.heads`

njit = numba.njit(cache=True, nogil=True)


class Chunks(NamedTuple):
    """A copy of n chunks, as they go to the changelog and come from it."""

    # (n, 6) events ever, size, first event's time, newest offset, slot, where the user's id ends
    heads: Ints
    counts: Rows  # (n, n_actions) as of the newest event
    items: Rows  # (n, 16)
    actions: Bytes  # (n, 16)
    times: Ints  # (n, 16) ms
    keys: Keys  # (n, 16)
    offsets: Ints  # (n, 16)
    names: Bytes  # the users' ids, one after the other


@njit
def release(r: Rings, gone: Rows) -> None:
    """Forget users' events; their rows are empty then."""
    users, counts, links, dirty, heap = r.users, r.counts, r.links, r.dirty, r.heap
    for user in gone:
        head = users[user, HEAD]
        if head < 0:
            continue
        links[links[head, PREV], NEXT] = -2  # ends the walk
        chunk = head
        while chunk >= 0:
            after = links[chunk, NEXT]
            free_chunk(links, r.cells, r.items, r.keys, heap, chunk)
            chunk = after
    kept = 0
    for k in range(heap[DIRTY]):
        chunk = r.dirty_chunks[k]
        if links[chunk, OWNER] < 0:
            dirty[chunk] = False
        else:
            r.dirty_chunks[kept] = chunk
            kept += 1
    heap[DIRTY] = kept
    for user in gone:
        for column in range(users.shape[1]):
            users[user, column] = 0
        users[user, HEAD] = -1
        users[user, OFFSET] = -1
        counts[user] = 0


@njit
def last_times(r: Rings, users: Rows, out: Ints) -> None:
    """Write when each user's last event was, in ms; 0 where there is none."""
    for i in range(len(users)):
        user = users[i]
        head = r.users[user, HEAD]
        if head < 0:
            continue
        out[i] = 2**62  # it came just now, in larger arrays
        if head < len(r.cells):
            where = at(r.cells, head, (r.users[user, N] - 1) % CHUNK)
            if where < len(r.stamps):
                out[i] = r.stamps[where] >> ACTION_BITS


@njit
def gather(r: Rings, chunks: Rows, slab: Bytes, spans: Ints, c: Chunks) -> None:
    """Copy chunks, and the numbers as of each chunk's newest event.

    Because of the latter the chunks of a user say the same whichever of them reach the changelog.

    slab, spans : the users' ids, see `IdTable.slab`
    c : written; its arrays have the lengths that are needed
    """
    users, all_counts, links, cells, bases, _, _, items, stamps, offsets, keys, _ = r
    heads, counts, names = c.heads, c.counts, c.names
    end = 0
    for i in range(len(chunks)):
        chunk = chunks[i]
        user = links[chunk, OWNER]
        n = users[user, N]
        for k in range(counts.shape[1]):
            counts[i, k] = all_counts[user, k]
        other = users[user, HEAD]
        while other != chunk:
            size = (n - 1) % CHUNK + 1
            for k in range(size):
                counts[i, stamps[at(cells, other, k)] & ACTION] -= 1
            n -= size
            other = links[other, PREV]
        for k in range(spans[user, 0], spans[user, 0] + spans[user, 1]):
            names[end] = slab[k]
            end += 1
        size = (n - 1) % CHUNK + 1
        heads[i, EVENTS] = n
        heads[i, SIZE] = size
        heads[i, FIRST] = users[user, FIRST_MS]
        heads[i, NEWEST] = bases[chunk] + offsets[at(cells, chunk, size - 1)]
        heads[i, CHUNK_SLOT] = links[chunk, SLOT]
        heads[i, NAME_END] = end
        block = links[chunk, KEYS]
        for k in range(size):
            where = at(cells, chunk, k)
            c.items[i, k] = items[where]
            c.actions[i, k] = stamps[where] & ACTION
            c.times[i, k] = stamps[where] >> ACTION_BITS
            c.keys[i, k] = keys[block, k] if block else np.uint64(0)
            c.offsets[i, k] = bases[chunk] + offsets[where]


@njit
def link(
    r: Rings, n_slots: int, chunks: Rows, users: Rows, heads: Ints,
    counts: Rows, keys: Keys, codes: Bytes, slab: Bytes, spans: Ints,
    moved: Flags,
) -> int:  # fmt: skip
    """Link chunks, those of a user following each other from the oldest to the newest without a gap.

    heads, counts, keys : what the rows say of each chunk, see `Restore`
    codes : of today, by the code in the rows
    slab, spans : keys of the rows by chunk; moved : written, whose row belongs under another one
    Returns a chunk with a code that has no name, -1 if there is none.
    """
    all_users, all_counts, links, cells, _, _, _, _, stamps, _, all_keys, heap = r
    for i in range(len(chunks)):
        chunk, user = chunks[i], users[i]
        n = heads[chunk, 0]
        size, slot = (n - 1) % CHUNK + 1, ((n - 1) // CHUNK) % n_slots
        for k in range(size):
            where = at(cells, chunk, k)
            if stamps[where] & ACTION >= len(codes):
                return int(chunk)
            stamps[where] += np.int64(codes[stamps[where] & ACTION]) - (stamps[where] & ACTION)
        link_chunk(links, chunk, user, all_users[user, HEAD], slot)
        block = take_keys(links, all_keys, heap, chunk)
        for k in range(size):
            all_keys[block, k] = keys[chunk, k]
        all_users[user, HEAD] = chunk
        all_users[user, N] = n
        all_users[user, STORED] += size
        all_users[user, FIRST_MS] = heads[chunk, 1]
        all_users[user, OFFSET] = heads[chunk, 2]
        all_users[user, BOUNDED_AT] = n  # rows do not say
        for k in range(len(codes)):
            all_counts[user, codes[k]] = counts[chunk, k]
        end = spans[chunk, 0] + spans[chunk, 1]
        moved[i] = (np.int64(slab[end - 2]) << 8 | np.int64(slab[end - 1])) != slot
    return -1


@njit
def free_chunks(r: Rings, chunks: Rows) -> None:
    """Let chunks that are nobody's be taken."""
    for chunk in chunks:
        free_chunk(r.links, r.cells, r.items, r.keys, r.heap, chunk)


@njit
def mark_chunks(r: Rings, chunks: Rows) -> None:
    """Mark chunks as changed; one that has no owner any more is left out."""
    for chunk in chunks:
        if r.links[chunk, OWNER] >= 0:
            mark(r.dirty, r.dirty_chunks, r.heap, chunk)


@njit
def mark_items(r: Rings, out: Flags) -> None:
    """Write True at the items of all users' events; rows beyond the end are left out."""
    items, links, cells = r.items, r.links, r.cells
    for chunk in range(min(r.heap[USED], len(links))):
        if links[chunk, OWNER] < 0:
            continue
        for part in range(CELL):
            first = np.int64(cells[chunk, part]) * CELL
            if 0 < first < len(items):
                for item in items[first : first + CELL]:
                    if item < len(out):
                        out[item] = True
