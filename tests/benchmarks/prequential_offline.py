"""Prequential hit@10 of a release, in memory: what the pipeline should reach, without the pipeline.

    python tests/benchmarks/prequential_offline.py --data FOLDER --release FOLDER

In time order, 20 % warm-up; before each event with a positive action ten items the user has not met are
recommended, a hit is the event's item among them; then the event is learned: history, co-visits and
popularity go on, the networks stay as the release has them.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from model_core.data.corpus import Corpus, make_corpus, rating_actions
from model_core.data.datasets import load_recbole
from model_core.data.vocabulary import Vocabulary
from model_core.evaluation.evaluate import start_replay
from model_core.network.config import ModelConfig
from model_core.release.scorer import Scorer
from streams.items.text_encoder import release_encoder
from streams.settings import Settings

WARM_UP = 0.2
TOP = 10


def hits(scorer: Scorer, corpus: Corpus, *, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Whether each (or every n-th) positive event after the warm-up was among the ten, and whose it was.

    Returns
    -------
    found : (n,) bool, users : (n,) int32
    """
    log = corpus.log
    replay, vectors = start_replay(scorer, corpus)
    asked = np.flatnonzero(log.positive & (np.arange(len(log)) >= int(WARM_UP * len(log))))[::every]
    found = np.zeros(len(asked), np.bool_)
    for place, event in enumerate(asked.tolist()):
        replay.advance(event)
        request = replay.requests(log.users[event : event + 1], log.times_ms[event : event + 1])
        found[place] = log.items[event] in scorer.score(request, vectors).rows[0, :TOP]
    return found, log.users[asked]


def main() -> None:
    """Print hit@10, and by fifth of the stream."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--release", type=Path, required=True)
    options = parser.parse_args()
    scorer = Scorer(options.release, threads=1)
    dataset = load_recbole(options.data)
    encoder = release_encoder(options.release, scorer.release)
    actions = rating_actions(dataset.interactions)
    release = scorer.release
    known = Vocabulary(release.item_rows, release.entity_rows, release.relation_rows)
    corpus = make_corpus(dataset, actions, Settings().actions, encoder, ModelConfig(), known=known)
    began = time.perf_counter()
    found, _ = hits(scorer, corpus)
    seconds = time.perf_counter() - began
    print(f"release {scorer.release.version}: hit@{TOP} {found.mean():.4f} over {len(found)} events")
    print("by fifth of the stream:", " ".join(f"{part.mean():.4f}" for part in np.array_split(found, 5)))
    print(f"{len(found) / seconds:.0f} slates/s, one after another, on {scorer.provider}")


if __name__ == "__main__":
    main()
