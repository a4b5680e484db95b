"""What differential privacy costs: NDCG@10 of EASE and co-visits by epsilon, and what tells members apart.

Run `python -m tests.benchmarks.quality_private --data ~/.cache/slatestream/ml-100k --seeds 3` from the
repository's root. Of each user's likes (4 and more) a fifth is held out at random; everybody's other likes
are counted, and the rest is ranked for them. All three models come of the same counts. Items that tie, as all
do that a model says nothing of, are in the order of popularity.

Two attackers guess who is a member; each knows all likes of everybody, and what shadow models of other halves
of the users lead one to expect of each user. One is told the counts, and weighs a user's own part in them as
likely as the noise lets it be. The other is told the weights of EASE, as a release holds them, and looks at
those between a user's own likes. Half of the users are members; AUC .5 is a guess.

`--peer-python PEERS/bin/python` lets dp-accounting say what the noise promises: `uv venv PEERS`, then
`uv pip install --python PEERS dp-accounting==0.6.0`, in an environment of its own.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import ndtr

from model_core.data.datasets import Dataset
from model_core.evaluation.topn import ranking_metrics, top_items
from model_core.inputs.corpus import make_corpus, rating_actions
from model_core.inputs.replay import item_features
from model_core.network.config import ModelConfig
from model_core.privacy.config import Privacy
from model_core.privacy.counts import (
    PrivateCounts,
    Similar,
    directions_of,
    likely_pairs,
    noises,
    private_counts,
    told_of,
    user_vectors,
)
from model_core.privacy.gaussian import gaussian_sigma
from model_core.training.private import by_catalogue, private_ease
from streams.items.text_encoder import named_encoder
from tests.benchmarks.inputs import DATA_HELP, faults_told, read_data
from tests.benchmarks.random_split import random_split

EPSILONS = (1.0, 4.0, 8.0, math.inf)
SHADOWS = 4
"""Halvings of the users that the attackers count; each makes two."""
K = 10
PEER = Path(__file__).with_name("private_peer.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=DATA_HELP)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-python", help="Python of an environment with dp-accounting")
    given = parser.parse_args()
    data = read_data(given.data)
    users, items, n_users, n_items = likes(data)
    similar = similar_items(data)
    print(f"{n_users} users, {n_items} items, {len(users)} likes, delta {Privacy().delta:g}")
    if given.peer_python:
        for epsilon in EPSILONS[:-1]:
            promise = Privacy(epsilon=epsilon)
            theirs = accounted(given.peer_python, promise.delta, noises(promise))
            print(f"epsilon {epsilon:g}: {theirs:.6f} by dp-accounting")
    else:
        print("skipped: dp-accounting, for want of --peer-python")
    bound = "AUC at most"
    columns = ("popularity", "co-visits", "EASE", "AUC by counts", "AUC by EASE")
    print(f"{'epsilon':>8}" + "".join(f"{name:>18}" for name in columns) + f"{bound:>14}{'items':>7}")
    for epsilon in EPSILONS:
        privacy = Privacy(epsilon=epsilon)
        rows = [
            measured(users, items, n_users, n_items, similar, privacy, seed) for seed in range(given.seeds)
        ]
        *pairs, (known, _) = zip(*spread(rows), strict=True)
        told = "".join(f"{mean:>9.4f} ± {half:.4f}" for mean, half in pairs)
        print(f"{epsilon:>8g}{told}{most(privacy):>14.4f}{known:>7.0f}", flush=True)


def accounted(python: str, delta: float, sigmas: Sequence[float]) -> float:
    """Epsilon of Gaussian mechanisms together, as dp-accounting has it; see `private_peer`."""
    command = [python, str(PEER), *(f"{value!r}" for value in (delta, *sigmas))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"dp-accounting failed: {' '.join(command)}\n{done.stderr[-2000:]}")
    return float(done.stdout)


def most(privacy: Privacy) -> float:
    """AUC that nobody exceeds, whatever they know: Dong, Roth & Su 2022, "Gaussian differential privacy"."""
    if not privacy.promised:
        return 1.0
    return float(ndtr(1.0 / gaussian_sigma(privacy.epsilon, privacy.delta) / math.sqrt(2.0)))


def similar_items(data: Dataset) -> Similar:
    """Similarity of a data set's items by what the catalogue says, as a private release has it."""
    actions = rating_actions(data.interactions)
    weights = {"view": 0.2, "like": 1.0}
    neighbours = ModelConfig().n_neighbours
    corpus = make_corpus(data, actions, weights, named_encoder("minilm"), neighbours)
    assert list(corpus.vocabulary.item_rows) == [item.item_id for item in data.items]
    return by_catalogue(item_features(corpus))


def likes(data: Dataset) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Rows of users and items, of all that are described."""
    liked = data.interactions[data.interactions.ratings >= 4]
    row = {item.item_id: at for at, item in enumerate(data.items)}
    ids, users = np.unique(liked.user_ids, return_inverse=True)
    return users, np.array([row[name] for name in liked.item_ids.tolist()]), len(ids), len(data.items)


def spread(rows: list[list[float]]) -> tuple[list[float], list[float]]:
    """Means, and half of Student's 95 % interval over seeds."""
    values, n = np.array(rows), len(rows)
    if n < 2:
        return values.mean(0).tolist(), [math.nan] * values.shape[1]
    half = stats.t.ppf(0.975, n - 1) * values.std(0, ddof=1) / math.sqrt(n)
    return values.mean(0).tolist(), half.tolist()


def measured(
    users: np.ndarray,
    items: np.ndarray,
    n_users: int,
    n_items: int,
    similar: Similar,
    privacy: Privacy,
    seed: int,
) -> list[float]:
    """NDCG@10 of popularity, co-visits and EASE, and the AUC of the attack."""
    split = random_split(users, items, n_users, n_items, seed=seed, fractions=(0.0, 0.2))
    rng = np.random.default_rng(1000 + seed)
    counts = private_counts(*np.nonzero(split.train), n_items, similar, privacy, rng)
    x = split.train.astype(np.float32)
    tie = 1e-6 * counts.popularity / np.abs(counts.popularity).max()
    models = (
        np.tile(tie, (n_users, 1)),
        x @ noisy_co_visits(counts, n_items) + tie,
        x @ private_ease(counts, n_items).dense() + tie,
    )
    reached = [
        float(np.nanmean(ranking_metrics(top_items(scores, split.train, K), split.test)["ndcg"]))
        for scores in models
    ]
    return [*reached, *attacks(split.train, similar, privacy, rng), float(len(counts.known))]


def noisy_co_visits(counts: PrivateCounts, n_items: int) -> np.ndarray:
    """Pairs of items without what is noise, relative to how many like the first: (n_items, n_items)."""
    pairs = likely_pairs(counts)
    liked = np.maximum(pairs.diagonal(), 0.0)
    weights = np.zeros((n_items, n_items), np.float32)
    weights[np.ix_(counts.known, counts.known)] = (pairs - np.diag(pairs.diagonal())) / np.sqrt(liked + 10)
    return weights


def attacks(liked: np.ndarray, similar: Similar, privacy: Privacy, rng: np.random.Generator) -> list[float]:
    """AUC of telling members from others by the counts, and by the weights of EASE."""
    n_users, n_items = liked.shape
    x = liked.astype(np.float64)
    vectors = user_vectors(*np.nonzero(liked), n_items)
    assert vectors.shape[0] == n_users  # everybody likes something

    def halves() -> list[tuple[np.ndarray, np.ndarray]]:
        """Members, and what their counts and weights say of everybody, of two halves of the users."""
        first = np.zeros(n_users, np.bool_)
        first[rng.permutation(n_users)[: n_users // 2]] = True
        return [(inside, own(counted(inside))) for inside in (first, ~first)]

    def counted(inside: np.ndarray) -> PrivateCounts:
        at, items = np.nonzero(liked & inside[:, None])
        return private_counts(at, items, n_items, similar, privacy, rng)

    def own(counts: PrivateCounts) -> np.ndarray:
        """Part of the likelihood ratio that varies, and the mean weight of each user's own pairs: (2, n)."""
        if privacy.promised:
            on_items, on_pairs = noises(privacy)
            length = directions_of(counts, privacy.clip)[1]
            told = told_of(vectors, counts, length)
            by_products = ((told @ counts.products) * told).sum(1) / (on_pairs * length**2) ** 2
            by_counts = by_products + vectors @ counts.popularity / on_items**2
        else:
            some = vectors[:, counts.known].toarray()
            by_counts = ((some @ counts.products) * some).sum(1)
        weights = private_ease(counts, n_items).dense()
        return np.stack((by_counts, ((x @ weights) * x).sum(1) / x.sum(1).clip(1)))

    shadows = [one for _ in range(SHADOWS) for one in halves()]
    values = np.array([value for _, value in shadows])
    # Everybody is in half of the shadows: what lies between being in and not is the mean of all.
    found = [[auc(one, members) for one in value - values.mean(0)] for members, value in halves()]
    return np.mean(found, 0).tolist()


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """How often a positive one scores above another."""
    order = np.argsort(scores, kind="stable")
    rank = np.empty(len(scores))
    rank[order] = np.arange(1, len(scores) + 1)
    n = int(positive.sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


if __name__ == "__main__":
    with faults_told():
        main()
