"""Compiled loops that read users' events, see `rings`."""

import numba
import numpy as np
from numpy.typing import NDArray

from streams.state.pairing_kernels import is_held
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


@njit
def liked(r: Rings, users: Rows, stances: NDArray[np.int8], held: Ints, items: Rows, times: Ints) -> None:
    """Write the items that users liked last, the newest first, and when: (n, L) arrays that hold 0.

    An item is written once, and none that its user has spoken against since. Events in a span of `held` (see
    `pairing_kernels.is_held`) do not count, and nothing does of a user of whom such a span has no end.

    stances : (n_actions,) 1 of actions that are a like, -1 of such as speak against an item, else 0
    """
    forever = np.iinfo(np.int64).max - 1
    for i in range(len(users)):
        user = users[i]
        chunk, stored_events = r.users[user, HEAD], r.users[user, STORED]
        if chunk < 0 or is_held(held, user, forever):
            continue
        position = (r.users[user, N] - 1) % CHUNK
        against = np.empty(stored_events, np.int32)
        n_against = n_found = 0
        for _ in range(stored_events):
            where = at(r.cells, chunk, position)
            stance, item = stances[r.stamps[where] & ACTION], r.items[where]
            if stance != 0 and not is_held(held, user, r.bases[chunk] + np.int64(r.offsets[where])):
                known = False
                for k in range(n_found):
                    known |= items[i, k] == item
                for k in range(n_against):
                    known |= against[k] == item
                if not known and stance < 0:
                    against[n_against] = item
                    n_against += 1
                elif not known:
                    items[i, n_found] = item
                    times[i, n_found] = r.stamps[where] >> ACTION_BITS
                    n_found += 1
                    if n_found == items.shape[1]:
                        break
            position -= 1
            if position < 0:
                chunk = r.links[chunk, PREV]
                position = CHUNK - 1
