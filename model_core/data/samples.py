"""Training samples: stretches of user histories, each event the target of those before it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.data.vocabulary import Edges
from model_core.network.config import ModelConfig, TrainConfig
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.config import SignalConfig
from model_core.signals.reader import Reader
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

N_CODES = 256  # of actions


@dataclass(frozen=True, slots=True)
class Windows:
    """Stretches of L events; state j (0 = before the first) predicts the event that follows it.

    events : (w, L) int64 rows of the log in time order, -1 = padding on the right
    targets : (w, 1 + L) int64 rows of the log, -1 = no target here
    wanted : (w, 1 + L) int64 rows of the log whose item is to be predicted there: the target's own, or a
        later one of the user
    columns : (w, m) int32 items that the targets of a stretch are told apart from
    """

    events: NDArray[np.int64]
    targets: NDArray[np.int64]
    wanted: NDArray[np.int64]
    columns: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Samples:
    """What is known before each target, in the order of `rows`; column 0 is the item wanted.

    rows : (n,) int64 rows of the log
    index : (len(log),) int64, the sample of a log row, -1 = none
    signals : (n, S + 1, 1 + m) float16 and seen : (n, 1 + m) bool; the last signal is EASE's of the item were
        it new
    entities : (n, A) int64, weights : (n, A) float32: what the user stated, then what they were drawn to
    stated : (n,) int64, how many of the entities were stated
    """

    rows: NDArray[np.int64]
    index: NDArray[np.int64]
    signals: NDArray[np.float16]
    seen: NDArray[np.bool_]
    entities: NDArray[np.int64]
    weights: NDArray[np.float32]
    stated: NDArray[np.int64]


def cut_windows(log: Log, config: ModelConfig, train: TrainConfig, rng: np.random.Generator) -> Windows:
    """Cut every user's events into overlapping stretches, so that each is a target exactly once.

    All but a user's first stretch predict in their second half only: there the history is long. A share
    `train.horizon` of the targets want a positive item that the user met at some later time, any alike: who
    comes back after a while does not go on where they left.
    """
    length, half = config.history_length, max(1, config.history_length // 2)
    order = np.argsort(log.users, kind="stable")
    bounds = np.flatnonzero(np.diff(log.users[order], prepend=-1, append=-1))
    events, targets = [], []
    first_target = int(train.warm_up * len(log))
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        rows = order[begin:end]
        for start in range(0, max(1, len(rows) - half), half):
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
    stacked = np.stack(targets)
    wanted = _look_ahead(log, stacked, train.horizon, rng)
    m = min(train.negatives, log.n_items)
    if m == log.n_items:
        columns = np.tile(np.arange(m, dtype=np.int32), (len(events), 1))
    else:
        columns = np.stack([rng.choice(log.n_items, m, replace=False) for _ in events]).astype(np.int32)
    return Windows(np.stack(events), stacked, wanted, columns)


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
    progress: Callable[[float], None] = lambda done: None,
) -> Samples:
    """Replay the log and note what was known before each target.

    Parameters
    ----------
    stated : (n_users, MAX_STATED) int64, of `model_core.signals.stated`
    progress : is told which share of the targets is done, from 0 to 1
    """
    window_row, place = np.nonzero(windows.targets >= 0)
    rows = windows.targets[window_row, place]
    wanted = log.items[windows.wanted[window_row, place]]
    index = np.full(len(log), -1, np.int64)
    index[rows] = np.arange(len(rows))
    n_columns = 1 + windows.columns.shape[1]
    samples = Samples(
        rows,
        index,
        signals=np.zeros((len(rows), N_SIGNALS + 1, n_columns), np.float16),
        seen=np.zeros((len(rows), n_columns), np.bool_),
        entities=np.zeros((len(rows), config.n_affinities), np.int64),
        weights=np.zeros((len(rows), config.n_affinities), np.float32),
        stated=(stated[log.users[rows]] > 0).sum(1),
    )
    in_time = np.argsort(rows)
    events, counted = UserEvents(log, signals.depth), CovisitReplay(log, signals)
    described = np.ones(log.n_items, np.bool_)
    reader = reader_of(edges, stated, signals, config.history_length, config.n_affinities)
    entities = edges.entities.astype(np.int32)
    for begin, end, ease, as_new in refits(log, signals, features):
        dense = ease.dense()
        first, last = np.searchsorted(rows[in_time], (begin, end))
        for at in range(first, last, BLOCK):
            progress(at / len(rows))
            here = in_time[at : min(at + BLOCK, last)]
            users, moments = log.users[rows[here]], rows[here]
            items = np.concatenate((wanted[here, None], windows.columns[window_row[here]]), axis=1)
            pasts = events.before(users, moments)
            drawn = reader.draw(pasts, log.times_ms[moments], described=described)
            covisits, popularity = counted.before(moments, drawn.window, items)
            samples.signals[here, 0], samples.signals[here, 1] = covisits, popularity
            for signal, weights in ((2, dense), (3, as_new)):
                samples.signals[here, signal] = ease_before(users, drawn, items, weights)
            samples.seen[here] = met_before(pasts, items, described)
            read = reader.users(
                pasts, log.times_ms[moments], drawn, described=described, edges=entities, stated=stated[users]
            )
            samples.entities[here], samples.weights[here] = read["user_entities"], read["user_entity_weights"]
    return samples


def reader_of(
    edges: Edges, stated: NDArray[np.int64], signals: SignalConfig, history_length: int, n_affinities: int
) -> Reader:
    """How a log's users are read: its actions have a release's codes already."""
    return Reader(
        signals,
        history_length=history_length,
        n_affinities=n_affinities,
        n_entities=1 + int(max(edges.entities.max(initial=0), stated.max(initial=0))),
        codes=np.arange(N_CODES),
    )
