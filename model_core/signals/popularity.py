"""How popular items are, all partitions together, kept from one batch to the next."""

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.signals.parts import WIDTH, Parts, popularity_of

BLOCK = 2048  # items whose sums stay in the processor's nearest cache

njit = numba.njit(cache=True, nogil=True)


class Popularity:
    """Sums the partitions anew each time, and works out only what has changed since. One thread at a time.

    Attributes
    ----------
    counts : (N,) float32, positive events of each item
    levels : (N,) float32, ``log1p(counts)``; another array after each change, so that it may be kept
    tempers : (N,) float64, ``sqrt(counts + 10)``, what co-visits are divided by; good until the next `read`
    """

    def __init__(self) -> None:
        self._totals = np.zeros(0, np.int64)
        self.counts = self.levels = np.zeros(0, np.float32)
        self.tempers = np.zeros(0)

    def read(self, parts: Parts, n: int) -> None:
        """Count the first n items."""
        if n != len(self._totals):
            self._totals = np.full(n, -1, np.int64)
            self.counts, self.levels = np.zeros(n, np.float32), np.zeros(n, np.float32)
            self.tempers = np.zeros(n)
        changed = _changed(parts.where, self._totals)
        if len(changed):
            counts = self.counts[changed] = self._totals[changed].astype(np.float32)
            self.levels = self.levels.copy()
            self.levels[changed] = np.log1p(counts)
            self.tempers[changed] = tempers(counts)


def tempers(counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what co-visits with items of these popularities are divided by."""
    return np.sqrt(counts.astype(np.float64) + 10.0)


def tempers_of(parts: Parts, n: int) -> NDArray[np.float64]:
    """Return `Popularity.tempers` of the first n items: (n,) float64, for whoever asks but now and then."""
    out = np.empty(n)
    _tempers(parts.where, out)
    return out


@njit
def _tempers(where, out):  # type: ignore[no-untyped-def]
    out[:] = 10.0
    for part in range(len(where)):
        popularity = popularity_of(where[part])[: len(out)]
        for i in range(len(popularity)):
            out[i] += popularity[i]
    for i in range(len(out)):
        out[i] = np.sqrt(out[i])


@njit
def _changed(where, totals):  # type: ignore[no-untyped-def]
    """Sum the partitions into `totals`, (N,) int64; return the rows where there was another sum."""
    changed, n = np.empty(256, np.int32), 0
    sums = np.empty(BLOCK, np.int64)
    for begin in range(0, len(totals), BLOCK):
        end = min(begin + BLOCK, len(totals))
        sums[:] = 0
        for part in range(len(where)):
            popularity = popularity_of(where[part])[begin:end]
            for i in range(len(popularity)):
                sums[i] += popularity[i]
        old = totals[begin:end]
        differ = 0
        for i in range(len(old)):
            differ += old[i] != sums[i]
        if not differ:
            continue
        if n + differ > len(changed):
            longer = np.empty(2 * (n + differ), np.int32)
            longer[:n] = changed[:n]
            changed = longer
        for i in range(len(old)):
            if old[i] != sums[i]:
                old[i] = sums[i]
                changed[n] = begin + i
                n += 1
    return changed[:n]


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    nothing = Parts(np.zeros((0, WIDTH), np.int64), ())
    Popularity().read(nothing, 1)
    tempers_of(nothing, 1)
