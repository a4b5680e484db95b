"""What the users of a batch have done and said, gathered at one moment by one kernel a partition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from streams.state.profile_kernels import CHUNK, HEAD, PREV, STORED, N, Rings
from streams.state.profiles import Profiles, Stated

_NO_ROWS = np.zeros(0, np.int32)
NOTHING_STATED = Stated(-1, {}, [], _NO_ROWS)


@dataclass(frozen=True, slots=True)
class People:
    """B users as they were; arrays of their own, so that any thread may read them while the state goes on.

    items, actions, times : (B, L) int64, their last events, most recent last; padding is -1, -1, 0
    events : (B,) int64, events ever, 0 of a stranger
    seen : for each user the item rows of all their kept events whose action counts as seen, repeats allowed
    liked : for each user the item rows of all their kept positive events, oldest first, repeats allowed
    stated : what each user says
    """

    items: NDArray[np.int64]
    actions: NDArray[np.int64]
    times: NDArray[np.int64]
    events: NDArray[np.int64]
    seen: Sequence[NDArray[np.int32]]
    liked: Sequence[NDArray[np.int32]]
    stated: Sequence[Stated]

    def __len__(self) -> int:
        return len(self.items)


def gather(
    users: Sequence[tuple[Profiles, int]],
    *,
    last: int,
    counts_as_seen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
) -> People:
    """Read users, each named by the profiles of a partition and a row there, -1 = a stranger.

    Parameters
    ----------
    last : L, events read of each
    counts_as_seen, positive : (n_actions,) bool
    """
    n = len(users)
    items, actions = np.full((n, last), -1, np.int64), np.full((n, last), -1, np.int64)
    times, events = np.zeros((n, last), np.int64), np.zeros(n, np.int64)
    seen, liked, stated = [_NO_ROWS] * n, [_NO_ROWS] * n, [NOTHING_STATED] * n
    by_partition: dict[int, tuple[Profiles, list[int], list[int]]] = {}
    for place, (profiles, row) in enumerate(users):
        if row >= 0:
            _, places, rows = by_partition.setdefault(id(profiles), (profiles, [], []))
            places.append(place)
            rows.append(row)
            stated[place] = profiles.stated.get(row, NOTHING_STATED)
    for profiles, places, rows in by_partition.values():
        rings, at, who = profiles.rings, np.array(places, np.int64), np.array(rows, np.int32)
        stored = int(rings.users[who, STORED].sum())
        seen_rows, liked_rows = np.empty(stored, np.int32), np.empty(stored, np.int32)
        bounds = np.zeros((len(who) + 1, 2), np.int64)
        _read(
            rings, who, at, counts_as_seen, positive, items, actions, times, events, seen_rows, liked_rows,
            bounds,
        )  # fmt: skip
        for i, place in enumerate(places):
            (first, first_liked), (end, end_liked) = bounds[i].tolist(), bounds[i + 1].tolist()
            seen[place], liked[place] = seen_rows[first:end], liked_rows[first_liked:end_liked]
    return People(items, actions, times, events, seen, liked, stated)


@numba.njit(cache=True, nogil=True)
def _read(
    r: Rings,
    users: NDArray[np.int32],
    places: NDArray[np.int64],
    counts_as_seen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    items: NDArray[np.int64],
    actions: NDArray[np.int64],
    times: NDArray[np.int64],
    events: NDArray[np.int64],
    seen: NDArray[np.int32],
    liked: NDArray[np.int32],
    bounds: NDArray[np.int64],
) -> None:
    """Walk each user's ring once, from the newest event back; bounds : (n + 1, 2) of `seen` and `liked`."""
    all_users, all_items, all_actions, all_times, links = r.users, r.items, r.actions, r.times, r.links
    n_seen = n_liked = 0
    for i in range(len(users)):
        user, place = users[i], places[i]
        events[place] = all_users[user, N]
        chunk = all_users[user, HEAD]
        position = (all_users[user, N] - 1) % CHUNK
        first = n_liked
        column = items.shape[1] - 1
        for _ in range(all_users[user, STORED]):
            item, action = all_items[chunk, position], all_actions[chunk, position]
            if column >= 0:
                items[place, column] = item
                actions[place, column] = action
                times[place, column] = all_times[chunk, position]
                column -= 1
            if counts_as_seen[action]:
                seen[n_seen] = item
                n_seen += 1
            if positive[action]:
                liked[n_liked] = item
                n_liked += 1
            position -= 1
            if position < 0:
                chunk = links[chunk, PREV]
                position = CHUNK - 1
        for k in range((n_liked - first) // 2):  # oldest first
            liked[first + k], liked[n_liked - 1 - k] = liked[n_liked - 1 - k], liked[first + k]
        bounds[i + 1, 0], bounds[i + 1, 1] = n_seen, n_liked
