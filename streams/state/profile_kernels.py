"""Compiled loops over users' rings of events, and the arrays they work on.

A user's last events lie in chunks of 16, linked in a circle in the order of their slots: event number n
goes to position n % 16 of slot (n // 16) % n_slots. A chunk is overwritten as a whole: when its turn comes
again, its 16 old events are gone.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

CHUNK = 16
DEDUPE_CHUNKS = 2  # full chunks, beside the one being filled, in which a repeated event id is noticed

# What became of an event; the last one, of an item that has no row, never comes here.
APPLIED, REPLAYED, DUPLICATE, REFUSED = 0, 1, 2, 3

# Columns of `users`, which has 8: a cache line. GUARD is N as of when item rows were last taken, TAKES how
# often they had been taken then: both are brought up to date by the user's next event.
N, OFFSET, FIRST_MS, HEAD, STORED, GUARD, TAKES = 0, 1, 2, 3, 4, 5, 6
PREV, NEXT, OWNER, SLOT = 0, 1, 2, 3  # columns of `links`
USED, FREE, DIRTY, COVISITS_FIRST, TAKEN = 0, 1, 2, 3, 4  # cells of `heap`
EVENTS, SIZE, FIRST, NEWEST, CHUNK_SLOT, NAME_END = 0, 1, 2, 3, 4, 5  # columns of `Chunks.heads`

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Bytes = NDArray[np.uint8]
Keys = NDArray[np.uint64]
Flags = NDArray[np.bool_]

njit = numba.njit(cache=True, nogil=True)


class Rings(NamedTuple):
    """The arrays of `Profiles`; they are replaced when it grows."""

    users: Ints  # (n_users, 8) events ever, applied offset, first event's time, newest chunk, and so on
    counts: Rows  # (n_users, n_actions) events ever
    items: Rows  # (capacity, 16)
    actions: Bytes  # (capacity, 16)
    times: Ints  # (capacity, 16) ms
    keys: Keys  # (capacity, 16) of the event ids
    offsets: Ints  # (capacity, 16)
    links: Rows  # (capacity, 4) chunk before, chunk after, user row, slot
    dirty: Flags  # (capacity,)
    dirty_chunks: Rows  # (capacity,) the first heap[DIRTY] are dirty
    heap: Ints  # chunks used, first free chunk, dirty chunks, 1 if item rows must be flushed first, and so on


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
def _link_chunk(links: Rows, chunk: int, user: int, head: int, slot: int) -> None:
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


@njit
def _new_chunk(links: Rows, heap: Ints, user: int, head: int, slot: int) -> int:
    """Take a chunk and put it after `head` in the user's circle."""
    chunk = heap[FREE]
    if chunk >= 0:
        heap[FREE] = links[chunk, NEXT]
    else:
        chunk = heap[USED]
        heap[USED] += 1
    _link_chunk(links, chunk, user, head, slot)
    return int(chunk)


@njit
def _next_chunk(users: Ints, links: Rows, heap: Ints, user: int, n_slots: int) -> int:
    """Return the chunk for an event that begins one: the one of 16 * n_slots events ago, or a new one."""
    head = users[user, HEAD]
    slot = (users[user, N] // CHUNK) % n_slots
    if head >= 0 and links[links[head, NEXT], SLOT] == slot:
        chunk = links[head, NEXT]
        users[user, STORED] = max(0, min(users[user, STORED], CHUNK * (n_slots - 1)))
    else:
        chunk = _new_chunk(links, heap, user, head, slot)
    users[user, HEAD] = chunk
    return int(chunk)


@njit
def _mark(dirty: Flags, dirty_chunks: Rows, heap: Ints, chunk: int) -> None:
    if not dirty[chunk]:
        dirty[chunk] = True
        dirty_chunks[heap[DIRTY]] = chunk
        heap[DIRTY] += 1


@njit
def _is_duplicate(users: Ints, keys: Keys, links: Rows, user: int, key: np.uint64) -> bool:
    """Whether the event id is in the chunk being filled or the `DEDUPE_CHUNKS` before it."""
    left = users[user, STORED]
    chunk = users[user, HEAD]
    size = (users[user, N] - 1) % CHUNK + 1
    full = DEDUPE_CHUNKS if size == CHUNK else DEDUPE_CHUNKS + 1
    found = False
    for _ in range(full):
        if left <= 0:
            break
        for k in range(min(size, left)):
            found |= keys[chunk, k] == key
        left -= size
        size = CHUNK
        chunk = links[chunk, PREV]
    return found


@njit
def _look_back(
    items: Rows,
    actions: Bytes,
    links: Rows,
    positive: Flags,
    chunk: int,
    position: int,
    size: int,
    window: Rows,
    window_positive: Flags,
) -> None:
    """Write the items of the `size` events before (chunk, position), most recent first, then -1."""
    for k in range(size):
        position -= 1
        if position < 0:
            chunk = links[chunk, PREV]
            position = CHUNK - 1
        window[k] = items[chunk, position]
        window_positive[k] = positive[actions[chunk, position]]
    if size < len(window):
        window[size] = -1


@njit
def fold(
    r: Rings,
    n_slots: int,
    positive: Flags,
    users: Rows,
    items: Rows,
    actions: Bytes,
    times: Ints,
    keys: Keys,
    offsets: Ints,
    outcomes: Bytes,
    paired: Ints,
    windows: Rows,
    windows_positive: Flags,
) -> int:
    """Append events to their users' rings, in order.

    Writes the outcome of every event, and for each event that item statistics may still lack its index
    (`paired`) with the events before it. Returns how many those are.
    """
    all_users, counts, all_items, all_actions, all_times = r.users, r.counts, r.items, r.actions, r.times
    all_keys, all_offsets, links = r.keys, r.offsets, r.links
    dirty, dirty_chunks, heap = r.dirty, r.dirty_chunks, r.heap
    window = windows.shape[1]
    n_paired = 0
    for event in range(len(users)):
        user, offset = users[event], offsets[event]
        if offset <= all_users[user, OFFSET]:
            outcomes[event] = REPLAYED
            chunk = all_users[user, HEAD]
            position = (all_users[user, N] - 1) % CHUNK
            left = all_users[user, STORED]
            while left > 0 and all_offsets[chunk, position] > offset:
                left -= 1
                position -= 1
                if position < 0:
                    chunk = links[chunk, PREV]
                    position = CHUNK - 1
            if left > 0 and all_offsets[chunk, position] == offset:
                _look_back(
                    all_items, all_actions, links, positive, chunk, position, min(window, left - 1),
                    windows[n_paired], windows_positive[n_paired],
                )  # fmt: skip
                paired[n_paired] = event
                n_paired += 1
            continue
        all_users[user, OFFSET] = offset
        if _is_duplicate(all_users, all_keys, links, user, keys[event]):
            outcomes[event] = DUPLICATE
            continue
        outcomes[event] = APPLIED
        n = all_users[user, N]
        if all_users[user, TAKES] != heap[TAKEN]:
            all_users[user, TAKES] = heap[TAKEN]
            all_users[user, GUARD] = n
        position = n % CHUNK
        chunk = all_users[user, HEAD]
        if position == 0:
            chunk = _next_chunk(all_users, links, heap, user, n_slots)
        stored = all_users[user, STORED]
        _look_back(
            all_items, all_actions, links, positive, chunk, position, min(window, stored),
            windows[n_paired], windows_positive[n_paired],
        )  # fmt: skip
        paired[n_paired] = event
        n_paired += 1
        all_items[chunk, position] = items[event]
        all_actions[chunk, position] = actions[event]
        all_times[chunk, position] = times[event]
        all_keys[chunk, position] = keys[event]
        all_offsets[chunk, position] = offset
        all_users[user, N] = n + 1
        all_users[user, STORED] = stored + 1
        if n == 0:
            all_users[user, FIRST_MS] = times[event]
        counts[user, actions[event]] += 1
        _mark(dirty, dirty_chunks, heap, chunk)
        if n + 1 - all_users[user, GUARD] > CHUNK * (n_slots - 1) - window:
            heap[COVISITS_FIRST] = 1
    return n_paired


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
            links[chunk, OWNER] = -1
            links[chunk, NEXT] = heap[FREE]
            heap[FREE] = chunk
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
        if head >= len(r.times):  # it came just now, in larger arrays
            out[i] = 2**62
        elif head >= 0:
            out[i] = r.times[head, (r.users[user, N] - 1) % CHUNK]


@njit
def gather(r: Rings, chunks: Rows, slab: Bytes, spans: Ints, c: Chunks) -> None:
    """Copy chunks, and the numbers as of each chunk's newest event.

    Because of the latter the chunks of a user say the same whichever of them reach the changelog.

    slab, spans : the users' ids, see `IdTable.slab`
    c : written; its arrays have the lengths that are needed
    """
    users, all_counts, all_actions, links = r.users, r.counts, r.actions, r.links
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
                counts[i, all_actions[other, k]] -= 1
            n -= size
            other = links[other, PREV]
        for k in range(spans[user, 0], spans[user, 0] + spans[user, 1]):
            names[end] = slab[k]
            end += 1
        size = (n - 1) % CHUNK + 1
        heads[i, EVENTS] = n
        heads[i, SIZE] = size
        heads[i, FIRST] = users[user, FIRST_MS]
        heads[i, NEWEST] = r.offsets[chunk, size - 1]
        heads[i, CHUNK_SLOT] = links[chunk, SLOT]
        heads[i, NAME_END] = end
        for k in range(CHUNK):
            c.items[i, k] = r.items[chunk, k]
            c.actions[i, k] = all_actions[chunk, k]
            c.times[i, k] = r.times[chunk, k]
            c.keys[i, k] = r.keys[chunk, k]
            c.offsets[i, k] = r.offsets[chunk, k]


@njit
def link(
    r: Rings, n_slots: int, chunks: Rows, users: Rows, heads: Ints,
    counts: Rows, codes: Bytes, slab: Bytes, spans: Ints,
    moved: Flags,
) -> int:  # fmt: skip
    """Link chunks, those of a user following each other from the oldest to the newest without a gap.

    codes : of today, by the code in the rows
    slab, spans : keys of the rows by chunk; moved : written, whose row belongs under another one
    Returns a chunk with a code that has no name, -1 if there is none.
    """
    all_users = r.users
    for i in range(len(chunks)):
        chunk, user = chunks[i], users[i]
        n = heads[chunk, 0]
        size, slot = (n - 1) % CHUNK + 1, ((n - 1) // CHUNK) % n_slots
        for k in range(size):
            if r.actions[chunk, k] >= len(codes):
                return int(chunk)
            r.actions[chunk, k] = codes[r.actions[chunk, k]]
        _link_chunk(r.links, chunk, user, all_users[user, HEAD], slot)
        all_users[user, HEAD] = chunk
        all_users[user, N] = n
        all_users[user, STORED] += size
        all_users[user, FIRST_MS] = heads[chunk, 1]
        all_users[user, OFFSET] = heads[chunk, 2]
        for k in range(len(codes)):
            r.counts[user, codes[k]] = counts[chunk, k]
        end = spans[chunk, 0] + spans[chunk, 1]
        moved[i] = (np.int64(slab[end - 2]) << 8 | np.int64(slab[end - 1])) != slot
    return -1


@njit
def free_chunks(r: Rings, chunks: Rows) -> None:
    """Let chunks that are nobody's be taken."""
    for chunk in chunks:
        r.links[chunk, OWNER] = -1
        r.links[chunk, NEXT] = r.heap[FREE]
        r.heap[FREE] = chunk


@njit
def mark_chunks(r: Rings, chunks: Rows) -> None:
    """Mark chunks as changed; one that has no owner any more is left out."""
    for chunk in chunks:
        if r.links[chunk, OWNER] >= 0:
            _mark(r.dirty, r.dirty_chunks, r.heap, chunk)


@njit
def mark_items(r: Rings, out: Flags) -> None:
    """Write True at the items of all users' events; rows beyond the end are left out."""
    items, links = r.items, r.links
    for chunk in range(min(r.heap[USED], len(items))):
        if links[chunk, OWNER] >= 0:
            for k in range(CHUNK):
                if items[chunk, k] < len(out):
                    out[items[chunk, k]] = True


@njit
def read(r: Rings, users: Rows, items: Ints, actions: Ints, times: Ints) -> None:
    """Write each user's last events, most recent last; (B, L) arrays that hold padding already."""
    all_users, all_items, all_actions, all_times, links = r.users, r.items, r.actions, r.times, r.links
    for b in range(len(users)):
        user = users[b]
        if user < 0:
            continue
        chunk = all_users[user, HEAD]
        position = (all_users[user, N] - 1) % CHUNK
        for k in range(min(items.shape[1], all_users[user, STORED])):
            column = items.shape[1] - 1 - k
            items[b, column] = all_items[chunk, position]
            actions[b, column] = all_actions[chunk, position]
            times[b, column] = all_times[chunk, position]
            position -= 1
            if position < 0:
                chunk = links[chunk, PREV]
                position = CHUNK - 1


@njit
def seen(r: Rings, user: int, counts_as_seen: Flags, out: Flags) -> None:
    """Write False at the items of the user's events whose action counts."""
    all_items, all_actions, links = r.items, r.actions, r.links
    chunk = r.users[user, HEAD]
    left = r.users[user, STORED]
    size = (r.users[user, N] - 1) % CHUNK + 1
    while left > 0:
        for k in range(min(size, left)):
            item = all_items[chunk, k]
            if counts_as_seen[all_actions[chunk, k]] and item < len(out):
                out[item] = False
        left -= size
        size = CHUNK
        chunk = links[chunk, PREV]


@njit
def latest(r: Rings, user: int, chosen: Flags, out: Ints) -> int:
    """Write the items of the last events with a chosen action, from the end of `out`; return how many."""
    all_items, all_actions, links = r.items, r.actions, r.links
    chunk = r.users[user, HEAD]
    position = (r.users[user, N] - 1) % CHUNK
    found = 0
    for _ in range(r.users[user, STORED]):
        if found == len(out):
            break
        if chosen[all_actions[chunk, position]]:
            found += 1
            out[len(out) - found] = all_items[chunk, position]
        position -= 1
        if position < 0:
            chunk = links[chunk, PREV]
            position = CHUNK - 1
    return found
