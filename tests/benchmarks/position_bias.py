"""What is found of how often positions are looked at, and what a policy gains by it.

Run `OMP_NUM_THREADS=1 python -m tests.benchmarks.position_bias` from the repository's root.

The users follow the position-based model: an item is taken when it is looked at, (position + 1) ** -1 as
often as the first, and wanted. First, slates of ten in random order and in the order of their scores;
relevance is the score, or half of it. Then policies that learn after every round from impressions weighed by
nothing, by what EM finds in their own slates so far, and by the truth; what counts is the expected number of
responses lost to the best slates.
"""

from typing import Annotated

import numpy as np
import typer
from scipy.stats import t as student

from online_learning.policies.registry import create_policy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.position_bias import PositionStatistics, examination, power_law
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.benchmarks.inputs import faults_told

K, TRUTH = 10, power_law(1.0, 10)
DIM, N_CANDIDATES, ROUNDS, BATCH = 6, 30, 60, 20
POLICIES, WEIGHTS = ("softmax", "thompson", "linucb"), ("nothing", "learned", "truth")


def closed(order: str, n: int, calibration: float, seed: int) -> PositionStatistics:
    """n slates of ten out of thirty; how relevant they are on the whole differs between requests."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-2.5, 1.0, (n, 1)) + rng.normal(0.0, 1.2, (n, N_CANDIDATES))
    key = rng.random(odds.shape) if order == "random" else -odds
    scores = 1.0 / (1.0 + np.exp(-np.take_along_axis(odds, np.argsort(key, axis=1), axis=1)[:, :K]))
    taken = rng.random((n, K)) < TRUTH * calibration * scores
    statistics = PositionStatistics()
    for row in range(n):
        statistics.add(scores[row], taken[row])
    return statistics


def recovery(seeds: int) -> None:
    """Print how far from the truth the estimates are."""
    print(f"{'slates':>8}{'order':>10}{'relevance':>12}{'mean error':>12}{'largest':>9}")
    for n in (500, 2_000, 10_000):
        for order in ("random", "by score"):
            for calibration in (1.0, 0.5):
                found = [examination(closed(order, n, calibration, seed), K) for seed in range(seeds)]
                errors = np.abs(np.array(found) - TRUTH)[:, 1:]
                mean, largest = errors.mean(), errors.max(axis=1).mean()
                print(f"{n:>8,}{order:>10}{calibration:>12}{mean:>12.3f}{largest:>9.3f}", flush=True)


def regret(policy_name: str, weighed_by: str, seed: int) -> float:
    """Responses lost to the best slates."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=DIM)
    truth *= 0.15 / np.linalg.norm(truth)
    truth[0] = 0.3
    guess = truth * (np.arange(DIM) % 2 == 0)  # the release knows half of it
    policy = create_policy(
        policy_name,
        LinearPrior(guess, precision=20.0),
        temperature=0.05,
        exploration=0.3,
        propensity_samples=1,
    )
    statistics, positions = LinearStatistics(DIM), PositionStatistics()
    weights = TRUTH if weighed_by == "truth" else np.ones(K)
    lost = 0.0
    for _ in range(ROUNDS):
        features = rng.normal(size=(BATCH, N_CANDIDATES, DIM)).astype(np.float32)
        features[..., 0] = 1.0
        wanted = np.clip(features @ truth, 0.02, 0.98)
        candidates = Candidates((features @ guess).astype(np.float32), features, np.ones(wanted.shape, bool))
        seeds = rng.integers(0, 2**63, BATCH).astype(np.uint64)
        index = policy.select(candidates, k=np.full(BATCH, K), seeds=seeds).index
        shown = np.take_along_axis(features, index[..., None], axis=1)
        chance = TRUTH * np.take_along_axis(wanted, index, axis=1)
        lost += float((TRUTH * -np.sort(-wanted, axis=1)[:, :K]).sum() - chance.sum())
        taken = rng.random(chance.shape) < chance
        for row in range(BATCH):
            positions.add((features[row] @ guess)[index[row]], taken[row])
        if weighed_by == "learned":
            weights = examination(positions, K)
        statistics.add_impressions(shown.reshape(-1, DIM), weights=np.tile(weights, BATCH))
        statistics.add_rewards(shown[taken], np.ones(int(taken.sum())))
        policy.update(statistics)
    return lost


def main(seeds: Annotated[int, typer.Option(help="Runs of each.")] = 20) -> None:
    """Print both tables."""
    print(f"error of nine positions, the first being 1; mean over seeds 0 to {seeds - 1}")
    recovery(seeds)
    print(
        f"\nresponses lost in {ROUNDS} rounds of {BATCH} slates of {K} out of {N_CANDIDATES}, {DIM} features;"
    )
    print(f"seeds 100 to {99 + seeds}, 95 % intervals; impressions weighed by")
    print(f"{'':>10}" + "".join(f"{name:>18}" for name in WEIGHTS) + f"{'learned - nothing':>20}")
    scale = student.ppf(0.975, seeds - 1) / np.sqrt(seeds)
    for policy in (*POLICIES, "random"):
        runs = np.array(
            [[regret(policy, name, seed) for name in WEIGHTS] for seed in range(100, 100 + seeds)]
        ).T
        columns = [*runs, runs[1] - runs[0]]
        cells = [f"{run.mean():.1f} +- {scale * run.std(ddof=1):.1f}" for run in columns]
        print(
            f"{policy:>10}" + "".join(f"{cell:>18}" for cell in cells[:-1]) + f"{cells[-1]:>20}", flush=True
        )


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
