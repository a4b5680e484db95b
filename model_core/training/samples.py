"""Training samples: stretches of user histories, each event the target of those before it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.data.vocabulary import Edges
from model_core.inputs.replay import reader_of
from model_core.network.config import ModelConfig, TrainConfig
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import (
    BLOCK,
    N_SIGNALS,
    CovisitReplay,
    Log,
    UserEvents,
    ease_before,
    met_before,
    refits,
)
from model_core.training.stored_rows import StoredRows

SHARED = 4
"""Stretches of one length that are told apart from the same items, in a large catalogue."""
IN_MEMORY = 256_000_000
"""Bytes of samples' signals beyond which they lie in a file."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Windows:
    """Stretches of L events; state j (0 = before the first) predicts the event that follows it.

    events : (w, L) int64 rows of the log in time order, -1 = padding on the right
    targets : (w, 1 + L) int64 rows of the log, -1 = no target here
    wanted : (w, 1 + L) int64 rows of the log whose item is to be predicted there: the target's own, or a
        later one of the user
    columns : (w, m) int32 items that the targets of a stretch are told apart from
    expected : (n_items,) float32, how often each item is among a stretch's columns on average; None = each
        as often
    """

    events: NDArray[np.int64]
    targets: NDArray[np.int64]
    wanted: NDArray[np.int64]
    columns: NDArray[np.int32]
    expected: NDArray[np.float32] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each stretch: (w,) int64."""
        lengths: NDArray[np.int64] = (self.events >= 0).sum(1)
        return lengths


@dataclass(frozen=True, slots=True)
class Samples:
    """Training samples: the state before each target, in the order of `rows`; column 0 is the target item.

    rows : (n,) int64 rows of the log, ascending
    index : (len(log),) int64, the sample of a log row, -1 = none
    signals : (n, S + 1, 1 + m) float16 and seen : (n, 1 + m) bool; the last signal is EASE's of the item were
        it new
    entities : (n, A) int64, weights : (n, A) float32: what the user stated, then what they were drawn to
    stated : (n,) int64, how many of the entities were stated
    """

    rows: NDArray[np.int64]
    index: NDArray[np.int64]
    signals: NDArray[np.float16] | StoredRows
    seen: NDArray[np.bool_] | StoredRows
    entities: NDArray[np.int64]
    weights: NDArray[np.float32]
    stated: NDArray[np.int64]


def cut_windows(log: Log, config: ModelConfig, train: TrainConfig, rng: np.random.Generator) -> Windows:
    """Cut every user's events into overlapping stretches, so that each is a target exactly once.

    All but a user's first stretch predict in their second half only: there the history is long. A share
    `train.horizon` of the targets want a positive item that the user met at some later time, any alike: who
    comes back after a while does not go on where they left. Of a large catalogue `SHARED` stretches one after
    another, of about one length, have the same columns.
    """
    length, half = config.history_length, max(1, config.history_length // 2)
    order = np.argsort(log.users, kind="stable")
    bounds = np.flatnonzero(np.diff(log.users[order], prepend=-1, append=-1))
    events, targets = [], []
    first_target = int(train.warm_up * len(log))
    share = train.most_targets / max(1, len(log) - first_target)
    if share < 1.0:
        logger.warning(
            "of %d targets about %d are learned from; most_targets says so", len(log) - first_target,
            train.most_targets,
        )  # fmt: skip
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        rows = order[begin:end]
        for start in range(0, max(1, len(rows) - half), half):
            if share < 1.0 and rng.random() >= share:
                continue
            window = np.full(length, -1, np.int64)
            part = rows[start : start + length]
            window[: len(part)] = part
            target = np.full(length + 1, -1, np.int64)
            predicted = rows[start : start + length + 1]
            target[1 : len(predicted)] = predicted[1:]
            if start == 0:
                target[0] = predicted[0]
            else:
                target[: half + 1] = -1
            target[target < first_target] = -1
            if (target >= 0).any():
                events.append(window)
                targets.append(target)
    if not events:
        raise ValueError(f"interactions must hold at least one target after the warm-up, got {len(log)} rows")
    large, expected = log.n_items > train.whole_catalogue, None
    if large:
        lot = rng.permutation(len(events))
        order = lot[np.argsort([-(events[row] >= 0).sum() for row in lot], kind="stable")]
        events, targets = [events[row] for row in order], [targets[row] for row in order]
    stacked = np.stack(targets)
    wanted = _look_ahead(log, stacked, train.horizon, rng)
    m = min(train.negatives, log.n_items)
    if large:
        columns, expected = _by_popularity(log, len(events), m, train.popular_negatives, rng)
    elif m == log.n_items:
        columns = np.tile(np.arange(m, dtype=np.int32), (len(events), 1))
    else:
        columns = np.stack([rng.choice(log.n_items, m, replace=False) for _ in events]).astype(np.int32)
    return Windows(np.stack(events), stacked, wanted, columns, expected)


def _by_popularity(
    log: Log, n: int, m: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Draw m columns for each of n stretches, a share of them by popularity, and say what was expected."""
    popular = np.bincount(log.items[log.positive], minlength=log.n_items) ** 0.75
    popular = popular / max(float(popular.sum()), 1.0)
    groups, of_popular = -(-n // SHARED), int(share * m)
    drawn = rng.integers(log.n_items, size=(groups, m))
    if popular.any():
        drawn[:, :of_popular] = np.searchsorted(
            np.cumsum(popular), rng.random((groups, of_popular)) * popular.sum(), side="right"
        ).clip(max=log.n_items - 1)
    else:
        of_popular = 0
    expected = of_popular * popular + (m - of_popular) / log.n_items
    return np.repeat(drawn.astype(np.int32), SHARED, axis=0)[:n], expected.astype(np.float32)


def _look_ahead(
    log: Log, targets: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows wanted at targets: for a share of them a random later positive row of the same user."""
    wanted = targets.copy()
    positive = np.flatnonzero(log.positive)
    order = positive[np.argsort(log.users[positive], kind="stable")]  # positive rows by user, then by time
    ends = np.searchsorted(log.users[order], np.arange(log.n_users), side="right")
    place = log.users[order].astype(np.int64) * len(log) + order
    at = targets[targets >= 0]
    first = np.searchsorted(place, log.users[at].astype(np.int64) * len(log) + at, side="right")
    later = ends[log.users[at]] - first
    ahead = (rng.random(len(at)) < share) & (later > 0)
    chosen = first + (rng.random(len(at)) * later).astype(np.int64)
    wanted[targets >= 0] = np.where(ahead, order[np.where(ahead, chosen, 0)], at)
    return wanted


def collect_samples(
    log: Log,
    windows: Windows,
    edges: Edges,
    stated: NDArray[np.int64],
    features: ItemFeatures,
    config: ModelConfig,
    signals: SignalConfig,
    *,
    folder: Path | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> Samples:
    """Replay the log and note what was known before each target.

    Parameters
    ----------
    stated : (n_users, MAX_STATED) int64, of `model_core.signals.stated_preferences`
    folder : where signals lie that are more than `IN_MEMORY`; that of temporary files when None
    progress : is told which share of the targets is done, from 0 to 1
    """
    window_row, place = np.nonzero(windows.targets >= 0)
    rows = windows.targets[window_row, place]
    in_time = np.argsort(rows)
    rows, window_row, place = rows[in_time], window_row[in_time], place[in_time]
    wanted = log.items[windows.wanted[window_row, place]]
    index = np.full(len(log), -1, np.int64)
    index[rows] = np.arange(len(rows))
    n_columns = 1 + windows.columns.shape[1]
    samples = Samples(
        rows,
        index,
        signals=_room(len(rows), (N_SIGNALS + 1, n_columns), np.float16, folder),
        seen=_room(len(rows), (n_columns,), np.bool_, folder),
        entities=np.zeros((len(rows), config.n_affinities), np.int64),
        weights=np.zeros((len(rows), config.n_affinities), np.float32),
        stated=(stated[log.users[rows]] > 0).sum(1),
    )
    events, counted = UserEvents(log, signals.depth), CovisitReplay(log, signals)
    described = np.ones(log.n_items, np.bool_)
    reader = reader_of(edges, stated, signals, config.history_length, config.n_affinities)
    entities = edges.entities.astype(np.int32)
    for begin, end, ease, as_new in refits(log, signals, features):
        first, last = np.searchsorted(rows, (begin, end))
        for at in range(first, last, BLOCK):
            progress(at / len(rows))
            here = slice(at, min(at + BLOCK, last))
            users, moments = log.users[rows[here]], rows[here]
            items = np.concatenate((wanted[here, None], windows.columns[window_row[here]]), axis=1)
            pasts = events.before(users, moments)
            drawn = reader.draw(pasts, log.times_ms[moments], described=described)
            covisits, popularity = counted.before(moments, drawn.window, items)
            eased = [ease_before(users, drawn, items, weights) for weights in (ease, as_new)]
            samples.signals[here] = np.stack((covisits, popularity, *eased), 1).astype(np.float16)
            samples.seen[here] = met_before(pasts, items, described)
            read = reader.users(
                pasts, log.times_ms[moments], drawn, described=described, edges=entities, stated=stated[users]
            )
            samples.entities[here], samples.weights[here] = read["user_entities"], read["user_entity_weights"]
    return samples


def _room(
    n: int, shape: tuple[int, ...], dtype: type[np.generic], folder: Path | None
) -> "NDArray[Any] | StoredRows":
    size = n * int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.zeros((n, *shape), dtype) if size <= IN_MEMORY else StoredRows(n, shape, dtype, folder=folder)
