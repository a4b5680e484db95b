"""What the signals that every score is given are worth without any network: the least that a model must beat.

A weighted sum of their logarithms; the weights are those that rank best, by NDCG@10, on the tenth of the
interactions that comes last before the part that is measured.
"""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import dense_signals
from model_core.evaluation.evaluate import TOP, future, measure
from model_core.evaluation.topn import top_items
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import Replay, item_features
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import N_SIGNALS, fit_log

Weights = tuple[float, ...]
GRID = tuple(w for w in product((0.0, 0.1, 0.3, 0.6, 1.0), repeat=N_SIGNALS) if max(w) == 1.0)
CHOOSING = 0.1
FLOOR = np.float32(np.exp(-3.0))  # added to a signal before its logarithm, as a ranker does to begin with


def at_split(corpus: Corpus, config: SignalConfig, split: int) -> tuple[Weights, dict[str, float]]:
    """Weights chosen before row `split`, and metrics of users asked there for what they like later."""
    before = _ask_at(corpus, config, int((1.0 - CHOOSING) * split), split)
    best = max(GRID, key=lambda weights: before(weights)["ndcg@10"])
    return best, _ask_at(corpus, config, split, None)(best)


def _ask_at(
    corpus: Corpus, config: SignalConfig, split: int, stop: int | None
) -> Callable[[Weights], dict[str, float]]:
    truth = future(corpus.log, split, stop=stop)
    replay = _replay(corpus, config, split)
    shaped, met = np.log(FLOOR + _signals(replay, truth.users)), replay.met(truth.users)

    def reached(weights: Weights) -> dict[str, float]:
        scores = np.tensordot(np.array(weights, np.float32), shaped, (0, 1))
        return measure(top_items(scores, met, TOP), truth.relevant)

    return reached


def prequential(
    corpus: Corpus, config: SignalConfig, split: int, *, every: int = 1
) -> tuple[Weights, NDArray[np.bool_]]:
    """Weights chosen before row `split`, and whether each n-th positive event after it was in the ten."""
    before = int((1.0 - CHOOSING) * split)
    total = np.zeros(len(GRID))
    for places in _places(corpus, config, GRID, before, split, 1):
        total += np.where(places < TOP, 1.0 / np.log2(2.0 + places), 0.0)
    best = GRID[int(total.argmax())]
    places = np.concatenate(list(_places(corpus, config, (best,), split, len(corpus.log), every)))
    return best, places < TOP


def _places(
    corpus: Corpus, config: SignalConfig, grid: tuple[Weights, ...], start: int, stop: int, every: int
) -> Iterator[NDArray[np.int64]]:
    """Place of each n-th positive event's item, by each of the weights, before the event: (len(grid),)."""
    log, weights = corpus.log, np.array(grid, np.float32)
    replay = _replay(corpus, config, start)
    for event in (start + np.flatnonzero(log.positive[start:stop]))[::every].tolist():
        replay.advance(event)
        user, item = log.users[event : event + 1], log.items[event]
        scores = weights @ np.log(FLOOR + _signals(replay, user)[0])
        scores[:, replay.met(user)[0]] = -np.inf  # who met the item is not shown it
        yield (scores >= scores[:, item, None]).sum(1) - 1


def _signals(replay: Replay, users: NDArray[np.int32]) -> NDArray[np.float32]:
    """Signals of every item: (n, N_SIGNALS, n_items)."""
    return dense_signals(replay.requests(users, np.zeros(len(users), np.int64)))


def _replay(corpus: Corpus, config: SignalConfig, split: int) -> Replay:
    ease = fit_log(corpus.log.first(split), config, item_features(corpus))
    replay = Replay(
        corpus.log, corpus.edges, corpus.stated, history_length=1, n_affinities=1, signals=config, ease=ease
    )
    replay.advance(split)
    return replay
