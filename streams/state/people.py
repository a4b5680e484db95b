"""Histories and stated facts of a batch's users, gathered at one moment by one kernel a partition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.signals.pasts import Pasts
from streams.state.profiles import Profiles
from streams.state.rings import ACTION, ACTION_BITS, CHUNK, HEAD, PREV, STORED, N, Rings, at
from streams.state.stated import NOTHING_STATED, Stated


@dataclass(frozen=True, slots=True)
class People:
    """B users as they were; arrays of their own, so that any thread may read them while the state goes on.

    pasts : their last events, by the actions of the settings
    events : (B,) int64, events ever, 0 of a stranger
    seen : for each user the item rows of the events of `pasts` whose action counts as seen, repeats allowed
    stated : what each user says
    """

    pasts: Pasts
    events: NDArray[np.int64]
    seen: Sequence[NDArray[np.int32]]
    stated: Sequence[Stated]

    def __len__(self) -> int:
        return len(self.events)


def gather(
    users: Sequence[tuple[Profiles, int]],
    *,
    depth: int,
    counts_as_seen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
) -> People:
    """Read users, each named by the profiles of a partition and a row there, -1 = a stranger.

    Parameters
    ----------
    depth : events read of each, the last ones
    counts_as_seen, positive : (n_actions,) bool
    """
    n = len(users)
    events, bounds, stated = np.zeros(n, np.int64), np.zeros(n + 1, np.int64), [NOTHING_STATED] * n
    asked: dict[int, tuple[Profiles, list[int], list[int]]] = {}
    for place, (profiles, row) in enumerate(users):
        if row >= 0:
            _, its_places, its_rows = asked.setdefault(id(profiles), (profiles, [], []))
            its_places.append(place)
            its_rows.append(row)
            stated[place] = profiles.stated.of(row)
    by_partition = [
        (profiles.rings, np.array(rows, np.int32), np.array(places, np.int64))
        for profiles, places, rows in asked.values()
    ]
    for rings, rows, places in by_partition:
        _count(rings.users, rows, places, depth, events, bounds)
    total = _bound(bounds)
    items, actions, times = np.empty(total, np.int32), np.empty(total, np.uint8), np.empty(total, np.int64)
    for rings, rows, places in by_partition:
        _read(rings, rows, places, bounds, items, actions, times)
    pasts = Pasts(bounds, items, actions, positive[actions], times)
    counted = counts_as_seen[actions]
    return People(pasts, events, _split(bounds, items, counted), stated)


def _split(
    bounds: NDArray[np.int64], items: NDArray[np.int32], counted: NDArray[np.bool_]
) -> list[NDArray[np.int32]]:
    """Return each user's items that are counted."""
    if not counted.all():
        kept = np.zeros(len(counted) + 1, np.int64)
        np.cumsum(counted, out=kept[1:])
        bounds, items = kept[bounds], items[counted]
    ends = bounds.tolist()
    return [items[begin:end] for begin, end in zip(ends[:-1], ends[1:], strict=True)]


# They take microseconds a user, and so keep the interpreter: to have it again may take longer.
njit = numba.njit(cache=True)


@njit
def _count(
    table: NDArray[np.int64],
    users: NDArray[np.int32],
    places: NDArray[np.int64],
    depth: int,
    events: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> None:
    """Write how many events each user has had, and at the place after its own how many are read."""
    for i in range(len(users)):
        events[places[i]] = table[users[i], N]
        sizes[places[i] + 1] = min(table[users[i], STORED], depth)


@njit
def _bound(sizes: NDArray[np.int64]) -> int:
    """Add up sizes where they stand, and return their sum."""
    for i in range(1, len(sizes)):
        sizes[i] += sizes[i - 1]
    return int(sizes[-1])


@njit
def _read(
    r: Rings,
    users: NDArray[np.int32],
    places: NDArray[np.int64],
    bounds: NDArray[np.int64],
    items: NDArray[np.int32],
    actions: NDArray[np.uint8],
    times: NDArray[np.int64],
) -> None:
    """Walk each user's ring from the newest event back, until there is no more room between the bounds."""
    all_users, all_items, stamps, cells, links = r.users, r.items, r.stamps, r.cells, r.links
    for i in range(len(users)):
        user, place = users[i], places[i]
        chunk = all_users[user, HEAD]
        position = (all_users[user, N] - 1) % CHUNK
        for k in range(bounds[place + 1] - 1, bounds[place] - 1, -1):
            where = at(cells, chunk, position)
            items[k] = all_items[where]
            actions[k] = stamps[where] & ACTION
            times[k] = stamps[where] >> ACTION_BITS
            position -= 1
            if position < 0:
                chunk = links[chunk, PREV]
                position = CHUNK - 1
