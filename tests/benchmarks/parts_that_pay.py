"""What co-visits and popularity add to a release's linear term: by what training sees, and by what is asked.

    python -m tests.benchmarks.parts_that_pay --until 0.8
    python -m tests.benchmarks.parts_that_pay --random 2020

A training weighs the parts of a score for users who come back by likes of its last tenth that it holds back
(`model_core.training.balance`), with EASE of what came before. Whether what pays there pays on the test
depends on what the test asks for: likes that come later (`--until`), or a random tenth of each user's, early
ones among them (`--random`, the split of `quality_topn`). No network is trained: the parts are the signals,
weighed as an untrained ranker weighs them, times the gains named. Items that nobody has liked are left out.
Differences are paired over users, 95 %.
"""

from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from model_core.data.batches import POPULARITY, dense_signals
from model_core.data.datasets import Dataset, Interactions
from model_core.evaluation.evaluate import TOP, Truth, future
from model_core.evaluation.topn import paired_difference, ranking_metrics, top_items
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.inputs.replay import Replay, item_features
from model_core.network.config import ModelConfig
from model_core.network.ranker import AWAY_S, SIGNAL_WEIGHTS
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log, fit_log
from model_core.training.balance import hold_back
from model_core.training.linear import with_linear
from streams.settings import Settings
from tests.benchmarks.inputs import DataFolder, faults_told, read_data
from tests.benchmarks.random_split import random_split
from tests.benchmarks.signals_alone import CHOOSING, FLOOR

GAINS = {
    "EASE": (0.0, 0.1, 1.0),
    "EASE and popularity": (0.0, 1.0, 1.0),
    "all, co-visits a quarter": (0.25, 1.0, 1.0),
    "all, co-visits a half": (0.5, 1.0, 1.5),
}
"""Of co-visits, popularity and EASE; the first one is what the others are held against."""
Barred = NDArray[np.bool_]


class NoTexts:
    """Stands for a text encoder: texts only place items that nobody has liked."""

    name, fingerprint = "none", ""

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Give every text the same vector."""
        return np.ones((len(texts), 1), np.float32)


def main(
    data: DataFolder = None,
    until: Annotated[float, typer.Option(help="Train on this first fraction by time.")] = 0.8,
    random: Annotated[int | None, typer.Option(help="Seed of a random split, instead.")] = None,
) -> None:
    """Rank both by each of the weighings, and print."""
    dataset = read_data(data)
    corpus, split, truth, barred = _by_time(dataset, until) if random is None else _at_random(dataset, random)
    log = corpus.log.first(split)
    since = int((1.0 - CHOOSING) * split)
    signals = with_linear(SignalConfig(), log, since)
    print(
        f"{f'first {until:.0%} by time' if random is None else f'random split {random}'}: {split} events; "
        f"penalty {signals.ease_penalty:g}, low pass {signals.low_pass:g}, nearness {signals.ease_near:g}"
    )
    kept, back = hold_back(log, since)
    now_ms = int(log.times_ms[-1] + 1000 * AWAY_S)
    replay = _replay(corpus, kept, signals, log.first(since))
    replay.advance(len(kept))
    _show("what training holds back", _reached(replay, back, now_ms, None))
    replay = _replay(corpus, corpus.log, signals, log)
    replay.advance(split)
    _show("the test", _reached(replay, truth, now_ms, barred))


def _by_time(dataset: Dataset, until: float) -> tuple[Corpus, int, Truth, None]:
    corpus = _corpus(dataset, rating_actions(dataset.interactions))
    split = int(until * len(corpus.log))
    return corpus, split, future(corpus.log, split), None


def _at_random(dataset: Dataset, seed: int) -> tuple[Corpus, int, Truth, Barred]:
    """Split as `quality_topn` does: the training part is the log, everything in it is a like."""
    log = dataset.interactions
    ids, users = np.unique(log.user_ids, return_inverse=True)
    row_of = {item.item_id: row for row, item in enumerate(dataset.items)}
    items = np.array([row_of[item_id] for item_id in log.item_ids.tolist()])
    split = random_split(users, items, len(ids), len(dataset.items), seed=seed)
    part: Interactions = log[split.train[users, items]]
    corpus = _corpus(Dataset(dataset.name, part, dataset.items, dataset.users), ["like"] * len(part))
    asked = np.flatnonzero(split.test.any(1))
    truth = Truth(asked.astype(np.int32), split.test[asked])
    return corpus, len(corpus.log), truth, split.validation[asked]


def _corpus(dataset: Dataset, actions: list[str]) -> Corpus:
    return make_corpus(dataset, actions, Settings().actions, NoTexts(), ModelConfig().n_neighbours)


def _replay(corpus: Corpus, log: Log, signals: SignalConfig, fitted: Log) -> Replay:
    """Get ready to replay a log, with EASE of another one."""
    ease = fit_log(fitted, signals, item_features(corpus))
    return Replay(
        log, corpus.edges, corpus.stated, history_length=1, n_affinities=1, signals=signals, ease=ease
    )


def _reached(
    replay: Replay, truth: Truth, now_ms: int, barred: Barred | None
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Metrics of each user by each of the weighings."""
    signals = dense_signals(replay.requests(truth.users, np.full(len(truth.users), now_ms)))
    met = replay.met(truth.users) | (signals[:, POPULARITY] <= 0.0)
    if barred is not None:
        met |= barred
    shaped = np.log(FLOOR + signals)

    def found(gains: tuple[float, ...]) -> dict[str, NDArray[np.float64]]:
        weights = np.array(gains, np.float32) * np.array(SIGNAL_WEIGHTS, np.float32)
        return ranking_metrics(top_items(np.tensordot(weights, shaped, (0, 1)), met, TOP), truth.relevant)

    return {name: found(gains) for name, gains in GAINS.items()}


def _show(name: str, reached: dict[str, dict[str, NDArray[np.float64]]]) -> None:
    first = next(iter(GAINS))
    print(f"{name}, {len(reached[first]['ndcg'])} users")
    for model, metrics in reached.items():
        line = ", ".join(f"{metric}@{TOP} {np.nanmean(metrics[metric]):.4f}" for metric in ("recall", "ndcg"))
        if model != first:
            lead = paired_difference(metrics["ndcg"][None], reached[first]["ndcg"][None])
            line += f"; NDCG {lead.mean:+.4f} [{lead.low:+.4f}, {lead.high:+.4f}] against EASE"
        print(f"  {model:<26}{line}")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
