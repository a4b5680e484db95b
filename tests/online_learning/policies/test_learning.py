"""Policies on a simulated linear bandit, whose truth is known: learning must pay."""

from functools import cache

import numpy as np
import pytest

from online_learning.policies.registry import create_policy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates

DIM, N_CANDIDATES, K, BATCH, ROUNDS = 8, 25, 3, 20, 60
SEEDS = (1, 2, 3, 4)


@cache
def regret(name: str, seed: int, learns: bool = True) -> np.ndarray:
    """Return the expected reward lost to the best slates in each round, shape (ROUNDS,).

    The prior is a model that has learned other tastes: half right, half wrong.
    """
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=DIM)
    truth *= 0.25 / np.linalg.norm(truth)
    guess = truth * (np.arange(DIM) % 2 == 0) + rng.normal(scale=0.08, size=DIM)
    truth[0], guess[0] = 0.4, 0.4
    policy = create_policy(name, LinearPrior(guess, precision=20.0), temperature=0.05, exploration=0.3)
    statistics = LinearStatistics(DIM)
    lost = np.zeros(ROUNDS)
    for number in range(ROUNDS):
        features = rng.normal(scale=0.6, size=(BATCH, N_CANDIDATES, DIM)).astype(np.float32)
        features[..., 0] = 1.0
        chance = np.clip(features @ truth, 0.0, 1.0)
        candidates = Candidates(features @ guess.astype(np.float32), features, np.ones(chance.shape, bool))
        slates = policy.select(
            candidates, k=np.full(BATCH, K), seeds=rng.integers(0, 2**63, BATCH).astype(np.uint64)
        )
        shown = np.take_along_axis(features, slates.index[..., None], axis=1).reshape(-1, DIM)
        gained = np.take_along_axis(chance, slates.index, axis=1).ravel()
        clicked = rng.random(len(gained)) < gained
        statistics.add_impressions(shown)
        statistics.add_rewards(shown[clicked], np.ones(clicked.sum()))
        if learns:
            policy.update(statistics)
        lost[number] = np.sort(chance, axis=1)[:, -K:].sum() - gained.sum()
    return lost


@pytest.mark.parametrize("seed", SEEDS)
def test_thompson_loses_less_than_a_model_that_does_not_learn_and_than_chance(seed: int) -> None:
    thompson = regret("thompson", seed).sum()
    assert thompson < 0.6 * regret("greedy", seed, learns=False).sum()
    assert thompson < 0.25 * regret("random", seed).sum()


@pytest.mark.parametrize("name", ["thompson", "softmax", "greedy"])
def test_regret_falls_as_a_policy_learns(name: str) -> None:
    lost = np.sum([regret(name, seed) for seed in SEEDS], axis=0)
    assert lost[-15:].mean() < 0.65 * lost[:5].mean()


def test_chance_does_not_learn() -> None:
    lost = np.sum([regret("random", seed) for seed in SEEDS], axis=0)
    assert lost[-15:].mean() == pytest.approx(lost[:15].mean(), rel=0.1)
