"""The per-item signals of a request, as they stood at the time of each training sample.

A worker keeps co-visits and popularities up to date by itself, sums EASE's weights over what a user liked,
and gives all three to the ranker with every request; training replays the log in time order, so a sample
sees what the worker would have known before it, never its own target.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.robust import influence
from model_core.robust.surge import counted_share
from model_core.signals import co_visitation_kernels as kernels
from model_core.signals import co_visitation_reads as reads
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_scores import tempered
from model_core.signals.cold_start import (
    ItemFeatures,
    ItemMapping,
    Ridge,
    choose_ridge,
    fit_mapping,
    weights_as_new,
)
from model_core.signals.config import SignalConfig
from model_core.signals.ease import UNIT, Ease, fit_ease
from model_core.signals.horizons import FAINT, HALF_LIVES_MS, RECENT
from model_core.signals.neighbour_groups import FIRST, LAST, Tables
from model_core.signals.pasts import Pasts, Window
from model_core.signals.popularity import tempers, weighed
from model_core.signals.reader import Drawn

N_SIGNALS = 3
BLOCK = 4096

njit = numba.njit(cache=True, nogil=True)


@dataclass(frozen=True, slots=True)
class Log:
    """Interactions as rows, in time order.

    users, items : (n,) int32 rows from 0; items from `n_items` on are not described
    actions : (n,) int64 codes from 1 (0 = unknown)
    positive : (n,) bool
    times_ms : (n,) int64
    positions : (n,) int64, where in a slate the item stood, -1 = in none; None = all so
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    actions: NDArray[np.int64]
    positive: NDArray[np.bool_]
    times_ms: NDArray[np.int64]
    n_users: int
    n_items: int
    positions: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def first(self, n: int) -> "Log":
        """Return the first n events; rows of users and items stay as they are."""
        return self.part(slice(n))

    def part(self, rows: "slice | NDArray[np.bool_]") -> "Log":
        """Return some of the events, in their order; rows of users and items stay as they are."""
        return Log(
            self.users[rows], self.items[rows], self.actions[rows], self.positive[rows], self.times_ms[rows],
            self.n_users, self.n_items, None if self.positions is None else self.positions[rows],
        )  # fmt: skip


class UserEvents:
    """A log by user: what somebody had done before any of its rows, `depth` events at most."""

    def __init__(self, log: Log, depth: int) -> None:
        self._log = log
        self._depth = depth
        self._actions = log.actions.astype(np.uint8)
        self._order = np.argsort(log.users, kind="stable")
        self._bounds = np.searchsorted(log.users[self._order], np.arange(log.n_users + 1))

    def before(self, users: NDArray[np.int32], rows: NDArray[np.int64]) -> Pasts:
        """Return what each of some users had done before a row of the log: (B,) both."""
        bounds, events = _events_before(self._order, self._bounds, users, rows, self._depth)
        log = self._log
        return Pasts(
            bounds, log.items[events], self._actions[events], log.positive[events], log.times_ms[events]
        )


class CovisitReplay:
    """Co-visits and popularity of a log, counted as a worker counts them, up to `position`.

    Parameters
    ----------
    keys : (n,) uint64, of the items, where counters may run out as those of a worker do
    """

    def __init__(self, log: Log, config: SignalConfig, *, keys: NDArray[np.uint64] | None = None) -> None:
        self.log = log
        self.position = 0
        self.counts = CoVisitation(neighbours=config.neighbours, **config.pairing)
        self._horizon, self._surge_bound = config.horizon, config.surge_bound
        self._read_temper = config.read_temper
        n = max(log.n_items, int(log.items.max(initial=-1)) + 1)
        self.counts.grow(np.arange(n, dtype=np.uint64) if keys is None else keys)
        self._last = np.full((log.n_users, config.window), -1, np.int32)
        self._last_positive = np.zeros(self._last.shape, np.bool_)
        self._last_counted = np.ones(self._last.shape, np.bool_)
        self._counted = influence.counted(
            log.users, log.items, log.positive, log.times_ms, log.n_users, self.counts.bound
        )

    def advance(self, position: int) -> None:
        """Count the log up to (not with) row `position`."""
        none, nobody = (
            np.zeros((0, 1), np.int64),
            Window(np.zeros((0, 1), np.int64), np.zeros((0, 1), np.int64)),
        )
        self._count(
            position, none[:, 0], nobody, none.astype(np.int32), none.astype(np.float64), none,
            none.astype(np.float64), none.astype(np.float32),
        )  # fmt: skip

    def before(
        self, rows: NDArray[np.int64], window: Window, items: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Signals of co-visits and popularity of some items before each of some rows of the log: (n, m) both.

        Parameters
        ----------
        rows : (n,) int64, ascending, none before `position`; window : of the users of these rows
        items : (n, m) int32
        """
        sums, likes = np.empty(items.shape), np.empty(items.shape, np.int64)
        shares, left = np.empty(items.shape), np.empty(items.shape, np.float32)
        end = int(rows[-1]) + 1 if len(rows) else self.position
        self._count(end, rows, window, items, sums, likes, shares, left)
        return tempered(sums, tempers(likes, shares, self._read_temper)), np.log1p(left)

    def _count(
        self,
        end: int,
        rows: NDArray[np.int64],
        window: Window,
        items: NDArray[np.int32],
        sums: NDArray[np.float64],
        likes: NDArray[np.int64],
        shares: NDArray[np.float64],
        left: NDArray[np.float32],
    ) -> None:
        if end < self.position:
            raise ValueError(f"position must be at least {self.position}, got {end}")
        log, done = self.log, 0
        while self.position < end:
            self.position, done = _count_and_read(
                self.counts.tables, self.counts.pair_weights, self._last, self._last_positive,
                self._last_counted, log.users, log.items, log.positive, log.times_ms, self._counted,
                self.position, end, self.counts.neighbours, self._horizon, self._surge_bound,
                self._read_temper, rows, *window, items, sums, likes, shares, left, done,
            )  # fmt: skip
            self.counts.changes += 1
            if self.position < end:
                self.counts.make_room()


def ease_before(
    users: NDArray[np.int32],
    drawn: Drawn,
    items: NDArray[np.int32],
    weights: Ease,
) -> NDArray[np.float32]:
    """EASE's score of some items for each of some pasts, as `Ease.sparse_scores` has it: (n, m) float32.

    Parameters
    ----------
    users : (n,) int32, whose pasts these are; of one user they differ little
    items : (n, m) int32
    """
    out = np.empty(items.shape, np.float32)
    _carry_sums(
        users, np.argsort(users, kind="stable"), drawn.liked_bounds, drawn.liked,
        weights.bounds, weights.items, weights.weights, items, out,
    )  # fmt: skip
    return out


def met_before(pasts: Pasts, items: NDArray[np.int32], described: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of some items each past holds: (n, m) bool."""
    out = np.empty(items.shape, np.bool_)
    _met(pasts.bounds, pasts.items, len(described), items, out)
    return out


def refits(log: Log, config: SignalConfig, features: ItemFeatures) -> Iterator[tuple[int, int, Ease, Ease]]:
    """Cut a log into equal stretches (from, to), each with EASE fitted on what came before it.

    Items not liked so far have the weights that new items have; the last are those of all items were they
    new. How the mapping is regularised is chosen once, on the whole log.
    """
    ridge = choose_ridge(fit_known(log, config), features)
    bounds = np.linspace(0, len(log), config.ease_refits + 1).astype(np.int64).tolist()
    for begin, end in pairwise(bounds):
        yield begin, end, *_weigh(fit_known(log.first(begin), config), config, features, ridge)


def fit_log(log: Log, config: SignalConfig, features: ItemFeatures) -> Ease:
    """EASE of all of a log; items that nobody likes weigh what new ones do."""
    return with_unmet(fit_known(log, config), config, features)


def with_unmet(ease: Ease, config: SignalConfig, features: ItemFeatures) -> Ease:
    """Return the weights, with those that items that nobody likes have as new ones."""
    return _weigh(ease, config, features, choose_ridge(ease, features))[0]


def map_log(log: Log, config: SignalConfig, features: ItemFeatures) -> ItemMapping:
    """Fit the mapping from items' features to weights in `fit_log` of the same log."""
    return fit_mapping(fit_known(log, config), features)


def _weigh(ease: Ease, config: SignalConfig, features: ItemFeatures, ridge: Ridge) -> tuple[Ease, Ease]:
    as_new = weights_as_new(ease, features, ridge)
    unmet = np.flatnonzero(np.diff(ease.bounds) == 0)
    return ease.joined(as_new.on(unmet, keep=config.ease_keep)), as_new


def fit_known(log: Log, config: SignalConfig) -> Ease:
    """EASE of all of a log, of the items that somebody likes."""
    liked = log.positive & (log.items < log.n_items)
    return fit_ease(
        log.users[liked],
        log.items[liked],
        log.n_items,
        penalty=config.ease_penalty,
        keep=config.ease_keep,
        low_pass_share=config.low_pass,
        full_likes=config.full_likes,
        near=config.ease_near,
    )


@njit
def _events_before(  # type: ignore[no-untyped-def]
    order, user_bounds, users, rows, depth
):
    bounds = np.zeros(len(users) + 1, np.int64)
    first = np.empty(len(users), np.int64)
    for b in range(len(users)):
        begin, end = user_bounds[users[b]], user_bounds[users[b] + 1]
        end = begin + np.searchsorted(order[begin:end], rows[b])
        first[b] = max(begin, end - depth)
        bounds[b + 1] = bounds[b] + end - first[b]
    events = np.empty(bounds[-1], np.int64)
    for b in range(len(users)):
        for k in range(bounds[b + 1] - bounds[b]):
            events[bounds[b] + k] = order[first[b] + k]
    return bounds, events


@njit
def _count_and_read(  # type: ignore[no-untyped-def]
    t: Tables, pair, last, last_positive, last_counted, users, log_items, positive, times, counted, begin,
    end, neighbours, horizon, surge_bound, read_temper, rows, histories, weights, items, sums, likes, shares,
    left, done,
):  # fmt: skip
    """Count the events from `begin` on, and note what is known before each of `rows` from `done` on.

    `left` is what is left at a horizon of the likes that count, all of them at -1.

    Returns where it stopped, short of the end when groups run out, and how many rows are done.
    """
    total = np.zeros(len(t.start))
    amounts, others = (
        np.empty(histories.shape[1] * neighbours),
        np.empty(histories.shape[1] * neighbours, np.int32),
    )
    bounds, offset, time = np.empty(2, np.int64), np.empty(1, np.int64), np.empty(1, np.int64)
    window = np.empty((1, last.shape[1]), np.int32)
    amount_of = np.empty((1, histories.shape[1]))
    for event in range(begin, end):
        if done < len(rows) and rows[done] == event:
            for k in range(histories.shape[1]):
                met = histories[done, k]
                likes_met = t.popularity[met] if 0 <= met < len(t.popularity) else 0
                amount_of[0, k] = weighed(weights[done, k], likes_met, read_temper)
            found = reads.gather_weighted(
                t, histories[done : done + 1], amount_of, bounds, others, amounts, 0
            )
            for k in range(found):
                total[others[k]] += amounts[k]
            for k in range(items.shape[1]):
                sums[done, k] = total[items[done, k]]
                likes[done, k] = t.popularity[items[done, k]]
                shares[done, k] = _share(t, items[done, k], surge_bound)
                left[done, k] = _left(t, items[done, k], times[event], horizon, shares[done, k])
            for k in range(found):
                total[others[k]] = 0.0
            done += 1
        user, offset[0], time[0] = users[event], event, times[event]
        for back in range(last.shape[1]):  # an event is not paired with its own item, nor with what is put so
            window[0, back] = last[user, back] if last_counted[user, back] else log_items[event]
        if counted[event] and not kernels.observe(
            t, log_items[event : event + 1], positive[event : event + 1], window,
            last_positive[user : user + 1], offset, time, pair, 0,
        ):  # fmt: skip
            return event, done
        for back in range(last.shape[1] - 1, 0, -1):
            last[user, back] = last[user, back - 1]
            last_positive[user, back] = last_positive[user, back - 1]
            last_counted[user, back] = last_counted[user, back - 1]
        last[user, 0] = log_items[event]
        last_positive[user, 0] = positive[event]
        last_counted[user, 0] = counted[event]
    return end, done


@njit
def _share(t: Tables, item, surge_bound):  # type: ignore[no-untyped-def]
    """Share of an item's likes that counts, as `popularity.share_of` has it."""
    first, last = t.times[item, FIRST], t.times[item, LAST]
    return counted_share(t.popularity[item], t.rates[item, RECENT], first, last, surge_bound)


@njit
def _left(t: Tables, item, time, horizon, share):  # type: ignore[no-untyped-def]
    """Positive events of an item that count, decayed to a moment, as `Trends.popularity` has them."""
    if horizon < 0 or t.popularity[item] == 0:
        return np.float32(t.popularity[item] * share)
    halvings = np.float32(max(0, time - t.times[item, LAST])) * np.float32(1 / HALF_LIVES_MS[horizon])
    return max(np.float32(t.rates[item, horizon] * share) * np.exp2(-halvings), FAINT)


@njit
def _carry_sums(  # type: ignore[no-untyped-def]
    users, order, bounds, liked, weight_bounds, weight_items, weights, items, out
):
    """Sums over distinct liked items, of one past from those of the one before where both are of one user.

    `order` sorts the pasts by user. What is summed are whole numbers, so taking away leaves what was.
    """
    size = len(weight_bounds) - 1
    total = np.zeros(size)
    inside = np.zeros(size, np.int64)  # 1 + the last past that an item was liked in; 0 = not summed
    summed, n = np.empty(size, np.int32), 0
    user = -1
    for past in order:
        if users[past] != user:
            user = users[past]
            for k in range(n):
                _add_row(weight_bounds, weight_items, weights, summed[k], -1.0, total)
                inside[summed[k]] = 0
            n = 0
        for at in range(bounds[past], bounds[past + 1]):
            item = liked[at]
            if inside[item] == 0:
                _add_row(weight_bounds, weight_items, weights, item, 1.0, total)
                summed[n] = item
                n += 1
            inside[item] = past + 1
        kept = 0
        for k in range(n):
            if inside[summed[k]] == past + 1:
                summed[kept] = summed[k]
                kept += 1
            else:
                _add_row(weight_bounds, weight_items, weights, summed[k], -1.0, total)
                inside[summed[k]] = 0
        n = kept
        for k in range(items.shape[1]):
            out[past, k] = max(total[items[past, k]], 0.0) / UNIT


@njit
def _add_row(bounds, items, weights, row, sign, total):  # type: ignore[no-untyped-def]
    for k in range(bounds[row], bounds[row + 1]):
        total[items[k]] += sign * np.rint(np.float64(weights[k]) * UNIT)


@njit
def _met(bounds, past_items, n_items, items, out):  # type: ignore[no-untyped-def]
    last = np.full(n_items, -1, np.int64)
    for past in range(len(bounds) - 1):
        for k in range(bounds[past], bounds[past + 1]):
            if past_items[k] < n_items:
                last[past_items[k]] = past
        for k in range(items.shape[1]):
            out[past, k] = last[items[past, k]] == past
