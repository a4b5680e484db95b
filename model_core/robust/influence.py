"""Bounds a user's influence on shared statistics: co-visits, popularity, rates, weights of signals, EASE.

Of a user's events an item counts once, and once more when it is responded to; and of an hour the first ones
count. Looked at are the user's last events, `Bound.depth` of them: so whether an event counts is a function
of these alone, and is the same whenever it is asked, also after a crash.

What does not count is in the user's history all the same, and later events are not paired with it: else it
would count through its neighbours.

What users like together is bounded by `likes_share` where EASE is fitted on it.

Event times are taken as they are: who may write any time into an event may write it an hour on.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

HOUR_MS = 3_600_000
SHARE_UNIT = 256

njit = numba.njit(cache=True, nogil=True)


class Bound(NamedTuple):
    """The bound of a user's influence; a depth of 0 bounds nothing.

    An event counts unless `per_hour` of its user's events right before it are of its hour or later, or its
    item is among the `depth` events before it, as a response if it is one.
    """

    per_hour: int = 0
    depth: int = 0

    @classmethod
    def of(cls, per_hour: int, *, kept: int, window: int) -> "Bound":
        """Return a bound of so many events an hour, 0 for none, that looks as deep as it may."""
        return cls(per_hour, kept if per_hour else 0).within(kept, window)

    def within(self, kept: int, window: int) -> "Bound":
        """Return what remains of a bound for users of whom the last `kept` events are known.

        A look goes half as deep as it may, from each event of a window: so a user's events may be overwritten
        while one that came after them may still be asked for.
        """
        depth = min(self.depth, max(kept - window, 0) // 2)
        return Bound(min(self.per_hour, depth), depth)


NO_BOUND = Bound()


def likes_share(likes: NDArray[np.integer], full_likes: int) -> NDArray[np.float32]:
    """Return how much each user counts in which items are liked together: (n,) float32, in (0, 1].

    A user's pairs grow with the square of the likes; so those of more than `full_likes` count
    ``sqrt(full_likes / likes)``, rounded to 1 / `SHARE_UNIT`: so sums over users are exact in any order.

    Parameters
    ----------
    likes : (n,) int, distinct items that each user likes, at least 1
    full_likes : up to so many a user counts in full; 0 = at any number
    """
    if not full_likes:
        return np.ones(len(likes), np.float32)
    share = np.sqrt(np.minimum(1.0, full_likes / likes))
    units: NDArray[np.float64] = np.maximum(np.rint(share * SHARE_UNIT), 1.0)
    return (units / SHARE_UNIT).astype(np.float32)


@njit
def counted(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    positive: NDArray[np.bool_],
    times_ms: NDArray[np.int64],
    n_users: int,
    bound: Bound,
) -> NDArray[np.bool_]:
    """Return which events of a log count: (n,) bool.

    Parameters
    ----------
    users, items : (n,) int32 rows, users in [0, n_users); positive : (n,) bool; times_ms : (n,) int64
    """
    out = np.ones(len(users), np.bool_)
    last = np.full(n_users, -1, np.int64)
    before = np.empty(len(users), np.int64)
    for event in range(len(users)):
        before[event] = other = last[users[event]]
        last[users[event]] = event
        hour, same_hour = times_ms[event] // HOUR_MS, True
        for looked_at in range(bound.depth):
            if other < 0:
                break
            same_hour &= times_ms[other] // HOUR_MS >= hour
            repeated = items[other] == items[event] and positive[other] >= positive[event]
            if repeated or (same_hour and looked_at + 1 == bound.per_hour):
                out[event] = False
                break
            other = before[other]
    return out
