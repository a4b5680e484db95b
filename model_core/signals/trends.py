"""Trends of items over all partitions: rates of several half-lives, ages and popularity.

Half-lives are those of `model_core.signals.horizons`. Rates of all items are kept as of one reference time,
to which an item's are brought when it has changed: to a moment they then decay by one number a half-life.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import log_of
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.horizons import FAINT, HALF_LIVES_MS, HORIZONS, HOUR_MS
from model_core.signals.neighbour_groups import FIRST, LAST, NO_TIME
from model_core.signals.parts import WIDTH, Parts, Seen, moments_of, stamps_of
from model_core.signals.popularity import Popularity, share_of

AGE, IDLE, POPULAR, NEW, COVISITS, OLD, QUIET = range(HORIZONS, HORIZONS + 7)
"""Columns of the signals after the rates: since the first event, since the last, positive events ever, by
their logarithms; an item without events, whose others are 0; co-visits with the user's last events; the same
two times by themselves, up to a bound: news of yesterday are gone, whatever their rate was."""
N_SIGNALS = HORIZONS + 7
DAY_H, MAX_DAYS = np.float32(24), np.float32(3)
QUARTER_H, MAX_QUARTERS = np.float32(6), np.float32(4)
FIXED_POPULARITY = 0.01
"""What popularity counts beside co-visits while nothing else is learned."""
BLOCK = 2048
MAX_DOUBLINGS = 60.0  # of what lies after the reference time

Floats = NDArray[np.float32]

njit = numba.njit(cache=True, nogil=True, error_model="numpy")
_RATES = np.array([1 / half_life for half_life in HALF_LIVES_MS], np.float32)


class _Room(NamedTuple):
    """The columns of items, with room for more of them.

    stamps : (n,) int64, what tells whether an item has changed; rates : (HORIZONS, n) float32
    times : (2, n) int64; popularity : (n,) float32
    """

    stamps: NDArray[np.int64]
    rates: Floats
    times: NDArray[np.int64]
    popularity: Floats

    @classmethod
    def of(cls, n: int) -> "_Room":
        return cls(
            np.full(n, NO_TIME, np.int64),
            np.zeros((HORIZONS, n), np.float32),
            np.full((2, n), NO_TIME, np.int64),
            np.zeros(n, np.float32),
        )

    def longer(self, n: int, kept: int) -> "_Room":
        """Return room for n items, with the first `kept` as they are."""
        new = self.of(n)
        new.stamps[:kept] = self.stamps[:kept]
        new.rates[:, :kept] = self.rates[:, :kept]
        new.times[:, :kept] = self.times[:, :kept]
        new.popularity[:kept] = self.popularity[:kept]
        return new


class Trends:
    """Sums the partitions, and works out only what has changed since. One thread at a time.

    Parameters
    ----------
    surge_bound : see `surge.counted_share`; rates and popularity are of what counts

    Attributes
    ----------
    n_items : items that were read
    """

    def __init__(self, surge_bound: float) -> None:
        self._surge_bound = surge_bound
        self.n_items = self._capacity = 0
        self._reference_ms = 0
        self._seen = Seen()
        self._room = _Room.of(0)
        self._resize(0)

    def _resize(self, n: int) -> None:
        """Have n items: those that were read stay read."""
        kept = min(n, self.n_items)
        if n > self._capacity:
            self._capacity = n + n // 2
            self._room = self._room.longer(self._capacity, kept)
        self._room.stamps[kept:] = NO_TIME
        self.n_items = n
        self._stamps, self._rates = self._room.stamps[:n], self._room.rates[:, :n]
        self._times, self._popularity = self._room.times[:, :n], self._room.popularity[:n]

    def read(self, parts: Parts, n: int, now_ms: int) -> None:
        """Read the first n items, to ask of moments around `now_ms`."""
        far = abs(now_ms - self._reference_ms) > HOUR_MS
        if self._seen.again(parts) and n == self.n_items and not far:
            return
        if n != self.n_items:
            self._resize(n)
        if far:
            self._reference_ms = now_ms
            self._stamps[:] = NO_TIME
        _merge(
            parts.where, self._reference_ms, _RATES, self._surge_bound, self._stamps, self._rates,
            self._times, self._popularity,
        )  # fmt: skip

    def levels(self, now_ms: int, weights: Floats) -> Floats:
        """Weigh the signals of every item at a moment, but for co-visits: (n_items,) float32.

        Parameters
        ----------
        weights : (N_SIGNALS,) float32
        """
        out = np.empty(self.n_items, np.float32)
        _levels(self._decays(now_ms), now_ms, self._rates, self._times, self._popularity, weights, out)
        return out

    def signals(self, rows: NDArray[np.int32], now_ms: NDArray[np.int64]) -> Floats:
        """Signals of items at moments, but for co-visits, which are 0: (B, C, N_SIGNALS) float32.

        Parameters
        ----------
        rows : (B, C) int32, in [0, n_items)
        now_ms : (B,) int64
        """
        out = np.zeros((*rows.shape, N_SIGNALS), np.float32)
        for b, moment in enumerate(now_ms.tolist()):
            _signals(
                self._decays(moment), moment, self._rates, self._times, self._popularity, rows[b], out[b]
            )
        return out

    def rates(self, now_ms: int) -> Floats:
        """Positive events of each item, decayed to a moment: (HORIZONS, n_items) float32."""
        return np.asarray(self._rates * self._decays(now_ms)[:, None])

    def popularity(self, now_ms: int, horizon: int) -> Floats:
        """Logarithms of what is left of positive events at a half-life, as a release is given it: (n_items,).

        Above 0 for every item that had one. What came after the moment counts as if it had just come.
        """
        rates = np.minimum(self._rates[horizon] * self._decays(now_ms)[horizon], self._popularity)
        levels: Floats = np.log1p(np.where(self._popularity > 0, np.maximum(rates, FAINT), np.float32(0)))
        return levels

    def first_ms(self) -> NDArray[np.int64]:
        """Times of items' first events, `NO_TIME` without any: (n_items,) int64 ms, until the next `read`."""
        first: NDArray[np.int64] = self._times[FIRST]
        return first

    def newest_ms(self) -> int:
        """Time of the newest event of all items in ms, `NO_TIME` if there is none."""
        return int(self._times[LAST].max(initial=NO_TIME))

    def _decays(self, now_ms: int) -> Floats:
        doublings = np.minimum(np.float32(self._reference_ms - now_ms) * _RATES, np.float32(MAX_DOUBLINGS))
        decays: Floats = np.exp2(doublings)
        return decays


def popularity_signal(
    horizon: int, popularity: Popularity, trends: Trends, parts: Parts, times_ms: NDArray[np.int64]
) -> Floats:
    """Return the popularity signal of items for requests of about one time: (N,) float32.

    Parameters
    ----------
    horizon : of the release's `SignalConfig`
    popularity : which has read the parts; its levels are the answer where there is no half-life
    trends : is made to read them where there is one
    times_ms : (B,) int64, of which the one in the middle counts: a clock that is wrong misleads nobody else
    """
    if horizon < 0:
        return popularity.levels
    now_ms = int(np.sort(times_ms)[(len(times_ms) - 1) // 2]) if len(times_ms) else 0
    trends.read(parts, len(popularity.levels), now_ms)
    return trends.popularity(now_ms, horizon)


def in_last_hour(parts: Sequence[CoVisitation], row: int, now_ms: int) -> float:
    """Tell about how many positive events an item had in the hour before a moment, over all partitions.

    A steady stream of n events an hour has a rate of ``n / log(2)`` at a half-life of one hour.
    """
    rate, horizon = 0.0, HALF_LIVES_MS.index(HOUR_MS)
    for part in parts:
        if row < part.n_items:
            tables = part.tables
            hours = max(0, now_ms - int(tables.times[row, LAST])) / HOUR_MS
            rate += float(tables.rates[row, horizon]) * 0.5 ** min(hours, 1000.0)
    return rate * math.log(2)


def signals_of(
    parts: Parts, rows: NDArray[np.int32], now_ms: NDArray[np.int64], surge_bound: float
) -> Floats:
    """Signals of a few items as `Trends.signals` has them, without reading any other item.

    Parameters
    ----------
    rows : (B, C) int32, of any items
    now_ms : (B,) int64, in any order
    """
    out = np.zeros((*rows.shape, N_SIGNALS), np.float32)
    _signals_of(parts.where, rows, now_ms, _RATES, surge_bound, out)
    return out


def covisit_signal(values: Floats) -> Floats:
    """The signal of co-visits: their logarithm."""
    signal: Floats = np.log1p(values)
    return signal


@njit
def _merge(  # type: ignore[no-untyped-def]
    where, reference_ms, per_ms, surge_bound, stamps, rates, times, popularity
):
    now = np.empty(BLOCK, np.int64)
    for begin in range(0, len(stamps), BLOCK):
        end = min(begin + BLOCK, len(stamps))
        stamps_of(where, begin, end, now)
        for i in range(end - begin):
            if stamps[begin + i] != now[i]:
                stamps[begin + i] = now[i]
                row = begin + i
                _merge_item(where, reference_ms, per_ms, surge_bound, row, row, rates, times, popularity)


@njit
def _merge_item(  # type: ignore[no-untyped-def]
    where, reference_ms, per_ms, surge_bound, row, at, rates, times, popularity
):
    """Write what all partitions say of a row to the place `at` of the columns."""
    rates[:, at] = 0
    times[:, at] = NO_TIME
    total = 0
    for part in range(len(where)):
        _, counts, of_part, moments = moments_of(where[part])
        if row >= len(counts) or moments[row, LAST] == NO_TIME:
            continue
        total += counts[row]
        first, last = moments[row, FIRST], moments[row, LAST]
        times[FIRST, at] = first if times[FIRST, at] == NO_TIME else min(times[FIRST, at], first)
        times[LAST, at] = max(times[LAST, at], last)
        for h in range(len(per_ms)):
            doublings = min(np.float32(last - reference_ms) * per_ms[h], np.float32(MAX_DOUBLINGS))
            rates[h, at] += of_part[row, h] * np.exp2(doublings)
    _, share = share_of(where, row, surge_bound)
    for h in range(len(per_ms)):
        rates[h, at] *= share
    popularity[at] = total * share


@njit
def _levels(decays, now_ms, rates, times, popularity, weights, out):  # type: ignore[no-untyped-def]
    hours, one = np.float32(1 / HOUR_MS), np.float32(1)
    for i in range(len(out)):
        age = max(np.float32(now_ms - times[FIRST, i]) * hours, np.float32(0))
        idle = max(np.float32(now_ms - times[LAST, i]) * hours, np.float32(0))
        level = weights[AGE] * log_of(one + age) + weights[IDLE] * log_of(one + idle)
        level += weights[POPULAR] * log_of(one + popularity[i])
        level += weights[OLD] * min(age / DAY_H, MAX_DAYS)
        level += weights[QUIET] * min(idle / QUARTER_H, MAX_QUARTERS)
        out[i] = weights[NEW] if times[LAST, i] == NO_TIME else level
    for h in range(len(decays)):
        weight, decay, of_items = weights[h], decays[h], rates[h]
        for i in range(len(out)):
            out[i] += weight * log_of(one + of_items[i] * decay)


@njit
def _signals(decays, now_ms, rates, times, popularity, rows, out):  # type: ignore[no-untyped-def]
    hours, one = np.float32(1 / HOUR_MS), np.float32(1)
    for c in range(len(rows)):
        i = rows[c]
        if times[LAST, i] == NO_TIME:
            out[c, NEW] = one
            continue
        for h in range(len(decays)):
            out[c, h] = log_of(one + rates[h, i] * decays[h])
        age = max(np.float32(now_ms - times[FIRST, i]) * hours, np.float32(0))
        idle = max(np.float32(now_ms - times[LAST, i]) * hours, np.float32(0))
        out[c, AGE], out[c, IDLE] = log_of(one + age), log_of(one + idle)
        out[c, POPULAR] = log_of(one + popularity[i])
        out[c, OLD] = min(age / DAY_H, MAX_DAYS)
        out[c, QUIET] = min(idle / QUARTER_H, MAX_QUARTERS)


@njit
def _signals_of(where, rows, now_ms, per_ms, surge_bound, out):  # type: ignore[no-untyped-def]
    n = rows.shape[1]
    rates, times = np.empty((len(per_ms), n), np.float32), np.empty((2, n), np.int64)
    popularity, decays = np.empty(n, np.float32), np.ones(len(per_ms), np.float32)
    places = np.arange(n).astype(np.int32)
    for b in range(len(rows)):
        for c in range(n):
            _merge_item(where, now_ms[b], per_ms, surge_bound, rows[b, c], c, rates, times, popularity)
        _signals(decays, now_ms[b], rates, times, popularity, places, out[b])


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    trends = Trends(1.0)
    trends.read(Parts(np.zeros((0, WIDTH), np.int64), ()), 1, 0)
    trends.levels(0, np.zeros(N_SIGNALS, np.float32))
    trends.signals(np.zeros((1, 1), np.int32), np.zeros(1, np.int64))
    nothing = Parts(np.zeros((0, WIDTH), np.int64), ())
    signals_of(nothing, np.zeros((1, 1), np.int32), np.zeros(1, np.int64), 1.0)
