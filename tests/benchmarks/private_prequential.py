"""What differential privacy costs in time order: hit@10 of EASE and co-visits of noisy counts, by epsilon.

    python -m tests.benchmarks.private_prequential --data ~/.cache/slatestream/ml-100k --seeds 5

The counts are those of the first share of the log (`--until`), and both models stay as these make them.
Before each later like ten films that the user has not met are recommended, by all that the user liked before;
a hit is the film among them. A user's own history needs no noise, since only they see what comes of it.
Intervals are of the noise: 95 % over seeds, on the same events.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from model_core.privacy.config import Privacy
from model_core.privacy.counts import PrivateCounts, private_counts
from model_core.training.private import private_ease
from streams.bench.references import Popularity, prequential_hits
from tests.benchmarks.inputs import DATA_HELP, faults_told, read_data
from tests.benchmarks.quality_private import EPSILONS, K, noisy_co_visits, similar_items, spread


class Held:
    """Weights applied to what a user liked; they learn nothing on the way."""

    name = "weights"

    def __init__(self, weights: np.ndarray, counts: PrivateCounts, n_users: int) -> None:
        self._weights = weights
        tie = 1e-6 * counts.popularity / np.abs(counts.popularity).max()
        self._scores = np.tile(tie, (n_users, 1))
        self._liked: set[tuple[int, int]] = set()

    def scores(self, user: int, now_ms: int = 0) -> np.ndarray:
        """Sum of the weights, and popularity in ties."""
        return self._scores[user]

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Note what the user liked; once counts."""
        if (user, item) not in self._liked:
            self._liked.add((user, item))
            self._scores[user] += self._weights[item]


def main() -> None:
    """Print hit@10 of both by epsilon, and its share of what it is without privacy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=DATA_HELP)
    parser.add_argument("--until", type=float, default=0.8)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    data = read_data(given.data)
    log = data.interactions
    row = {item.item_id: at for at, item in enumerate(data.items)}
    items = np.array([row[name] for name in log.item_ids.tolist()])
    ids, users = np.unique(log.user_ids, return_inverse=True)
    liked, warm_up = log.ratings >= 4, int(given.until * len(items))
    told = users[:warm_up][liked[:warm_up]], items[:warm_up][liked[:warm_up]]
    similar = similar_items(data)
    sizes = {"n_users": len(ids), "n_items": len(row)}

    def reached(model: Held | Popularity) -> float:
        return float(prequential_hits(model, users, items, liked, warm_up=warm_up, k=K, **sizes).mean())

    def measured(epsilon: float, seed: int) -> list[float]:
        counts = private_counts(
            *told, len(row), similar, Privacy(epsilon=epsilon), np.random.default_rng(seed)
        )
        weights = private_ease(counts, len(row)).dense(), noisy_co_visits(counts, len(row))
        return [reached(Held(one, counts, len(ids))) for one in weights]

    whole = measured(math.inf, 0)
    print(f"{len(np.unique(told[0]))} users told, {liked[warm_up:].sum()} likes asked; "
          f"popularity, learned on the way, {reached(Popularity(len(row))):.4f}")  # fmt: skip
    print(f"{'epsilon':>8}{'EASE':>28}{'co-visits':>28}")
    for epsilon in EPSILONS[:-1]:
        means, halves = spread([measured(epsilon, seed) for seed in range(given.seeds)])
        shown = zip(means, halves, whole, strict=True)
        told_of = "".join(f"{mean:>12.4f} ± {half:.4f} ({mean / most:.2f})" for mean, half, most in shown)
        print(f"{epsilon:>8g}{told_of}", flush=True)
    print(f"{math.inf:>8g}" + "".join(f"{most:>12.4f}{'':>16}" for most in whole))


if __name__ == "__main__":
    with faults_told():
        main()
