"""The served release by random splits, for `quality_topn`: what a user who trains and serves gets.

The training part is put in time order, everything in it is a like, and a release is trained on all of it as
`slatestream train` does it. The validation part follows at the end, where only the release's own metrics
read it. Each user is asked once, after the last event.
"""

import tempfile
from pathlib import Path

import numpy as np

from model_core.data.datasets import Dataset, Interactions
from model_core.evaluation.evaluate import start_replay
from model_core.inputs.corpus import make_corpus
from model_core.release.scorer import Scorer
from model_core.training.recipe import Recipe
from model_core.training.train import train_release
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from tests.benchmarks.random_split import Split
from tests.benchmarks.released import made_up

BATCH = 32


def release_scores(
    dataset: Dataset, split: Split, users: np.ndarray, items: np.ndarray, recipe: Recipe, *, out: Path | None
) -> tuple[np.ndarray, str]:
    """Minus the place of each item in the list of each user: (n_users, n_items), -inf beyond its end.

    Parameters
    ----------
    users, items : (n,) rows of the dataset's interactions in the split
    out : folder in which the release stays; it is used again where it is there

    Returns
    -------
    scores, and a line on how the release is made up
    """
    log, settings = dataset.interactions, Settings()
    trained, later = (np.flatnonzero(part[users, items]) for part in (split.train, split.validation))
    rows = np.concatenate((trained, later))
    times = log.timestamps_ms[rows].copy()
    times[len(trained) :] = times.max()
    part = Dataset(
        dataset.name,
        Interactions(log.user_ids[rows], log.item_ids[rows], log.ratings[rows], times),
        dataset.items,
        dataset.users,
    )
    corpus = make_corpus(
        part,
        ["like"] * len(rows),
        settings.actions,
        named_encoder(settings.text_encoder),
        recipe.model.n_neighbours,
    )
    with tempfile.TemporaryDirectory() as folder:
        place = out or Path(folder) / "release"
        if not place.exists():
            train_release(
                corpus, dict(settings.actions), place, until=(len(trained) + 0.5) / len(rows),
                config=recipe.model, train=recipe.train, signals=recipe.signals,
            )  # fmt: skip
        scorer, line = Scorer(place, threads=recipe.train.threads), made_up(place)
        replay, vectors = start_replay(scorer, corpus)
    replay.advance(len(trained))
    row_of = {user: row for row, user in enumerate(np.unique(log.user_ids).tolist())}
    here = np.array([row_of[user] for user in np.unique(part.interactions.user_ids).tolist()])
    scores = np.full((split.train.shape[0], corpus.log.n_items), -np.inf, np.float32)
    for begin in range(0, len(here), BATCH):
        asked = np.arange(begin, min(begin + BATCH, len(here)), dtype=np.int32)
        ranked = scorer.score(replay.requests(asked, np.full(len(asked), times.max())), vectors)
        for at, user in enumerate(here[asked].tolist()):
            listed = ranked.rows[at, ranked.valid[at]]
            scores[user, listed] = -np.arange(len(listed), dtype=np.float32)
    return scores, line
