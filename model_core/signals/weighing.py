"""Learns online how much each signal of an item counts, from what users take.

Of an event, the item taken is held against items drawn at random, by softmax over the weighed signals as they
were before the event; a step goes along the gradient, each weight by its own step (Duchi et al. 2011,
"Adaptive subgradient methods", AdaGrad). With all items drawn this is the likelihood of what was taken.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import Moments
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_scores import read_weights
from model_core.signals.config import SignalConfig
from model_core.signals.horizons import HALF_LIVES_MS, HOUR_MS
from model_core.signals.joint import joint_scores
from model_core.signals.neighbour_groups import NO_TIME
from model_core.signals.parts import Parts, PartsReader
from model_core.signals.pasts import Window
from model_core.signals.popularity import tempers_at, weighed_at
from model_core.signals.trends import (
    COVISITS,
    FIXED_POPULARITY,
    N_SIGNALS,
    POPULAR,
    Trends,
    covisit_signal,
    signals_of,
)

RIVALS = 48  # drawn for each event
STEP = 0.1
FIRST_SQUARES = 1e-2
EVERY_MS = 10_000  # of event time, between two events of a partition that are learned from
MAX_EVENTS = 32  # events of one call that are learned from
LEVEL_SHARE = 0.01  # of an event in the level
MEMORY = 1 - 1 / 5_000  # of an event ago, in the comparison with fixed weights
SURE = 3.0  # deviations that the weights learned must be ahead by
SAME_MS = 5_000  # requests this near to each other are of one moment

njit = numba.njit(cache=True, nogil=True)


def _prior() -> NDArray[np.float64]:
    weights = np.zeros(N_SIGNALS)
    weights[COVISITS], weights[POPULAR] = 4.0, 0.04
    weights[HALF_LIVES_MS.index(6 * HOUR_MS)] = 0.3
    return weights


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the signals, and how they were learned.

    values : (N_SIGNALS,) float64; squares : (N_SIGNALS,) float64, sums of squared gradients
    level : logarithm of the summed odds of all items, on average
    events : that were learned from
    wins, losses : how often only these weights, and only fixed ones, put what was taken above all rivals
    """

    values: NDArray[np.float64] = field(default_factory=_prior)
    squares: NDArray[np.float64] = field(default_factory=lambda: np.full(N_SIGNALS, FIRST_SQUARES))
    level: float = 0.0
    events: int = 0
    wins: float = 0.0
    losses: float = 0.0

    @property
    def trusted(self) -> bool:
        """Whether they are surely better than fixed ones, by a sign test."""
        return self.wins - self.losses > SURE * math.sqrt(self.wins + self.losses + 1)

    def joined(self, other: "Weights") -> "Weights":
        """Average two, by their events."""
        share = other.events / max(1, self.events + other.events)
        return Weights(
            values=(1 - share) * self.values + share * other.values,
            squares=np.maximum(self.squares, other.squares),
            level=(1 - share) * self.level + share * other.level,
            events=max(self.events, other.events),
            wins=(1 - share) * self.wins + share * other.wins,
            losses=(1 - share) * self.losses + share * other.losses,
        )


class Events(NamedTuple):
    """Events to learn from, in the order of the log; the arrays that `CoVisitation.observe` takes.

    items : (n,) int32; positive : (n,) bool; offsets, times : (n,) int64
    windows : (n, W) int32, items of the user before it, most recent first, up to the first -1: what is in
        memory after it says nothing; windows_positive alike
    """

    items: NDArray[np.int32]
    positive: NDArray[np.bool_]
    windows: NDArray[np.int32]
    windows_positive: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]


class Weigher:
    """Learns `weights` from the clicks of a worker's partitions; any thread may give it some.

    Parameters
    ----------
    parts : returns the item statistics of all partitions, which must not have the events that are given yet
    config : how a user's events are read
    """

    def __init__(self, parts: Callable[[], Sequence[CoVisitation]], config: SignalConfig) -> None:
        self.weights = Weights()
        self._parts = parts
        self._config = config
        self._lock = threading.Lock()
        self._reader = PartsReader()
        self._last_ms: dict[int, int] = {}
        self._learned: dict[int, int] = {}

    def learned(self, partition: int) -> int:
        """Offset of the last event of a partition that was learned from, -1 if none."""
        return self._learned.get(partition, -1)

    def take_over(self, partition: int, weights: Weights, offset: int) -> None:
        """Go on with what another has learned, of a partition up to an offset."""
        with self._lock:
            self._learned[partition] = max(self.learned(partition), offset)
            self.weights = self.weights.joined(weights)

    def learn(self, partition: int, events: Events, n_items: int) -> None:
        """Learn from positive events of a partition, the first `MAX_EVENTS` that are `EVERY_MS` apart."""
        with self._lock:
            chosen = self._chosen(partition, events)
            if len(chosen) and n_items > 1:
                self._learn(_some(events, chosen), n_items)

    def _chosen(self, partition: int, events: Events) -> NDArray[np.int64]:
        last_ms = self._last_ms.get(partition, NO_TIME)
        after = self.learned(partition)
        chosen: NDArray[np.int64] = _spaced(events.positive, events.offsets, events.times, after, last_ms)
        if len(chosen):
            newest = chosen[-1]
            self._last_ms[partition] = int(events.times[newest])
            self._learned[partition] = int(events.offsets[newest])
        return chosen

    def _learn(self, events: Events, n_items: int) -> None:
        parts, config = self._reader.read(self._parts()), self._config
        read = read_weights(window=events.windows.shape[1], decay=config.read_decay, other=config.read_other)
        met = Window(events.windows.astype(np.int64), np.where(events.windows_positive, read[1], read[0]))
        near, values = joint_scores(
            parts, *weighed_at(parts, met, config.read_temper), np.ones(n_items), None
        )
        sizes, rows = _drawn(events.items, events.windows, events.offsets, n_items, RIVALS)
        signals = signals_of(parts, rows, events.times, config.surge_bound)
        tempers = tempers_at(parts, rows, config.surge_bound, config.read_temper)
        before = self.weights
        learned, squares = before.values.copy(), before.squares.copy()
        level, wins, losses = before.level, before.wins, before.losses
        for e, size in enumerate(sizes.tolist()):
            mine, near_values = signals[e, :size], values[near.bounds[e] : near.bounds[e + 1], 0]
            _place(rows[e, :size], near.of_request(e), near_values, mine[:, COVISITS])
            mine[:, COVISITS] = covisit_signal((mine[:, COVISITS] / tempers[e, :size]).astype(np.float32))
            odds, first, fixed_first = _step(mine, learned, squares, STEP)
            here = odds + math.log(n_items / size)
            level += max(LEVEL_SHARE, 1 / (1 + before.events + e)) * (here - level)
            wins, losses = MEMORY * wins + (first > fixed_first), MEMORY * losses + (fixed_first > first)
        self.weights = Weights(learned, squares, level, before.events + len(sizes), wins, losses)


def _some(events: Events, chosen: NDArray[np.int64]) -> Events:
    """Return some events, -1 in all of what is no window."""
    windows = events.windows[chosen]
    windows[np.logical_or.accumulate(windows < 0, axis=1)] = -1
    return Events(
        events.items[chosen], events.positive[chosen], windows,
        events.windows_positive[chosen], events.offsets[chosen], events.times[chosen],
    )  # fmt: skip


def moments(
    weights: Weights, trends: Trends, parts: Parts, n_items: int, times_ms: NDArray[np.int64]
) -> Moments | None:
    """Weigh the first n items for requests at some times: None where fixed weights may be as good.

    Parameters
    ----------
    times_ms : (B,) int64
    """
    if not weights.trusted or not len(times_ms):
        return None
    trends.read(parts, n_items, int(times_ms.max()))
    some, of = np.unique(times_ms // SAME_MS, return_inverse=True)
    values = weights.values.astype(np.float32)
    levels = [trends.levels(int(moment) * SAME_MS + SAME_MS // 2, values) for moment in some.tolist()]
    return Moments(np.stack(levels) - np.float32(weights.level), of.astype(np.int64), float(values[COVISITS]))


@njit
def _spaced(positive, offsets, times, after, last_ms):  # type: ignore[no-untyped-def]
    """Find the first `MAX_EVENTS` positive events beyond an offset that are `EVERY_MS` apart: (n,) int64."""
    chosen, n = np.empty(MAX_EVENTS, np.int64), 0
    for at in range(len(times)):
        if positive[at] and offsets[at] > after and abs(times[at] - last_ms) >= EVERY_MS:
            last_ms = times[at]
            chosen[n] = at
            n += 1
            if n == MAX_EVENTS:
                break
    return chosen[:n]


@njit
def _drawn(items, windows, offsets, n_items, rivals):  # type: ignore[no-untyped-def]
    """Draw rivals of each event's item: sizes (n,), and (n, 1 + rivals) rows, the item's own first."""
    rows, sizes = np.zeros((len(items), 1 + rivals), np.int32), np.ones(len(items), np.int64)
    for e in range(len(items)):
        rows[e, 0] = items[e]
        state = np.uint64(offsets[e]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
        for _ in range(rivals):
            # Marsaglia 2003, "Xorshift RNGs".
            state ^= state << np.uint64(13)
            state ^= state >> np.uint64(7)
            state ^= state << np.uint64(17)
            row = np.int32((state >> np.uint64(11)) % np.uint64(n_items))
            known = row == items[e]
            for k in range(windows.shape[1]):
                known |= windows[e, k] == row
            if not known:
                rows[e, sizes[e]] = row
                sizes[e] += 1
    return sizes, rows


@njit
def _place(rows, some, values, out):  # type: ignore[no-untyped-def]
    """Write the values of some ascending rows to where these stand in `rows`, 0 elsewhere."""
    for c in range(len(rows)):
        at = np.searchsorted(some, rows[c])
        out[c] = values[at] if at < len(some) and some[at] == rows[c] else 0.0


@njit
def _step(signals, weights, squares, step):  # type: ignore[no-untyped-def]
    """Learn that the first item was taken and not the others.

    Returns the logarithm of the summed odds, and whether the first was ahead by these weights and by fixed
    ones.
    """
    n, width = signals.shape
    scores, fixed = np.zeros(n), np.zeros(n)
    for c in range(n):
        fixed[c] = np.expm1(signals[c, COVISITS]) + FIXED_POPULARITY * signals[c, POPULAR]
        for s in range(width):
            scores[c] += weights[s] * signals[c, s]
    most = scores.max()
    shares = np.exp(scores - most)
    total = shares.sum()
    for s in range(width):
        gradient = -float(signals[0, s])
        for c in range(n):
            gradient += shares[c] / total * signals[c, s]
        squares[s] += gradient * gradient
        weights[s] -= step * gradient / np.sqrt(squares[s])
    first = n > 1 and scores[0] > scores[1:].max()
    return most + np.log(total), first, n > 1 and fixed[0] > fixed[1:].max()


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    one, row, yes = np.ones(1, np.int64), np.zeros((1, 1), np.int32), np.ones((1, 1), np.bool_)
    part = CoVisitation(neighbours=16, window=1)
    part.grow(np.arange(8, dtype=np.uint64))
    Weigher(lambda: [part], SignalConfig()).learn(0, Events(row[0], yes[0], row, yes, one, one), 8)
