"""What slates earn where rewards are rare, and what it is worth to learn of a release in proportion to it.

A policy that is "absolute" adds what it learns to the release's probabilities; one that is "relative"
corrects them in proportion, from differences within slates (`online_learning.statistics.relative`). What the
release says of the level of rewards may be wrong, which says nothing of the order of its items.

Run `OMP_NUM_THREADS=1 python -m tests.benchmarks.reward_rates` from the repository's root.
"""

from itertools import product
from typing import Annotated

import numpy as np
import typer
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import t as student

from online_learning.policies.registry import Learning, create_policy
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.benchmarks.inputs import faults_told

N_ITEMS, N_CANDIDATES, K, BATCH = 400, 100, 10, 50
HIDDEN, SIGNALS = 16, 3
RATES = (0.005, 0.02, 0.1, 0.5)
LEVELS, MOST_EXPECTED = (1.0, 4.0), 0.5
WORLDS = ("right", "half right", "wrong")
"""The release knows all that rewards depend on, half of it, or something else."""


class World:
    """Users of whom a release knows something; what else they like is linear in the items' features."""

    def __init__(self, kind: str, rate: float, rng: np.random.Generator) -> None:
        self._kind, self._rng = kind, rng
        items = rng.standard_normal((N_ITEMS, HIDDEN))
        self._items = items / np.linalg.norm(items, axis=1, keepdims=True)
        taste = rng.standard_normal(HIDDEN)
        self._taste = 2.0 * taste / np.linalg.norm(taste)  # log-odds of standard deviation 0.5
        self._signals = np.tanh(rng.gamma(0.7, 1.0, (N_ITEMS, SIGNALS)) / 4.0)
        said, true, _ = self._odds(300)
        # The best slates earn `rate` an item, and so the release says of those that it holds for the best.
        self._said_level, self._true_level = _level(said, rate), _level(true, rate)

    def ask(self, n: int) -> tuple[Candidates, np.ndarray]:
        """Return n users' candidates, and how likely a reward of each is: (n, C) float64."""
        said, true, rows = self._odds(n)
        chance = expit(said + self._said_level)
        features = np.concatenate(
            [np.ones((n, N_CANDIDATES, 1)), chance[..., None], self._items[rows], self._signals[rows]],
            axis=-1,
        ).astype(np.float32)
        there = np.ones(chance.shape, np.bool_)
        arms = rows.astype(np.uint64)
        return Candidates(chance.astype(np.float32), features, there, arms), expit(true + self._true_level)

    def _odds(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.stack([self._rng.permutation(N_ITEMS)[:N_CANDIDATES] for _ in range(n)])
        known, more = self._rng.standard_normal((n, N_CANDIDATES)), self._items[rows] @ self._taste
        true = {"right": known, "half right": known + more, "wrong": more}[self._kind]
        return known, true, rows


def _level(odds: np.ndarray, rate: float) -> float:
    """Return what added to log-odds makes the mean probability of the best slates `rate`."""
    best = _best(odds)
    return float(brentq(lambda level: expit(best + level).mean() - rate, -30.0, 30.0))


def _best(values: np.ndarray) -> np.ndarray:
    """Return each row's K highest: (n, K)."""
    return -np.sort(-values, axis=1)[:, :K]


def shares(
    policy_name: str, kind: str, rate: float, seed: int, slates: int, *, relative: bool, level: float
) -> np.ndarray:
    """What the first slates earn, all, and the last, of what the best ones would: (3,) float64."""
    rng = np.random.default_rng(seed)
    world = World(kind, rate, rng)
    served = float(_best(world.ask(BATCH)[0].scores).mean()) * level
    noise = served * (1.0 - served)
    prior = LinearPrior(np.eye(2 + HIDDEN + SIGNALS)[1], noise_variance=noise, relative=relative)
    policy = create_policy(policy_name, prior, propensity_samples=1)
    statistics = Learning.of(policy_name, prior).empty()
    earned = []
    for _ in range(slates // BATCH):
        candidates, chance = world.ask(BATCH)
        candidates.features[..., 1] *= level
        seeds = rng.integers(0, 2**63, BATCH).astype(np.uint64)
        index = policy.select(candidates, k=np.full(BATCH, K), seeds=seeds).index
        gained = np.take_along_axis(chance, index, axis=1)
        earned.append((gained.sum(), _best(chance).sum()))
        shown = np.take_along_axis(candidates.features, index[..., None], axis=1)
        rows = np.concatenate([statistics.rows(slate) for slate in shown])
        arms = np.take_along_axis(candidates.arms, index, axis=1).ravel()
        taken = np.flatnonzero(rng.random(gained.size) < gained.ravel())
        statistics.add_impressions(rows, arms=arms)
        statistics.add_rewards(rows[taken], np.ones(len(taken)), arms=arms[taken])
        policy.update(statistics)
    ours, best = np.array(earned).T
    return np.array([ours[0] / best[0], ours.sum() / best.sum(), ours[-1] / best[-1]])


def main(
    policy: Annotated[str, typer.Option(help="Any that learns one model of all items.")] = "thompson",
    slates: Annotated[int, typer.Option(min=BATCH, help="Of 10; it learns after every 50.")] = 2_000,
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each.")] = 5,
) -> None:
    """Print what slates earn by what is learned, and by how many times the release expects too much."""
    print(f"{policy}: {slates} slates of {K} out of {N_CANDIDATES}, learning after every {BATCH}")
    print(f"earned, of what the best slates do; seeds 0 to {seeds - 1}, 95 % intervals")
    print(f"{'release':>11}{'rate':>7}{'level':>7}  {'learned':<10}{'first':>16}{'all':>16}{'last':>16}")
    scale = student.ppf(0.975, seeds - 1) / np.sqrt(seeds)
    for kind, rate, level, relative in product(WORLDS, RATES, LEVELS, (False, True)):
        if rate * level > MOST_EXPECTED:
            continue
        runs = [
            shares(policy, kind, rate, seed, slates, relative=relative, level=level) for seed in range(seeds)
        ]
        mean, spread = np.mean(runs, axis=0), scale * np.std(runs, axis=0, ddof=1)
        cells = [f"{x:.3f} +- {e:.3f}" for x, e in zip(mean, spread, strict=True)]
        told = "relative" if relative else "absolute"
        named = f"{kind:>11}{rate:>7}{level:>7g}  {told:<10}"
        print(named + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
