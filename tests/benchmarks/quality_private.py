"""What differential privacy costs: NDCG@10 of EASE and co-visits by epsilon, and what tells members apart.

Run `python -m tests.benchmarks.quality_private --data ~/.cache/slatestream/ml-100k --seeds 3` from the
repository's root. Of each user's likes (4 and more) a fifth is held out at random; everybody's other likes
are counted, and the rest is ranked for them. All three models come of the same counts, of all items.

The attack: who is a member is guessed from the counts alone, by how much a user's own pairs stand out over
what shadow counts, of other halves of the users, lead one to expect. Half of the users are members; AUC .5 is
a guess.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from model_core.data.datasets import load_recbole
from model_core.evaluation.topn import random_split, ranking_metrics, top_items
from model_core.privacy.config import Privacy
from model_core.privacy.counts import Counts, noise_of, private_counts
from model_core.training.private import private_ease

EPSILONS = (1.0, 4.0, 8.0, math.inf)
SHADOWS = 4
"""Halvings of the users that the attacker counts; each makes two."""
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"skipped: --data must be a folder of RecBole atomic files, got {str(given.data)!r}")
    users, items, n_users, n_items = likes(given.data)
    print(f"{n_users} users, {n_items} items, {len(users)} likes, delta {Privacy().delta:g}")
    bound = "AUC at most"
    print(f"{'epsilon':>8}{'popularity':>16}{'co-visits':>16}{'EASE':>16}{'attack AUC':>16}{bound:>14}")
    for epsilon in EPSILONS:
        privacy = Privacy(epsilon=epsilon)
        rows = [measured(users, items, n_users, n_items, privacy, seed) for seed in range(given.seeds)]
        told = "".join(f"{mean:>9.4f} ± {sd:.4f}" for mean, sd in zip(*spread(rows), strict=True))
        print(f"{epsilon:>8g}{told}{most(privacy):>14.4f}", flush=True)


def most(privacy: Privacy) -> float:
    """AUC that nobody exceeds, whatever they know: Dong, Roth & Su 2022, "Gaussian differential privacy"."""
    return float(ndtr(privacy.clip / noise_of(privacy) / math.sqrt(2.0))) if privacy.promised else 1.0


def likes(folder: Path) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Rows of users and items, of all that are described."""
    data = load_recbole(folder)
    liked = data.interactions[data.interactions.ratings >= 4]
    row = {item.item_id: at for at, item in enumerate(data.items)}
    ids, users = np.unique(liked.user_ids, return_inverse=True)
    return users, np.array([row[name] for name in liked.item_ids.tolist()]), len(ids), len(data.items)


def spread(rows: list[list[float]]) -> tuple[list[float], list[float]]:
    values = np.array(rows)
    return values.mean(0).tolist(), values.std(0, ddof=min(1, len(rows) - 1)).tolist()


def measured(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, privacy: Privacy, seed: int
) -> list[float]:
    """NDCG@10 of popularity, co-visits and EASE, and the AUC of the attack."""
    split = random_split(users, items, n_users, n_items, seed=seed, fractions=(0.0, 0.2))
    rng = np.random.default_rng(1000 + seed)
    counts = private_counts(*np.nonzero(split.train), n_items, privacy, rng)
    x = split.train.astype(np.float32)
    ease = private_ease(counts, privacy)
    popular = np.maximum(counts.diagonal(), 0.0)
    pairs = counts - np.diag(counts.diagonal())
    models = (
        np.tile(counts.diagonal(), (n_users, 1)), x @ (pairs / np.sqrt(popular + 10.0)), x @ ease.dense(),
    )  # fmt: skip
    reached = [
        float(np.nanmean(ranking_metrics(top_items(scores, split.train, K), split.test)["ndcg"]))
        for scores in models
    ]
    return [*reached, attack(split.train, privacy, rng)]


def attack(liked: np.ndarray, privacy: Privacy, rng: np.random.Generator) -> float:
    """AUC of telling members from others, by what shadow counts make of a user's own pairs."""
    n_users, n_items = liked.shape

    def halves() -> list[tuple[np.ndarray, np.ndarray]]:
        """Members, and what their counts say of everybody, of two halves of the users."""
        first = np.zeros(n_users, np.bool_)
        first[rng.permutation(n_users)[: n_users // 2]] = True
        return [(inside, own(counted(inside))) for inside in (first, ~first)]

    def counted(inside: np.ndarray) -> Counts:
        at, items = np.nonzero(liked & inside[:, None])
        return private_counts(at, items, n_items, privacy, rng)

    def own(counts: Counts) -> np.ndarray:
        """How much of the counts lies on each user's own pairs: the likelihood ratio's part that varies."""
        x = liked.astype(np.float64)
        return np.asarray(((x @ counts) * x).sum(1) / np.maximum(x.sum(1), 1.0))

    shadows = [one for _ in range(SHADOWS) for one in halves()]
    values = np.array([value for _, value in shadows])
    # Everybody is in half of the shadows: what lies between being in and not is the mean of all.
    found = [auc(value - values.mean(0), members) for members, value in halves()]
    return float(np.mean(found))


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """How often a positive one scores above another."""
    order = np.argsort(scores, kind="stable")
    rank = np.empty(len(scores))
    rank[order] = np.arange(1, len(scores) + 1)
    n = int(positive.sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


if __name__ == "__main__":
    main()
