"""What privacy costs a policy that learns: clicks of simulated users, by epsilon and by users learned from.

Users have tastes fitted on ML-100K, and tire of what they see. A policy serves some of them by what its
release predicts and by what it has learned. After each block of users it is taught what they did: a user's
clipped share of the sums, and noise, once. Users of a block are in no other, so epsilon is that of all their
slates. What it has learned after a block is measured on other users, the same for every epsilon and block.

python -m tests.benchmarks.private_learning [--seeds 10]
"""

import math
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import t as student

from model_core.privacy.gaussian import gaussian_sigma
from online_learning.policies.registry import Learning, create_policy
from online_learning.rl.rollout import play
from online_learning.rl.steps import Steps
from online_learning.simulator.config import SimulatorConfig
from online_learning.simulator.simulator import FEATURES, Simulator
from online_learning.simulator.taste import Tastes
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.private import (
    NO_NOISE,
    Clips,
    SlateRows,
    clipped_sums,
    private_sums,
    statistics_of,
)
from online_learning.statistics.relative import RelativeStatistics
from streams.commands.tastes import fit_tastes
from tests.benchmarks.inputs import DataFolder, faults_told, read_data

CONFIG = SimulatorConfig(sessions=3)
BLOCKS = (50, 50, 100, 200, 400)
"""Users of a block: each is as many as all before."""
EPSILONS = (1.0, 4.0, 8.0, math.inf)
DELTA = 1e-5
RATE = 0.3
"""What the release says that rewards are."""
PRIOR = LinearPrior(np.eye(len(FEATURES))[1], noise_variance=RATE * (1.0 - RATE), relative=True)
EXPECTED = np.eye(len(FEATURES))[:2].sum(axis=0)
SPACE = Learning.of("thompson", PRIOR).feature_space


def rows_of(steps: Steps, config: SimulatorConfig) -> SlateRows:
    """Return what users were shown; a user is known by their last slate."""
    user = np.arange(len(steps.index))
    for slate in user[::-1]:
        if steps.following[slate] >= 0:
            user[slate] = user[steps.following[slate]]
    slate, position = np.nonzero(steps.index >= 0)
    looked = (position + 1.0) ** -config.position_bias
    rows = [
        RelativeStatistics.rows(features[index[index >= 0]])
        for features, index in zip(steps.features, steps.index, strict=True)
    ]
    rewards = steps.rewards[slate, position].astype(np.float64)
    return SlateRows(user[slate], np.concatenate(rows), looked, rewards)


def measured(tastes: Tastes, statistics: RelativeStatistics, users: int, seed: int) -> float:
    """Return clicks of a user who is served by the weights believed in."""
    policy = create_policy("greedy", PRIOR)
    policy.update(statistics)
    simulator = Simulator(tastes, CONFIG, n=users, rng=np.random.default_rng([seed, 0]))
    return play(simulator, policy, rng=np.random.default_rng([seed, 0, 1]), keep=False)[0].reward


def run(tastes: Tastes, epsilon: float, seed: int, *, users: int, impressions: float) -> list[float]:
    """Return what is earned before anything is learned, and after each block."""
    statistics = RelativeStatistics(len(FEATURES), feature_space=SPACE)
    sigma = gaussian_sigma(epsilon, DELTA) if epsilon < math.inf else 0.0
    earned = [measured(tastes, statistics, users, seed)]
    for block, n in enumerate(BLOCKS, 1):
        policy = create_policy("thompson", PRIOR, propensity_samples=1)
        policy.update(statistics)
        simulator = Simulator(tastes, CONFIG, n=n, rng=np.random.default_rng([seed, block]))
        _, steps = play(simulator, policy, rng=np.random.default_rng([seed, block, 1]))
        assert steps is not None
        noise = np.random.default_rng([seed, block, 2])
        slates = rows_of(steps, CONFIG)
        if sigma:
            told = private_sums(slates, EXPECTED, clips=Clips.of(impressions, RATE), sigma=sigma, rng=noise)
        else:
            told = clipped_sums(slates, EXPECTED, Clips(math.inf, math.inf, math.inf)), NO_NOISE
        statistics = statistics + statistics_of(*told, EXPECTED, feature_space=SPACE)
        earned.append(measured(tastes, statistics, users, seed))
    return earned


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each epsilon.")] = 10,
    first: Annotated[int, typer.Option(help="The first seed.")] = 0,
    users: Annotated[int, typer.Option(min=1, help="Users that all are measured on.")] = 500,
    impressions: Annotated[float, typer.Option(min=0.0, help="Of a user, about, that count in full.")] = 20.0,
    data: DataFolder = None,
) -> None:
    """Print clicks of a user by epsilon and by the number of users learned from."""
    torch.set_num_threads(1)
    tastes = fit_tastes(read_data(data), seed=0)
    learned_from = np.cumsum((0, *BLOCKS))
    print(
        f"clicks a user, seeds {first} to {first + seeds - 1}, 95 %; {impressions:g} impressions count, "
        f"delta {DELTA}"
    )
    print(f"{CONFIG}\n| epsilon | " + " | ".join(f"{n:,} users" for n in learned_from) + " |")
    print("|---" * (2 + len(BLOCKS)) + "|")
    exact: np.ndarray | None = None
    scale = student.ppf(0.975, seeds - 1) / math.sqrt(seeds)
    for epsilon in EPSILONS[::-1]:
        runs = np.array([
            run(tastes, epsilon, seed, users=users, impressions=impressions)
            for seed in range(first, first + seeds)
        ])  # fmt: skip
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(runs.mean(0), scale * runs.std(0, ddof=1), strict=True)]
        print(f"| {epsilon:g} | " + " | ".join(cells) + " |", flush=True)
        if exact is None:
            exact = runs
        else:
            lost = runs - exact
            told = zip(lost.mean(0), scale * lost.std(0, ddof=1), strict=True)
            print("| less ∞ | " + " | ".join(f"{m:+.2f} ± {s:.2f}" for m, s in told) + " |", flush=True)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
