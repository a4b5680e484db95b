"""Regret where users read a slate from the top and stop at the first item they want.

Run `OMP_NUM_THREADS=1 python -m tests.benchmarks.cascade_regret` from the repository's root.
"""

from typing import Annotated

import numpy as np
import typer
from scipy.stats import t as student

from online_learning.attribution.cascade import amended
from online_learning.policies.registry import create_policy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.benchmarks.inputs import faults_told

DIM, N_CANDIDATES, K, ROUNDS, BATCH = 6, 30, 5, 60, 10
POLICIES = ("thompson", "linucb", "softmax", "greedy")


def chance_of_none(features: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.prod(1.0 - np.clip(features @ truth, 0.01, 0.9), axis=-1)


def regret(policy_name: str, seed: int, *, cascade: bool) -> float:
    """Chance of a response lost to the best slates, by users who stop at the first item they want."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=DIM)
    truth *= 0.3 / np.linalg.norm(truth)
    truth[0] = 0.25
    prior = LinearPrior(np.eye(DIM)[0] * 0.25, precision=20.0)
    policy = create_policy(policy_name, prior, exploration=0.3)
    statistics = LinearStatistics(DIM)
    lost = 0.0
    for _ in range(ROUNDS):
        features = rng.normal(scale=0.5, size=(BATCH, N_CANDIDATES, DIM)).astype(np.float32)
        features[..., 0] = 1.0
        valid = np.ones((BATCH, N_CANDIDATES), bool)
        seeds = rng.integers(0, 2**63, BATCH).astype(np.uint64)
        slates = policy.select(
            Candidates(features @ truth, features, valid), k=np.full(BATCH, K), seeds=seeds
        )
        shown = np.take_along_axis(features, slates.index[..., None], axis=1)
        best = np.argsort(-(features @ truth), axis=1)[:, :K]
        ideal = np.take_along_axis(features, best[..., None], axis=1)
        lost += float((chance_of_none(shown, truth) - chance_of_none(ideal, truth)).sum())
        wanted = rng.random((BATCH, K)) < np.clip(shown @ truth, 0.01, 0.9)
        for row in range(BATCH):
            taken = np.flatnonzero(wanted[row])[:1]
            statistics.add_impressions(shown[row])
            for position in taken.tolist():
                below, weight = amended([], position, K)
                if cascade:
                    statistics.amend_impressions(shown[row, list(below)], np.full(len(below), weight))
                statistics.add_rewards(shown[row, [position]], np.ones(1))
        policy.update(statistics)
    return lost


def main(seeds: Annotated[int, typer.Option(help="Runs of each.")] = 20) -> None:
    """Print the regret of policies that know of the cascade and of the same that count all positions."""
    print(
        f"{ROUNDS} rounds of {BATCH} slates of {K} out of {N_CANDIDATES}, {DIM} features, learning after each"
    )
    print(f"round; chance of a response lost to the best slates, seeds 100 to {99 + seeds}, 95 % intervals")
    print(f"{'policy':>10}{'cascade':>16}{'all positions':>16}{'difference':>18}")
    scale = student.ppf(0.975, seeds - 1) / np.sqrt(seeds)
    for name in (*POLICIES, "random"):
        runs = np.array(
            [
                [regret(name, seed, cascade=cascade) for cascade in (True, False)]
                for seed in range(100, 100 + seeds)
            ]
        )
        knows, ignores = runs.T
        cells = [f"{x.mean():.2f} +- {scale * x.std(ddof=1):.2f}" for x in (knows, ignores, knows - ignores)]
        print(f"{name:>10}{cells[0]:>16}{cells[1]:>16}{cells[2]:>18}")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
