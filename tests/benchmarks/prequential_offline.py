"""Prequential hit@10 of a release, in memory: what the pipeline should reach, without the pipeline.

    python -m tests.benchmarks.prequential_offline --data FOLDER [--release FOLDER] [--until .2] [--every 1]

In time order, after the share that the release was trained on; before each (or every n-th) event with a
positive action ten items the user has not met are recommended, a hit is the event's item among them; then the
event is learned: history, co-visits and popularity go on, the networks stay as the release has them. Simple
models stand beside it, on the same events, and popularity as a release is told it, whether surges are bounded
or not. New items are those first met after the training.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from model_core.data.vocabulary import Vocabulary
from model_core.evaluation.evaluate import start_replay
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.inputs.replay import Replay
from model_core.network.config import ModelConfig
from model_core.release.scorer import Scorer
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.horizons import HALF_LIVES_MS, HOUR_MS
from model_core.training.balance import unmet
from streams.bench.references import (
    CoVisits,
    Decayed,
    LastLikes,
    Popularity,
    RecentCoVisits,
    prequential_hits,
)
from streams.items.text_encoder import named_encoder, release_encoder
from streams.settings import Settings
from tests.benchmarks.inputs import DATA_HELP, faults_told, read_data, read_scorer

WARM_UP = 0.2
TOP = 10
WINDOWS = (50, 100, 200)


def asked_events(corpus: Corpus, *, until: float = WARM_UP, every: int = 1) -> np.ndarray:
    """Each (or every n-th) positive event after the warm-up: (n,) rows of the log."""
    log = corpus.log
    return np.flatnonzero(log.positive & (np.arange(len(log)) >= int(until * len(log))))[::every]


def slates(scorer: Scorer, corpus: Corpus, asked: np.ndarray) -> np.ndarray:
    """Return the ten items before each of some events: (n, TOP) rows."""
    log = corpus.log
    replay, vectors = start_replay(scorer, corpus)
    listed = np.zeros((len(asked), TOP), np.int64)
    for place, event in enumerate(asked.tolist()):
        replay.advance(event)
        request = replay.requests(log.users[event : event + 1], log.times_ms[event : event + 1])
        listed[place] = scorer.score(request, vectors).rows[0, :TOP]
    return listed


def hits(scorer: Scorer, corpus: Corpus, *, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Whether each (or every n-th) positive event after the warm-up was among the ten, and whose it was.

    Returns
    -------
    found : (n,) bool, users : (n,) int32
    """
    asked = asked_events(corpus, every=every)
    found = (slates(scorer, corpus, asked) == corpus.log.items[asked, None]).any(1)
    return found, corpus.log.users[asked]


def simple_models(corpus: Corpus, until: float, every: int) -> dict[str, np.ndarray]:
    """Whether each of the same events was among the ten of a simple model: (n,) bool by its name."""
    log = corpus.log
    references = (
        Popularity(log.n_items),
        *(LastLikes(log.n_items, last) for last in WINDOWS),
        *(Decayed(log.n_items, half_life_ms) for half_life_ms in HALF_LIVES_MS),
        CoVisits(log.n_items),
        RecentCoVisits(log.n_items, WINDOWS[-1]),
    )
    return {
        one.name: prequential_hits(
            one, log.users.astype(np.int64), log.items.astype(np.int64), log.positive,
            warm_up=int(until * len(log)), n_users=log.n_users, n_items=log.n_items, k=TOP,
            times_ms=log.times_ms,
        )[::every]
        for one in references
    }  # fmt: skip


def told_popularity(corpus: Corpus, until: float, every: int, surge_bound: float) -> dict[str, np.ndarray]:
    """Whether each of the same events was among the ten most popular, as releases are told it."""
    log, asked = corpus.log, asked_events(corpus, until=until, every=every)
    nothing = Ease(np.zeros(log.n_items + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    replay = Replay(
        log, corpus.edges, corpus.stated, history_length=1, n_affinities=1,
        signals=SignalConfig(surge_bound=surge_bound), ease=nothing,
    )  # fmt: skip
    found = np.zeros((1 + len(HALF_LIVES_MS), len(asked)), np.bool_)
    for place, event in enumerate(asked.tolist()):
        replay.advance(event)
        levels = replay.levels(int(log.times_ms[event]))
        levels[:, replay.met(log.users[event : event + 1])[0]] = -np.inf
        found[:, place] = (levels >= levels[:, log.items[event], None]).sum(1) <= TOP
    names = ("any age", *(f"half-life {half_life_ms / HOUR_MS:g} h" for half_life_ms in HALF_LIVES_MS))
    return {f"{name}, surge_bound {surge_bound:g}": hit for name, hit in zip(names, found, strict=True)}


def main() -> None:
    """Print hit@10, and by fifth of the stream."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help=DATA_HELP)
    parser.add_argument("--release", type=Path)
    parser.add_argument("--until", type=float, default=WARM_UP)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    dataset, scorer = read_data(options.data), None
    encoder, known = named_encoder(Settings().text_encoder), None
    if options.release is not None:
        scorer = read_scorer(options.release, threads=1)
        release = scorer.release
        encoder = release_encoder(options.release, release)
        known = Vocabulary(release.item_rows, release.entity_rows, release.relation_rows)
    actions = rating_actions(dataset.interactions)
    corpus = make_corpus(
        dataset, actions, Settings().actions, encoder, ModelConfig().n_neighbours, known=known
    )
    met = ~unmet(corpus.log)[asked_events(corpus, until=options.until, every=options.every)]
    print(f"{met.mean():.1%} of what is wanted its user had met before: no list has it")
    if scorer is not None:
        show_release(scorer, corpus, options.until, options.every)
    models = simple_models(corpus, options.until, options.every)
    for bound in (0.0, SignalConfig().surge_bound):
        models |= told_popularity(corpus, options.until, options.every, bound)
    for name, hit in models.items():
        print(f"{name:<32} {hit.mean():.4f}")


def show_release(scorer: Scorer, corpus: Corpus, until: float, every: int) -> None:
    """Print hit@10 of a release, by fifth of the stream, and how much of it is new."""
    began = time.perf_counter()
    log, asked = corpus.log, asked_events(corpus, until=until, every=every)
    listed = slates(scorer, corpus, asked)
    seconds = time.perf_counter() - began
    found = (listed == log.items[asked, None]).any(1)
    print(f"release {scorer.release.version}: hit@{TOP} {found.mean():.4f} over {len(found)} events")
    print("by fifth of the stream:", " ".join(f"{part.mean():.4f}" for part in np.array_split(found, 5)))
    new = np.ones(log.n_items, np.bool_)
    new[log.items[: int(until * len(log))]] = False
    wanted, shown = new[log.items[asked]].mean(), new[listed].mean()
    print(f"new items: {wanted:.1%} of what is wanted, {shown:.1%} of what is listed")
    print(f"{len(found) / seconds:.0f} slates/s, one after another, on {scorer.provider}")


if __name__ == "__main__":
    with faults_told():
        main()
