"""Bounds how far an item's recent likes may exceed its earlier pace.

Many users who each do little more than anybody may still lift an item together, and no bound of a user holds
them. But an item that few have liked does not get many likes at once without a reason. So of the likes of the
last days a few count at any rate, and beyond these some times as many as an item gets that is liked at the
pace of before. All that items are ranked by, popularity and co-visits alike, is cut by the share that counts.

What is cut is what is read, never what is counted: counts stay sums over users and partitions, and a surge
that lasts is believed by and by.
"""

import math

import numba

DAY_MS = 86_400_000
HALF_LIFE_MS = 7 * DAY_MS
"""That tells what is of late; one of `model_core.signals.horizons`."""
LIFE_MS = HALF_LIFE_MS / math.log(2)
"""A steady stream of one event in this time has a rate of 1 at that half-life."""
AT_ANY_RATE = 2.0
"""Recent likes of an item that count whatever it was liked before."""
NO_PACE_MS = DAY_MS
"""Time after its first event in which nothing is to be expected of an item, and all counts."""
LONGEST_MS = 90 * DAY_MS
"""Longest time that likes of before are spread over: so an item of any age may gain a third in a week or two,
and a single event of long ago, true or not, makes no item old."""
MAX_LIKES = 1 << 16
"""Beyond these all counts: a rate is too coarse there to be taken from them, and a few users lift nothing."""

njit = numba.njit(cache=True, nogil=True)


@njit
def counted_share(likes: int, recent: float, first_ms: int, last_ms: int, surge_bound: float) -> float:
    """Share of an item's likes that counts, in (0, 1].

    Parameters
    ----------
    likes : positive events ever; recent : what is left of them at the last event, by `HALF_LIFE_MS`
    first_ms, last_ms : of the first and the last event
    surge_bound : times the pace of before that recent likes may have; 0 = any
    """
    known_ms = min(last_ms - first_ms, LONGEST_MS)
    if surge_bound == 0.0 or recent <= AT_ANY_RATE or likes > MAX_LIKES or known_ms < NO_PACE_MS:
        return 1.0
    before = max(likes - recent, 0.0)
    expected = before * LIFE_MS / known_ms
    return min(1.0, (before + AT_ANY_RATE + surge_bound * expected) / (before + recent))
