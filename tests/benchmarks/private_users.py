"""How many users differential privacy needs: NDCG@10 of EASE and co-visits, by their number.

    python -m tests.benchmarks.private_users --sequences FOLDER/ml-1m.txt.gz

A line is a user and what they liked, in rows of a compressed text. The films' titles and genres are in
`movies.dat.gz` beside it, as MovieLens has them. Of each user's items a fifth is held out
at random; everybody's others are counted, and up to 500 users' are ranked for. Users are drawn at random.
"""

import argparse
import gzip
import math
from pathlib import Path

import numpy as np

from model_core.data.datasets import Dataset, Interactions, Item
from model_core.evaluation.topn import ranking_metrics, top_items
from model_core.privacy.config import Privacy
from model_core.privacy.counts import Similar, private_counts
from model_core.training.private import private_ease
from tests.benchmarks.inputs import faults_told
from tests.benchmarks.quality_private import K, noisy_co_visits, similar_items
from tests.benchmarks.random_split import random_split

EPSILONS = (1.0, 4.0, math.inf)
USERS = (1500, 6000)
RANKED = 500


def main() -> None:
    """Print NDCG@10 by users and epsilon, and its share of what it is without privacy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with gzip.open(given.sequences, "rt") as file:
        lines = [[int(name) for name in line.split()[1:]] for line in file]
    ids, items = np.unique(np.concatenate([np.array(line) for line in lines]), return_inverse=True)
    similar = similar_items(read_films(given.sequences.with_name("movies.dat.gz"), ids))
    users = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    lot = np.random.default_rng(given.seed).permutation(len(lines))[users]
    print(f"{'users':>8}{'epsilon':>8}{'items counted':>16}{'EASE':>20}{'co-visits':>20}")
    for n in (n for n in USERS if n <= len(lines)):
        some = lot < n
        show(lot[some], items[some], n, len(ids), similar, given.seed)


def read_films(path: Path, ids: np.ndarray) -> Dataset:
    """The films of some ids, by title and genres, and as few events as make a corpus."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        told = dict(line.rstrip("\n").split("::", 1) for line in file)
    films = [told[str(name)].rsplit("::", 1) for name in ids.tolist()]
    items = [
        Item(str(name), title, {"genre": genres.split("|")})
        for name, (title, genres) in zip(ids.tolist(), films, strict=True)
    ]
    events = Interactions(
        np.array(["u0", "u1"]), np.array([items[0].item_id] * 2), np.array([5.0, 5.0], np.float32),
        np.zeros(2, np.int64),
    )  # fmt: skip
    return Dataset("ml-1m", events, items, [])


def show(users: np.ndarray, items: np.ndarray, n: int, n_items: int, similar: Similar, seed: int) -> None:
    """Print the rows of so many users."""
    split = random_split(users, items, n, n_items, seed=seed, fractions=(0.0, 0.2))
    train, test = split.train[:RANKED], split.test[:RANKED]
    x, whole = train.astype(np.float32), (0.0, 0.0)
    for epsilon in reversed(EPSILONS):
        rng = np.random.default_rng(seed)
        counts = private_counts(*np.nonzero(split.train), n_items, similar, Privacy(epsilon=epsilon), rng)
        tie = 1e-6 * counts.popularity / np.abs(counts.popularity).max()
        weights = private_ease(counts, n_items).dense(), noisy_co_visits(counts, n_items)
        ease, pairs = (
            float(np.nanmean(ranking_metrics(top_items(x @ one + tie, train, K), test)["ndcg"]))
            for one in weights
        )
        whole = (ease, pairs) if epsilon == math.inf else whole
        shown = zip((ease, pairs), whole, strict=True)
        told = "".join(f"{value:>13.4f} ({value / most:.2f})" for value, most in shown)
        print(f"{n:>8}{epsilon:>8g}{len(counts.known):>16}{told}", flush=True)


if __name__ == "__main__":
    with faults_told():
        main()
