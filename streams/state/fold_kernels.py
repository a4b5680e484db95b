"""The compiled loop that appends events to users' rings, see `rings`, and finds what they are paired with."""

import numba
import numpy as np

from model_core.kernels import inner, prefetch
from model_core.robust.influence import Bound
from streams.state.pairing_kernels import is_counted, is_held, leave_out, look_back, pair_again
from streams.state.rings import (
    ACTION_BITS,
    BOUNDED_AT,
    CELL,
    CHUNK,
    COVISITS_FIRST,
    DEDUPE_CHUNKS,
    FIRST_MS,
    GUARD,
    HEAD,
    KEYS,
    OFFSET,
    PREV,
    STORED,
    TAKEN,
    TAKES,
    Bytes,
    Flags,
    Ints,
    Keys,
    N,
    Rings,
    Rows,
    at,
    make_cell,
    mark,
    next_chunk,
    put_offset,
    sign,
    take_keys,
)

# What became of an event. BOUNDED and HELD are in the user's history and count in nothing that users share;
# REFUSED, of an item that has no row, never comes here.
APPLIED, REPLAYED, DUPLICATE, REFUSED, BOUNDED, HELD = 0, 1, 2, 3, 4, 5

AHEAD = 16  # events of which `fold` asks memory for what they need, all at once

njit = numba.njit(cache=True, nogil=True)


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
    held: Ints,
) -> int:
    """Append events to their users' rings, in order.

    Writes the outcome of every event, and for each event that item statistics may still lack its index
    (`paired`) with the events before it. Returns how many those are. What does not count by `bound`, or is
    in a span of `held` (see `pairing_kernels.is_held`), is not among them.
    """
    (
        all_users, counts, links, cells, bases, dirty, dirty_chunks, all_items, stamps, all_offsets, all_keys,
        heap,
    ) = r  # fmt: skip
    window = windows.shape[1]
    n_paired = 0
    for event in range(len(users)):
        if event % AHEAD == 0:
            _ask_for(
                all_users, counts, links, cells, bases, all_items, stamps, all_keys,
                users[event : event + AHEAD], window,
            )  # fmt: skip
        user, offset, item = users[event], offsets[event], items[event]
        stamp = times[event] << ACTION_BITS | actions[event]
        if offset <= all_users[user, OFFSET]:
            outcomes[event] = REPLAYED
            if pair_again(
                all_users, all_items, stamps, cells, links, bases, all_offsets, positive, user, offset, item,
                stamp, bound, held, windows[n_paired], windows_positive[n_paired],
            ):  # fmt: skip
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
        if is_held(held, user, offset):
            outcomes[event] = HELD
            all_users[user, BOUNDED_AT] = n + 1
        elif bound.depth and not is_counted(
            all_items, stamps, cells, links, positive, chunk, position, stored, item, stamp, bound
        ):
            outcomes[event] = BOUNDED
            all_users[user, BOUNDED_AT] = n + 1
        else:
            outcomes[event] = APPLIED
            look_back(
                all_items, stamps, cells, links, positive, chunk, position, min(window, stored),
                windows[n_paired], windows_positive[n_paired],
            )  # fmt: skip
            if all_users[user, BOUNDED_AT] > max(n - window, 0):
                leave_out(
                    all_items, stamps, cells, links, bases, all_offsets, positive, chunk, position, stored,
                    item, bound, held, windows[n_paired],
                )  # fmt: skip
            paired[n_paired] = event
            n_paired += 1
        where = at(cells, chunk, position)
        all_items[where], stamps[where] = item, stamp
        sign(links, chunk, position, item, times[event])
        put_offset(cells, bases, all_offsets, chunk, position, offset)
        all_keys[links[chunk, KEYS], position] = keys[event]
        all_users[user, N], all_users[user, STORED] = n + 1, stored + 1
        if n == 0:
            all_users[user, FIRST_MS] = times[event]
        counts[user, actions[event]] += 1
        mark(dirty, dirty_chunks, heap, chunk)
        if n + 1 - all_users[user, GUARD] > CHUNK * (n_slots - 1) - window - bound.depth:
            heap[COVISITS_FIRST] = 1
    return n_paired
