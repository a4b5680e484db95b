"""Compiled loops over users' rings of events, see `rings`."""

from typing import NamedTuple

import numba
import numpy as np

from model_core.kernels import inner, prefetch
from model_core.robust.influence import HOUR_MS, Bound
from streams.state.rings import (
    ACTION,
    ACTION_BITS,
    BOUNDED_AT,
    CELL,
    CHUNK,
    COVISITS_FIRST,
    DEDUPE_CHUNKS,
    DIRTY,
    FIRST_MS,
    GUARD,
    HEAD,
    KEYS,
    NEXT,
    OFFSET,
    OWNER,
    PREV,
    SIGN,
    SINCE,
    SLOT,
    STORED,
    TAKEN,
    TAKES,
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
    make_cell,
    mark,
    next_chunk,
    put_offset,
    sign,
    sign_bit,
    take_keys,
)

# What became of an event. BOUNDED is in the user's history and counts in nothing that users share; REFUSED,
# of an item that has no row, never comes here.
APPLIED, REPLAYED, DUPLICATE, REFUSED, BOUNDED = 0, 1, 2, 3, 4

EVENTS, SIZE, FIRST, NEWEST, CHUNK_SLOT, NAME_END = 0, 1, 2, 3, 4, 5  # columns of `Chunks.heads`

AHEAD = 16  # events of which `fold` asks memory for what they need, all at once

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


@inner
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
        block = links[chunk, KEYS]
        for k in range(min(size, left)):
            found |= keys[block, k] == key
        left -= size
        size = CHUNK
        chunk = links[chunk, PREV]
    return found


@inner
def _look_back(
    items: Rows,
    stamps: Ints,
    cells: Rows,
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
        event = at(cells, chunk, position)
        window[k] = items[event]
        window_positive[k] = positive[stamps[event] & ACTION]
    if size < len(window):
        window[size] = -1


@inner
def _of_hour(stamps: Ints, cells: Rows, chunk: int, first: int, position: int, hour: int) -> int:
    """How many of a chunk's events in [first, position) are of an hour or later, from the last one back."""
    size = 0
    for k in range(position - 1, first - 1, -1):
        if (stamps[at(cells, chunk, k)] >> ACTION_BITS) // HOUR_MS < hour:
            break
        size += 1
    return size


@inner
def _counts(
    items: Rows,
    stamps: Ints,
    cells: Rows,
    links: Rows,
    positive: Flags,
    chunk: int,
    position: int,
    before: int,
    item: int,
    stamp: int,
    bound: Bound,
) -> bool:
    """Whether the event at (chunk, position), `before` kept before it, counts: see `influence.counted`."""
    hour, is_positive = (stamp >> ACTION_BITS) // HOUR_MS, positive[stamp & ACTION]
    bit = sign_bit(item)
    left, in_hour = min(before, bound.depth), 0
    while left > 0:
        if position == 0:
            chunk, position = links[chunk, PREV], CHUNK
        first = position - min(position, left)
        if links[chunk, SIGN + (bit >> 5)] >> (bit & 31) & 1:
            for k in range(first, position):
                where = at(cells, chunk, k)
                if items[where] == item and positive[stamps[where] & ACTION] >= is_positive:
                    return False
        if in_hour >= 0:
            size = position - first
            if links[chunk, SINCE] < hour:
                size = _of_hour(stamps, cells, chunk, first, position, hour)
            in_hour += size
            if in_hour >= bound.per_hour:
                return False
            if size < position - first:
                in_hour = -1  # from here back nothing is of the hour
        left -= position - first
        position = 0
    return True


@inner
def _leave_out(
    items: Rows,
    stamps: Ints,
    cells: Rows,
    links: Rows,
    positive: Flags,
    chunk: int,
    position: int,
    before: int,
    item: int,
    bound: Bound,
    window: Rows,
) -> None:
    """Put `item`, with which an event of it is not paired, for events in its window that do not count."""
    for k in range(min(before, len(window))):
        position -= 1
        if position < 0:
            chunk = links[chunk, PREV]
            position = CHUNK - 1
        where = at(cells, chunk, position)
        if not _counts(
            items, stamps, cells, links, positive, chunk, position, before - 1 - k, items[where],
            stamps[where], bound,
        ):  # fmt: skip
            window[k] = item


@inner
def _ask_for_ring(
    links: Rows, cells: Rows, items: Rows, stamps: Ints, keys: Keys, chunk: int, begin: int, end: int
) -> None:
    """Let memory bring a chunk's events in [begin, end), its keys, and what says where the one before is."""
    for part in range(begin // CELL, (end + CELL - 1) // CELL):
        first = np.int64(cells[chunk, part]) * CELL
        prefetch(items, first * 4)
        prefetch(stamps, first * 8)
    block = np.int64(links[chunk, KEYS]) * CHUNK * 8
    prefetch(keys, block)
    prefetch(keys, block + CHUNK * 4)
    before = np.int64(links[chunk, PREV])
    prefetch(links, before * links.shape[1] * 4)
    prefetch(cells, before * CELL * 4)


@inner
def _ask_for(
    all_users: Ints,
    counts: Rows,
    links: Rows,
    cells: Rows,
    bases: Ints,
    items: Rows,
    stamps: Ints,
    keys: Keys,
    users: Rows,
    window: int,
) -> None:
    """Let memory bring what the events of some users will need.

    `fold` reads one thing after the other: where a user's chunk lies, then where in it the events lie. What
    is asked for one user here does not wait for what is asked for another.
    """
    for user in users:
        prefetch(all_users, np.int64(user) * all_users.shape[1] * 8)
        prefetch(counts, np.int64(user) * counts.shape[1] * 4)
    for user in users:
        chunk = all_users[user, HEAD]
        if chunk >= 0:
            prefetch(links, chunk * links.shape[1] * 4)
            prefetch(cells, chunk * CELL * 4)
            prefetch(bases, chunk * 8)
    for user in users:
        chunk = all_users[user, HEAD]
        if chunk >= 0:
            size = (all_users[user, N] - 1) % CHUNK + 1
            _ask_for_ring(links, cells, items, stamps, keys, chunk, 0, size)
    for user in users:
        chunk = all_users[user, HEAD]
        if chunk >= 0:
            size = (all_users[user, N] - 1) % CHUNK + 1
            if links[chunk, PREV] != chunk and size < window:
                begin = max(0, CHUNK - window + size)
                _ask_for_ring(links, cells, items, stamps, keys, links[chunk, PREV], begin, CHUNK)


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
    bound: Bound,
) -> int:
    """Append events to their users' rings, in order.

    Writes the outcome of every event, and for each event that item statistics may still lack its index
    (`paired`) with the events before it. Returns how many those are. What does not
    count by `bound` is not among them.
    """
    (
        all_users,
        counts,
        links,
        cells,
        bases,
        dirty,
        dirty_chunks,
        all_items,
        stamps,
        all_offsets,
        all_keys,
        heap,
    ) = r
    window = windows.shape[1]
    n_paired = 0
    for event in range(len(users)):
        if event % AHEAD == 0:
            _ask_for(
                all_users, counts, links, cells, bases, all_items, stamps, all_keys,
                users[event : event + AHEAD], window,
            )  # fmt: skip
        user, offset = users[event], offsets[event]
        if offset <= all_users[user, OFFSET]:
            outcomes[event] = REPLAYED
            chunk = all_users[user, HEAD]
            position = (all_users[user, N] - 1) % CHUNK
            left = all_users[user, STORED]
            while left > 0 and bases[chunk] + all_offsets[at(cells, chunk, position)] > offset:
                left -= 1
                position -= 1
                if position < 0:
                    chunk = links[chunk, PREV]
                    position = CHUNK - 1
            if left > 0 and bases[chunk] + all_offsets[at(cells, chunk, position)] == offset:
                if bound.depth:
                    # What it was decided by is gone: item rows were confirmed before the row that says so.
                    if left <= window + bound.depth and all_users[user, STORED] < all_users[user, N]:
                        continue
                    if not _counts(
                        all_items, stamps, cells, links, positive, chunk, position, left - 1, items[event],
                        times[event] << ACTION_BITS | actions[event], bound,
                    ):  # fmt: skip
                        continue
                _look_back(
                    all_items, stamps, cells, links, positive, chunk, position, min(window, left - 1),
                    windows[n_paired], windows_positive[n_paired],
                )  # fmt: skip
                if bound.depth:
                    _leave_out(
                        all_items, stamps, cells, links, positive, chunk, position, left - 1, items[event],
                        bound, windows[n_paired],
                    )  # fmt: skip
                paired[n_paired] = event
                n_paired += 1
            continue
        all_users[user, OFFSET] = offset
        if _is_duplicate(all_users, all_keys, links, user, keys[event]):
            outcomes[event] = DUPLICATE
            continue
        n = all_users[user, N]
        if all_users[user, TAKES] != heap[TAKEN]:
            all_users[user, TAKES] = heap[TAKEN]
            all_users[user, GUARD] = n
        position = n % CHUNK
        chunk = all_users[user, HEAD]
        if position == 0:
            chunk = next_chunk(all_users, links, heap, user, n_slots)
            take_keys(links, all_keys, heap, chunk)
        make_cell(cells, all_items, heap, chunk, position)
        stored = all_users[user, STORED]
        stamp = times[event] << ACTION_BITS | actions[event]
        if bound.depth and not _counts(
            all_items, stamps, cells, links, positive, chunk, position, stored, items[event], stamp,
            bound,
        ):  # fmt: skip
            outcomes[event] = BOUNDED
            all_users[user, BOUNDED_AT] = n + 1
        else:
            outcomes[event] = APPLIED
            _look_back(
                all_items, stamps, cells, links, positive, chunk, position, min(window, stored),
                windows[n_paired], windows_positive[n_paired],
            )  # fmt: skip
            if all_users[user, BOUNDED_AT] > max(n - window, 0):
                _leave_out(
                    all_items, stamps, cells, links, positive, chunk, position, stored, items[event], bound,
                    windows[n_paired],
                )  # fmt: skip
            paired[n_paired] = event
            n_paired += 1
        where = at(cells, chunk, position)
        all_items[where] = items[event]
        stamps[where] = stamp
        sign(links, chunk, position, items[event], times[event])
        put_offset(cells, bases, all_offsets, chunk, position, offset)
        all_keys[links[chunk, KEYS], position] = keys[event]
        all_users[user, N] = n + 1
        all_users[user, STORED] = stored + 1
        if n == 0:
            all_users[user, FIRST_MS] = times[event]
        counts[user, actions[event]] += 1
        mark(dirty, dirty_chunks, heap, chunk)
        if n + 1 - all_users[user, GUARD] > CHUNK * (n_slots - 1) - window - bound.depth:
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


@njit
def read(r: Rings, users: Rows, items: Ints, actions: Ints, times: Ints) -> None:
    """Write each user's last events, most recent last; (B, L) arrays that hold padding already."""
    all_users, all_items, stamps, cells, links = r.users, r.items, r.stamps, r.cells, r.links
    for b in range(len(users)):
        user = users[b]
        if user < 0:
            continue
        chunk = all_users[user, HEAD]
        position = (all_users[user, N] - 1) % CHUNK
        for k in range(min(items.shape[1], all_users[user, STORED])):
            column = items.shape[1] - 1 - k
            where = at(cells, chunk, position)
            items[b, column] = all_items[where]
            actions[b, column] = stamps[where] & ACTION
            times[b, column] = stamps[where] >> ACTION_BITS
            position -= 1
            if position < 0:
                chunk = links[chunk, PREV]
                position = CHUNK - 1


@njit
def seen(r: Rings, user: int, counts_as_seen: Flags, out: Flags) -> None:
    """Write False at the items of the user's events whose action counts."""
    all_items, stamps, cells, links = r.items, r.stamps, r.cells, r.links
    chunk = r.users[user, HEAD]
    left = r.users[user, STORED]
    size = (r.users[user, N] - 1) % CHUNK + 1
    while left > 0:
        for k in range(min(size, left)):
            where = at(cells, chunk, k)
            item = all_items[where]
            if counts_as_seen[stamps[where] & ACTION] and item < len(out):
                out[item] = False
        left -= size
        size = CHUNK
        chunk = links[chunk, PREV]


@njit
def latest(r: Rings, user: int, chosen: Flags, out: Ints) -> int:
    """Write the items of the last events with a chosen action, from the end of `out`; return how many."""
    all_items, stamps, cells, links = r.items, r.stamps, r.cells, r.links
    chunk = r.users[user, HEAD]
    position = (r.users[user, N] - 1) % CHUNK
    found = 0
    for _ in range(r.users[user, STORED]):
        if found == len(out):
            break
        where = at(cells, chunk, position)
        if chosen[stamps[where] & ACTION]:
            found += 1
            out[len(out) - found] = all_items[where]
        position -= 1
        if position < 0:
            chunk = links[chunk, PREV]
            position = CHUNK - 1
    return found
