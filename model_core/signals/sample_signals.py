"""The per-item signals of a request, as they stood at the time of each training sample.

A worker keeps co-visits and popularities up to date by itself, sums EASE's weights over what a user liked,
and gives all three to the ranker with every request; training replays the log in time order, so a sample
sees what the worker would have known before it, never its own target.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import WEIGHT_UNIT, history_weights, pair_weights, tempered
from model_core.signals.co_visitation_kernels import UNIT as COUNT_UNIT
from model_core.signals.cold_start import (
    ItemFeatures,
    ItemMapping,
    Ridge,
    choose_ridge,
    extend_ease,
    fit_mapping,
    weights_as_new,
)
from model_core.signals.ease import UNIT, Ease, fit_ease

N_SIGNALS = 3
COUNTED = float(COUNT_UNIT * WEIGHT_UNIT)
MAX_ITEMS = 8192  # the replay keeps a dense (n, n) table


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalConfig:
    """How co-visits are counted and read.

    An event pairs its item with those of the user's `window` events before it; the d-th event before adds
    ``pair_decay ** (d - 1)``, times `pair_other` unless both are positive. The signal of item i is
    ``sum_r read_decay ** r * (1 or read_other) * C[h_r, i] / sqrt(popularity_i + 10)`` over the user's
    `read_window` last events h_r, r = 0 the most recent, 1 for a positive one; beside it goes
    ``log1p(popularity_i)``, counting positive events, and EASE's score from all that the user liked.
    """

    window: int = 20
    pair_decay: float = 0.9
    pair_other: float = 0.35
    read_window: int = 20
    read_decay: float = 0.85
    read_other: float = 0.5
    ease_penalty: float = 300.0
    ease_keep: int = 256
    """Weights per item that a release keeps."""
    ease_refits: int = 16
    """How often training refits EASE along the log, so that no sample sees weights that know its target."""

    @property
    def pairing(self) -> dict[str, Any]:
        """How events are paired, as `CoVisitation` takes it."""
        return {"window": self.window, "pair_decay": self.pair_decay, "pair_other": self.pair_other}


@dataclass(frozen=True, slots=True)
class Log:
    """Interactions as rows, in time order.

    users, items : (n,) int32 rows from 0
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
        return Log(
            self.users[:n], self.items[:n], self.actions[:n], self.positive[:n], self.times_ms[:n],
            self.n_users, self.n_items, None if self.positions is None else self.positions[:n],
        )  # fmt: skip


class SignalState:
    """Signals of a log replayed so far, in memory and dense: for training and evaluation.

    The worker's own tables hold the same numbers as long as no item has more neighbours than they keep, and
    no user more events. EASE's weights stay those given, until `use` gives others.
    """

    def __init__(
        self, n_users: int, n_items: int, config: SignalConfig | None = None, ease: Ease | None = None
    ) -> None:
        if n_items > MAX_ITEMS:
            raise ValueError(f"a replay of signals takes at most {MAX_ITEMS} items, got {n_items}")
        config = config or SignalConfig()
        self.config = config
        self.n_items = n_items
        self.counts = np.zeros((n_items, n_items), np.int32)
        self.popularity = np.zeros(n_items, np.float32)
        self.recent = np.full((n_users, max(config.window, config.read_window)), -1, np.int32)
        self.recent_positive = np.zeros(self.recent.shape, np.bool_)
        self.seen = np.zeros((n_users, n_items), np.bool_)
        self.liked = np.zeros((n_users, 16), np.int32)
        self.n_liked = np.zeros(n_users, np.int64)
        self.ease = np.zeros((n_items, n_items), np.float32)
        self.ease_as_new = np.zeros((0, 0), np.float32)
        if ease is not None:
            self.use(ease)
        self._pair = pair_weights(config.window, config.pair_decay, config.pair_other)
        self._read = np.stack(
            [
                history_weights(
                    np.full((1, config.read_window), positive),
                    read_decay=config.read_decay,
                    read_other=config.read_other,
                )[0, ::-1]
                for positive in (False, True)
            ]
        ).astype(np.float64)

    def use(self, ease: Ease, as_new: NDArray[np.float32] | None = None) -> None:
        """Score by these weights from now on; as_new, (n_items, n_items): those of items were they new."""
        if ease.n_items != self.n_items:
            raise ValueError(f"EASE must know {self.n_items} items, got {ease.n_items}")
        self.ease = ease.dense()
        self.ease_as_new = np.zeros((0, 0), np.float32) if as_new is None else as_new

    def fold(self, log: Log, start: int = 0, stop: int | None = None) -> None:
        """Take in log[start:stop]."""
        none = np.full(len(log), -1, np.int64)
        self.replay(log, np.zeros((1, 0), np.int32), none, none, log.items, 0, start=start, stop=stop)

    def replay(
        self,
        log: Log,
        columns: NDArray[np.int32],
        column_of: NDArray[np.int64],
        sample_of: NDArray[np.int64],
        wanted: NDArray[np.int32],
        n_samples: int,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Fold log[start:stop] and note what is known before each event that is a sample.

        Parameters
        ----------
        columns : (g, m) int32
            Groups of item rows whose signals are wanted.
        column_of, sample_of : (n,) int64
            Of each event, its group and its row in the result; -1 = not a sample.
        wanted : (n,) int32
            Item of each sample's column 0.

        Returns
        -------
        signals : (n_samples, 4, 1 + m) float16
            Column 0 is the item wanted, the others are those of the event's group. After the three signals
            comes EASE's of the item were it new; 0 where `use` was not given such weights.
        seen : (n_samples, 1 + m) bool
            Items that the user had met before the event.
        """
        signals = np.zeros((n_samples, N_SIGNALS + 1, 1 + columns.shape[1]), np.float16)
        seen = np.zeros(signals.shape[::2], np.bool_)
        end = len(log) if stop is None else stop
        for begin in range(start, end, 4096):  # numba knows no float16: one stretch at a time in float32
            part = slice(begin, min(begin + 4096, end))
            here = np.flatnonzero(sample_of[part] >= 0)
            rows = sample_of[part][here]
            place = np.full(part.stop - part.start, -1, np.int64)
            place[here] = np.arange(len(here))
            out = np.zeros((len(here), *signals.shape[1:]), np.float32)
            met = np.zeros(out.shape[::2], np.bool_)
            self._make_room(log.users[part][log.positive[part]])
            _replay_covisits(
                self.counts,
                self.popularity,
                self.recent,
                self.recent_positive,
                self.seen,
                log.users[part],
                log.items[part],
                log.positive[part],
                columns,
                column_of[part],
                place,
                wanted[part],
                out,
                met,
                self._pair,
                self._read,
            )
            _replay_ease(
                self.liked, self.n_liked, self.ease, self.ease_as_new,
                np.argsort(log.users[part], kind="stable"),
                log.users[part], log.items[part], log.positive[part],
                columns, column_of[part], place, wanted[part], out,
            )  # fmt: skip
            signals[rows] = out
            seen[rows] = met
        return signals, seen

    def _make_room(self, users: NDArray[np.int32]) -> None:
        """Let each of the users like one more item for each time they are named."""
        needed = int((self.n_liked + np.bincount(users, minlength=len(self.n_liked))).max(initial=0))
        if needed > self.liked.shape[1]:
            grown = np.zeros((len(self.liked), needed + needed // 2), np.int32)
            grown[:, : self.liked.shape[1]] = self.liked
            self.liked = grown

    def read(self, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """Signals of every item for some users as things stand: (len(users), 3, n_items) float32."""
        out = np.empty((len(users), N_SIGNALS, self.n_items), np.float32)
        sums = np.empty(self.n_items)
        for row, user in enumerate(users):
            _sum(self.counts, self.recent[user], self.recent_positive[user], self._read, sums)
            out[row, 0] = tempered(sums, self.popularity)
            liked = self.ease[self.liked[user, : self.n_liked[user]]]
            out[row, 2] = np.maximum(np.rint(liked.astype(np.float64) * UNIT).sum(0), 0.0) / UNIT
        out[:, 1] = np.log1p(self.popularity)
        return out


def refits(
    log: Log, config: SignalConfig, features: ItemFeatures
) -> Iterator[tuple[int, int, Ease, NDArray[np.float32]]]:
    """Cut a log into equal stretches (from, to), each with EASE fitted on what came before it.

    Items not liked so far have the weights that new items have; the last are those of all items were they
    new, (n_items, n_items). How the mapping is regularised is chosen once, on the whole log.
    """
    ridge = choose_ridge(_fit(log, config), features)
    bounds = np.linspace(0, len(log), config.ease_refits + 1).astype(np.int64).tolist()
    for begin, end in pairwise(bounds):
        yield begin, end, *_weigh(_fit(log.first(begin), config), config, features, ridge)


def fit_log(log: Log, config: SignalConfig, features: ItemFeatures) -> Ease:
    """EASE of all of a log; items that nobody likes weigh what new ones do."""
    ease = _fit(log, config)
    return _weigh(ease, config, features, choose_ridge(ease, features))[0]


def map_log(log: Log, config: SignalConfig, features: ItemFeatures) -> ItemMapping:
    """How items that are described later get their weights in `fit_log` of the same log."""
    return fit_mapping(_fit(log, config), features)


def _weigh(
    ease: Ease, config: SignalConfig, features: ItemFeatures, ridge: Ridge
) -> tuple[Ease, NDArray[np.float32]]:
    as_new = weights_as_new(ease, features, ridge)
    unmet = np.flatnonzero(np.diff(ease.bounds) == 0)
    return extend_ease(ease, as_new[:, unmet], unmet, keep=config.ease_keep), as_new


def _fit(log: Log, config: SignalConfig) -> Ease:
    return fit_ease(
        log.users[log.positive],
        log.items[log.positive],
        log.n_items,
        penalty=config.ease_penalty,
        keep=config.ease_keep,
    )


@numba.njit(cache=True)
def _sum(counts, recent, positive, weights, out):  # type: ignore[no-untyped-def]
    """Co-visits with a user's last items, as `co_visitation.sparse_scores` sums them: whole numbers."""
    out[:] = 0
    for back in range(weights.shape[1]):
        item = recent[back]
        if item < 0:
            break
        weight = weights[1 if positive[back] else 0, back]
        for k in range(len(out)):
            out[k] += weight * counts[item, k]


@numba.njit(cache=True)
def _replay_covisits(  # type: ignore[no-untyped-def]
    counts,
    popularity,
    recent,
    recent_positive,
    seen,
    users,
    items,
    positive,
    columns,
    column_of,
    sample_of,
    wanted,
    signals,
    met,
    pair,
    read,
):
    sums = np.empty(len(popularity))
    for event in range(len(users)):
        user, item = users[event], items[event]
        if sample_of[event] >= 0:
            _sum(counts, recent[user], recent_positive[user], read, sums)
            group, sample = columns[column_of[event]], sample_of[event]
            for k in range(len(group) + 1):
                other = wanted[event] if k == 0 else group[k - 1]
                signals[sample, 0, k] = sums[other] / np.sqrt(np.float64(popularity[other]) + 10.0) / COUNTED
                signals[sample, 1, k] = np.log1p(popularity[other])
                met[sample, k] = seen[user, other]
        for back in range(pair.shape[1]):
            other = recent[user, back]
            if other < 0:
                break
            if other != item:
                both = positive[event] and recent_positive[user, back]
                weight = pair[1 if both else 0, back]
                counts[item, other] += weight
                counts[other, item] += weight
        for back in range(recent.shape[1] - 1, 0, -1):
            recent[user, back] = recent[user, back - 1]
            recent_positive[user, back] = recent_positive[user, back - 1]
        recent[user, 0] = item
        recent_positive[user, 0] = positive[event]
        seen[user, item] = True
        popularity[item] += positive[event]


@numba.njit(cache=True)
def _replay_ease(  # type: ignore[no-untyped-def]
    liked,
    n_liked,
    ease,
    as_new,
    order,
    users,
    items,
    positive,
    columns,
    column_of,
    sample_of,
    wanted,
    signals,
):
    """EASE's signals before each sample, user by user: sums over all items that grow as the user likes.

    `order` sorts the events by user, those of a user in time.
    """
    total, total_as_new = np.empty(len(ease)), np.empty(len(as_new))
    last, summed = -1, False
    for event in order:
        user, item = users[event], items[event]
        if user != last:
            last, summed = user, False
        if sample_of[event] >= 0:
            if not summed:  # who has no sample needs no sum
                total[:], total_as_new[:] = 0, 0
                for n in range(n_liked[user]):
                    _add_row(ease, liked[user, n], total)
                    _add_row(as_new, liked[user, n], total_as_new)
                summed = True
            group, sample = columns[column_of[event]], sample_of[event]
            for k in range(len(group) + 1):
                other = wanted[event] if k == 0 else group[k - 1]
                signals[sample, 2, k] = max(total[other], 0.0) / UNIT
                if len(as_new):
                    signals[sample, 3, k] = max(total_as_new[other], 0.0) / UNIT
        if positive[event]:
            known = False
            for n in range(n_liked[user]):
                known = known or liked[user, n] == item
            if not known:
                liked[user, n_liked[user]] = item
                n_liked[user] += 1
                if summed:
                    _add_row(ease, item, total)
                    _add_row(as_new, item, total_as_new)


@numba.njit(cache=True)
def _add_row(weights, row, total):  # type: ignore[no-untyped-def]
    for k in range(len(total)):
        total[k] += np.rint(np.float64(weights[row, k]) * UNIT)
