"""Scores how much a user's likes look like those of a coordinated attack on items.

Measured on ML-100K with 1 % of fakes (`deploy/trust.md`), how many surging items a user likes tells fakes
from honest users; how often a user repeats items does as well, but is honest where things are had again, so
it counts only beside surges. How many events a user has an hour tells nothing there, and what is beyond the
bound of an hour does not count anyhow.
"""

import numba
import numpy as np
from numpy.typing import NDArray

MIN_EVENTS = 10
"""Events below which nothing is said of a user."""
SURGES, REPETITION = 0, 1

njit = numba.njit(cache=True, nogil=True)


@njit
def suspicion(
    items: NDArray[np.int64], positive: NDArray[np.bool_], excess: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return surges and repetition of each user: (B, 2) float64; both 0 below `MIN_EVENTS` events.

    surges is the sum of `excess` over the different items that a user likes. repetition is
    ``1 - H / log(n)``, H the entropy of the user's n events over items: 0 where each is another, 1 where all
    are the same.

    Parameters
    ----------
    items : (B, L) int64 rows of users' last events; -1 is none
    positive : (B, L) bool, which of them are likes
    excess : (N,) float64, the share of each item's likes that does not count, see `surge.counted_share`
    """
    out = np.zeros((len(items), 2))
    for user in range(len(items)):
        kept = np.flatnonzero(items[user] >= 0)
        n = len(kept)
        if n < MIN_EVENTS:
            continue
        # An item's likes lie together, the likes last.
        order = np.sort(2 * items[user][kept] + positive[user][kept])
        entropy, begin = 0.0, 0
        for end in range(1, n + 1):
            if end < n and order[end] >> 1 == order[begin] >> 1:
                continue
            item, share = order[begin] >> 1, (end - begin) / n
            entropy -= share * np.log(share)
            if order[end - 1] & 1 and item < len(excess):
                out[user, SURGES] += excess[item]
            begin = end
        out[user, REPETITION] = max(0.0, 1.0 - entropy / np.log(n))
    return out


@njit
def score_of(surges: float, repetition: float) -> float:
    """Return the suspicion of a user: surging items, each counting up to twice where items are repeated."""
    return surges * (1.0 + repetition)


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    suspicion(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.bool_), np.zeros(1))
    score_of(0.0, 0.0)
