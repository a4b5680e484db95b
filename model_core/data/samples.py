"""Training samples: stretches of user histories, each event the target of those before it."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.data.vocabulary import Edges
from model_core.network.config import ModelConfig, TrainConfig
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.sample_signals import N_SIGNALS, Log, SignalConfig, SignalState, refits
from model_core.signals.stated import join_stated

AFFINITY_HALF_LIFE_MS = 30 * 86_400_000
AFFINITY_HISTORY = 50  # positive events that a user's affinities are drawn from


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
) -> Samples:
    """Replay the log and note what was known before each target.

    Parameters
    ----------
    stated : (n_users, MAX_STATED) int64, of `model_core.signals.stated`
    """
    window_row, place = np.nonzero(windows.targets >= 0)
    rows = windows.targets[window_row, place]
    index = np.full(len(log), -1, np.int64)
    index[rows] = np.arange(len(rows))
    column_of = np.full(len(log), -1, np.int64)
    column_of[rows] = window_row
    wanted = np.zeros(len(log), np.int32)
    wanted[rows] = log.items[windows.wanted[window_row, place]]
    state = SignalState(log.n_users, log.n_items, signals)
    values = np.zeros((len(rows), N_SIGNALS + 1, 1 + windows.columns.shape[1]), np.float16)
    seen = np.zeros(values.shape[::2], np.bool_)
    for begin, end, ease, as_new in refits(log, signals, features):
        state.use(ease, as_new)
        here = np.flatnonzero((rows >= begin) & (rows < end))
        sample_of = np.full(len(log), -1, np.int64)
        sample_of[rows[here]] = np.arange(len(here))
        values[here], seen[here] = state.replay(
            log, windows.columns, column_of, sample_of, wanted, len(here), start=begin, stop=end
        )
    near = affinities(log, rows, edges, config.n_affinities)
    entities, weights = join_stated(stated[log.users[rows]], *near)
    said = (stated[log.users[rows]] > 0).sum(1)
    return Samples(rows, index, values, seen, entities, weights, said)


def affinities(
    log: Log, rows: NDArray[np.int64], edges: Edges, n_affinities: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Entities that a user's recent positive items are linked to, before each of some events.

    An edge weighs ``2 ** -(age / half life)``; an entity, the sum over its edges; the heaviest come first.

    Returns
    -------
    entities : (len(rows), A) int64 release rows, 0 = padding
    weights : (len(rows), A) float32
    """
    order = np.argsort(log.users, kind="stable")
    place = np.empty(len(log), np.int64)
    place[order] = np.arange(len(log))
    entities = np.zeros((len(rows), n_affinities), np.int64)
    weights = np.zeros((len(rows), n_affinities), np.float32)
    n_entities = int(edges.entities.max(initial=0)) + 1
    _affinities(
        log.users[order],
        log.items[order],
        log.positive[order],
        log.times_ms[order],
        place[rows],
        edges.entities,
        n_entities,
        AFFINITY_HISTORY,
        float(AFFINITY_HALF_LIFE_MS),
        entities,
        weights,
    )
    return entities, weights


@numba.njit(cache=True)
def _affinities(  # type: ignore[no-untyped-def]
    users, items, positive, times, places, edges, n_entities, history, half_life, entities, weights
):
    total = np.zeros(n_entities, np.float32)
    touched = np.empty(history * edges.shape[1], np.int64)
    for sample in range(len(places)):
        here = places[sample]
        n_touched = 0
        found = 0
        back = here - 1
        while back >= 0 and users[back] == users[here] and found < history:
            if positive[back]:
                found += 1
                weight = np.float32(2.0 ** (-(times[here] - times[back]) / half_life))
                for k in range(edges.shape[1]):
                    entity = edges[items[back], k]
                    if entity > 0:
                        if total[entity] == 0:
                            touched[n_touched] = entity
                            n_touched += 1
                        total[entity] += weight
            back -= 1
        for rank in range(min(entities.shape[1], n_touched)):
            best, heaviest = -1, np.float32(0)
            for k in range(n_touched):
                entity = touched[k]
                weight = total[entity]
                if weight > heaviest or (weight == heaviest and weight > 0 and entity < best):
                    best, heaviest = entity, weight
            if best < 0:
                break
            entities[sample, rank] = best
            weights[sample, rank] = heaviest
            total[best] = 0
        for k in range(n_touched):
            total[touched[k]] = 0
