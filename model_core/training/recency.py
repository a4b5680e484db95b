"""Tells by what ranks best on later events how fast popularity fades, and whether order counts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import dense_signals
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import Replay
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.horizons import HALF_LIVES_MS, HORIZONS
from model_core.signals.sample_signals import Log
from model_core.training.balance import MIN_EVENTS, TOP, most_rows, spread, unmet

FLOOR = np.float32(np.exp(-3.0))  # added to a signal before its logarithm, as a ranker does to begin with
SHARES = (0.0, 0.2, 0.5, 1.0, 2.0)  # of popularity, beside co-visits
SURE = 2.0  # standard errors that a choice must be ahead by


def with_half_life(config: SignalConfig, corpus: Corpus, log: Log, since: int) -> SignalConfig:
    """Return the config with the half-life of popularity that ranks best from row `since` of the log on.

    What is ranked by is co-visits and popularity, in the best of some proportions; all events count alike
    unless a half-life is surely better, by NDCG@10 before each positive event.
    """
    rows = _asked(log, since)
    if len(rows) < MIN_EVENTS:
        return config
    chosen = _surely_best(_reached(config, corpus, log, rows, range(1 + HORIZONS)))
    return replace(config, popularity_half_life_ms=HALF_LIVES_MS[chosen - 1]) if chosen else config


def order_ranks_better(config: SignalConfig, corpus: Corpus, log: Log, since: int) -> bool:
    """Return whether co-visits in order rank surely better from row `since` of the log on, as above."""
    rows = _asked(log, since)
    if config.ordered() == config or len(rows) < MIN_EVENTS:
        return False
    level = [1 + config.horizon]
    reached = [_reached(one, corpus, log, rows, level)[0] for one in (config, config.ordered())]
    return _surely_best(np.stack(reached)) == 1


def _asked(log: Log, since: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(unmet(log))
    return spread(rows[rows >= since], most_rows(log))


def _surely_best(reached: NDArray[np.float32]) -> int:
    """Place of the best choice, 0 where it is not surely ahead of the first one.

    Parameters
    ----------
    reached : (choices, shares, n), of which each choice has its best share
    """
    best = np.stack([of_one[of_one.mean(1).argmax()] for of_one in reached])
    chosen = int(best.mean(1).argmax())
    ahead = best[chosen] - best[0]
    return chosen if ahead.mean() > SURE * ahead.std() / ahead.size**0.5 else 0


def _reached(
    config: SignalConfig, corpus: Corpus, log: Log, rows: NDArray[np.int64], levels: Sequence[int]
) -> NDArray[np.float32]:
    """NDCG@10 before each row, by some of `Replay.levels` and share of popularity: (levels, shares, n)."""
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
        popular = np.log(FLOOR + replay.levels(int(now_ms[0]))[levels])
        scores = near + np.array(SHARES, np.float32)[:, None] * popular[:, None]
        place = (scores >= scores[..., log.items[row], None]).sum(-1) - 1
        out.append(np.where(place < TOP, 1.0 / np.log2(2.0 + place), 0.0))
    return np.stack(out, axis=-1).astype(np.float32)
