"""Compiled loops that read users' events, see `rings`."""

import numba

from streams.state.rings import (
    ACTION,
    ACTION_BITS,
    CHUNK,
    HEAD,
    PREV,
    STORED,
    Bytes,
    Flags,
    Ints,
    N,
    Rings,
    Rows,
    at,
)

njit = numba.njit(cache=True, nogil=True)


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
def stored(r: Rings, user: int, items: Rows, actions: Bytes, times: Ints, offsets: Ints) -> None:
    """Write all of a user's events that are kept, oldest first: (n,) each, n as there are."""
    chunk = r.users[user, HEAD]
    position = (r.users[user, N] - 1) % CHUNK
    for k in range(len(items) - 1, -1, -1):
        where = at(r.cells, chunk, position)
        items[k] = r.items[where]
        actions[k] = r.stamps[where] & ACTION
        times[k] = r.stamps[where] >> ACTION_BITS
        offsets[k] = r.bases[chunk] + r.offsets[where]
        position -= 1
        if position < 0:
            chunk = r.links[chunk, PREV]
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
