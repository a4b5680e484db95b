"""Chooses the half-life of popularity by what ranks best on later events."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import dense_signals
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import Replay
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.horizons import HALF_LIVES_MS
from model_core.signals.sample_signals import Log
from model_core.training.balance import MIN_EVENTS, TOP, most_rows, spread, unmet

FLOOR = np.float32(np.exp(-3.0))  # added to a signal before its logarithm, as a ranker does to begin with
SHARES = (0.0, 0.2, 0.5, 1.0, 2.0)  # of popularity, beside co-visits
SURE = 2.0  # standard errors that a half-life must be ahead by


def with_half_life(config: SignalConfig, corpus: Corpus, log: Log, since: int) -> SignalConfig:
    """Return the config with the half-life of popularity that ranks best from row `since` of the log on.

    What is ranked by is co-visits and popularity, in the best of some proportions; all events count alike
    unless a half-life is surely better, by NDCG@10 before each positive event.
    """
    rows = np.flatnonzero(unmet(log))
    rows = spread(rows[rows >= since], most_rows(log))
    if len(rows) < MIN_EVENTS:
        return config
    reached = _reached(config, corpus, log, rows)  # (1 + HORIZONS, shares, n)
    best = np.stack([of_one[of_one.mean(1).argmax()] for of_one in reached])
    chosen = int(best.mean(1).argmax())
    ahead = best[chosen] - best[0]
    if chosen == 0 or ahead.mean() <= SURE * ahead.std() / len(rows) ** 0.5:
        return config
    return replace(config, popularity_half_life_ms=HALF_LIVES_MS[chosen - 1])


def _reached(config: SignalConfig, corpus: Corpus, log: Log, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """NDCG@10 before each row, by half-life (none first) and share of popularity."""
    nothing = Ease(np.zeros(log.n_items + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    replay = Replay(
        log, corpus.edges, corpus.stated, history_length=1, n_affinities=1, signals=config, ease=nothing
    )
    out = []
    for row in rows.tolist():
        replay.advance(row)
        user, now_ms = log.users[row : row + 1], log.times_ms[row : row + 1]
        near = np.log(FLOOR + dense_signals(replay.requests(user, now_ms))[0, 0])
        near[replay.met(user)[0]] = -np.inf
        levels = np.log(FLOOR + replay.levels(int(now_ms[0])))
        scores = near + np.array(SHARES, np.float32)[:, None] * levels[:, None]
        place = (scores >= scores[..., log.items[row], None]).sum(-1) - 1
        out.append(np.where(place < TOP, 1.0 / np.log2(2.0 + place), 0.0))
    return np.stack(out, axis=-1).astype(np.float32)
