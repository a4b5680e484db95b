"""Popularity of items over all partitions, kept from one batch to the next."""

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.robust.surge import AT_ANY_RATE, counted_share
from model_core.signals.horizons import HALF_LIVES_MS, RECENT
from model_core.signals.neighbour_groups import FIRST, LAST, NO_TIME
from model_core.signals.parts import WIDTH, Parts, Seen, moments_of, stamps_of
from model_core.signals.pasts import Window

TYPICAL_LIKES = 40
"""Of an item that was met: co-visits with it say as much whatever `read_temper` is."""
BLOCK = 2048  # items whose sums stay in the processor's nearest cache

njit = numba.njit(cache=True, nogil=True)


class Popularity:
    """Sums the partitions anew each time, and works out only what has changed since. One thread at a time.

    Parameters
    ----------
    surge_bound : see `surge.counted_share`
    read_temper : see `rarity`

    Attributes
    ----------
    counts : (N,) float32, positive events of each item, those that count
    levels : (N,) float32, ``log1p(counts)``; another array after each change, so that it may be kept
    tempers : (N,) float64, what co-visits are divided by, see `tempers`; good until the next `read`
    """

    def __init__(self, surge_bound: float, read_temper: float = 0.0) -> None:
        self._surge_bound, self._read_temper = surge_bound, read_temper
        self._stamps = np.zeros(0, np.int64)
        self.counts = self.levels = np.zeros(0, np.float32)
        self.tempers = np.zeros(0)
        self._totals = np.zeros(0, np.int64)
        self._seen = Seen()

    def read(self, parts: Parts, n: int) -> None:
        """Count the first n items."""
        if self._seen.again(parts) and n == len(self._stamps):
            return
        if n != len(self._stamps):
            self._stamps = np.full(n, NO_TIME, np.int64)
            self.counts, self.levels = np.zeros(n, np.float32), np.zeros(n, np.float32)
            self.tempers, self._totals = np.zeros(n), np.zeros(n, np.int64)
        changed = _changed(parts.where, self._stamps)
        if len(changed):
            likes, shares = _likes(parts.where, changed, self._surge_bound)
            counts = self.counts[changed] = (likes * shares).astype(np.float32)
            self.levels = self.levels.copy()
            self.levels[changed] = np.log1p(counts)
            self.tempers[changed] = tempers(likes, shares, self._read_temper)
            self._totals[changed] = likes

    def weighed(self, window: Window) -> Window:
        """Return the events that co-visits are read of, each weighed by the `rarity` of its item too."""
        return Window(window.rows, _weighed(window.rows, window.weights, self._totals, self._read_temper))


def tempers(likes: NDArray[np.int64], shares: NDArray[np.float64], read_temper: float) -> NDArray[np.float64]:
    """Return what co-visits with items are divided by: ``sqrt(likes + 10) / share``, at a typical rarity.

    Parameters
    ----------
    likes : positive events of each; shares : of these that count
    """
    divisors: NDArray[np.float64] = np.sqrt(likes + 10.0) / shares * rarity(TYPICAL_LIKES, read_temper)
    return divisors


def tempers_at(
    parts: Parts, rows: NDArray[np.int32], surge_bound: float, read_temper: float
) -> NDArray[np.float64]:
    """Return `Popularity.tempers` of a few items, of any number of axes, without reading any other."""
    likes, shares = _likes(parts.where, rows.ravel(), surge_bound)
    return tempers(likes, shares, read_temper).reshape(rows.shape)


def weighed_at(parts: Parts, window: Window, read_temper: float) -> Window:
    """Return what `Popularity.weighed` does, without reading any other item."""
    there = window.rows >= 0
    some, place = np.unique(window.rows[there], return_inverse=True)
    likes, _ = _likes(parts.where, some.astype(np.int32), 0.0)
    at = np.full(window.rows.shape, -1)
    at[there] = place
    return Window(window.rows, _weighed(at, window.weights, likes, read_temper))


def shares_at(parts: Parts, rows: NDArray[np.int32], surge_bound: float) -> NDArray[np.float64]:
    """Return the share that counts of the positive events of items, in all partitions: (n,) float64."""
    _, shares = _likes(parts.where, rows, surge_bound)
    return shares  # type: ignore[no-any-return]


@njit
def rarity(likes: int, read_temper: float) -> float:
    """Return the weight of co-visits with an item, in (0, 1]: ``(10 / (likes + 10)) ** read_temper``.

    A popular item is met together with everything. At 1 co-visits are a share of the item's likes, as in
    conditional probability; at 0.5, with the root of the other item's likes, they are a cosine (Deshpande &
    Karypis 2004, "Item-based top-N recommendation algorithms").
    """
    return float((10.0 / (likes + 10.0)) ** read_temper)


@njit
def weighed(weight: int, likes: int, read_temper: float) -> float:
    """Weight of an event by the rarity of its item too: a whole number, so that sums come out the same."""
    return float(np.rint(weight * rarity(likes, read_temper)))


@njit
def _weighed(rows, weights, likes, read_temper):  # type: ignore[no-untyped-def]
    """Weights of events of items, by row among `likes`; what is not among them is none: (B, W) int64."""
    out = np.zeros(rows.shape, np.int64)
    for b in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            if 0 <= rows[b, k] < len(likes):
                out[b, k] = weighed(weights[b, k], likes[rows[b, k]], read_temper)
    return out


@njit
def share_of(where, row, surge_bound):  # type: ignore[no-untyped-def]
    """Positive events of an item in all partitions, and the share of them that counts."""
    likes, first, last = 0, NO_TIME, NO_TIME
    for part in range(len(where)):
        _, popularity, _, times = moments_of(where[part])
        if row >= len(popularity):
            continue
        likes += popularity[row]
        if times[row, LAST] != NO_TIME:
            first = times[row, FIRST] if first == NO_TIME else min(first, times[row, FIRST])
            last = max(last, times[row, LAST])
    if surge_bound == 0.0 or likes <= AT_ANY_RATE:
        return likes, 1.0
    recent = 0.0
    for part in range(len(where)):
        _, popularity, rates, times = moments_of(where[part])
        if row < len(popularity) and times[row, LAST] != NO_TIME:
            halvings = max(last - times[row, LAST], 0) / HALF_LIVES_MS[RECENT]
            recent += rates[row, RECENT] * 0.5**halvings
    return likes, counted_share(likes, recent, first, last, surge_bound)


@njit
def _likes(where, rows, surge_bound):  # type: ignore[no-untyped-def]
    likes, shares = np.empty(len(rows), np.int64), np.empty(len(rows))
    for k in range(len(rows)):
        likes[k], shares[k] = share_of(where, rows[k], surge_bound)
    return likes, shares


@njit
def _changed(where, stamps):  # type: ignore[no-untyped-def]
    """Bring `stamps`, (N,) int64, up to date; return the rows where there was another one."""
    changed, n = np.empty(256, np.int32), 0
    now = np.empty(BLOCK, np.int64)
    for begin in range(0, len(stamps), BLOCK):
        end = min(begin + BLOCK, len(stamps))
        stamps_of(where, begin, end, now)
        old = stamps[begin:end]
        differ = 0
        for i in range(len(old)):
            differ += old[i] != now[i]
        if not differ:
            continue
        if n + differ > len(changed):
            longer = np.empty(2 * (n + differ), np.int32)
            longer[:n] = changed[:n]
            changed = longer
        for i in range(len(old)):
            if old[i] != now[i]:
                old[i] = now[i]
                changed[n] = begin + i
                n += 1
    return changed[:n]


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    nothing = Parts(np.zeros((0, WIDTH), np.int64), ())
    Popularity(1.0).read(nothing, 1)
    tempers_at(nothing, np.zeros(1, np.int32), 1.0, 0.5)
    one = np.zeros((1, 1), np.int64)
    weighed_at(nothing, Window(one, one), 0.5)
