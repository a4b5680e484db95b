"""Policies that explore by a prior, where rewards are rare and where they are not."""

import numpy as np
import pytest

from online_learning.policies.policy import Policy
from online_learning.policies.registry import Learning, create_policy
from online_learning.statistics.arm_posterior import infer_disjoint
from online_learning.statistics.posterior import MOST_VARIANCE, LinearPrior, infer
from online_learning.types import Candidates
from tests.policy_checks import arms_of, unit

EXPLORERS = (
    "thompson",
    "thompson-disjoint",
    "thompson-logistic",
    "linucb",
    "linucb-disjoint",
    "linucb-hybrid",
)
RATES = (0.0005, 0.005, 0.05, 0.25)
DIM, N, WIDTH, K = 12, 200, 60, 10


def prior(rate: float, *, known: bool = True) -> LinearPrior:
    """What is believed of a release's features; its own probability is the second of them."""
    weights = np.eye(DIM)[1]
    return LinearPrior(weights, noise_variance=rate * (1.0 - rate) if known else MOST_VARIANCE)


def listed(rate: float) -> Candidates:
    """Candidates of 200 users whose odds differ by the same factors, and whose mean probability is `rate`."""
    rng = np.random.default_rng(0)
    odds = rate / (1.0 - rate) * np.exp(rng.normal(scale=0.7, size=(N, WIDTH)))
    chance = odds / (1.0 + odds)
    signals = rng.random((N, WIDTH, 2)) ** 4  # strong for a few
    hidden = unit(rng.normal(size=(N, WIDTH, DIM - 4)))
    features = np.concatenate([np.ones((N, WIDTH, 1)), chance[..., None], hidden, signals], axis=-1)
    there = np.ones((N, WIDTH), np.bool_)
    return Candidates(chance.astype(np.float32), features.astype(np.float32), there, arms=arms_of(N, WIDTH))


def share_of_best(policy: Policy, candidates: Candidates) -> float:
    """What the slates are expected to earn of what the best ones would, if the release is right."""
    seeds = np.arange(1, N + 1, dtype=np.uint64)
    index = policy.select(candidates, k=np.full(N, K), seeds=seeds).index
    best = np.sort(candidates.scores, axis=1)[:, -K:].sum()
    return float(np.take_along_axis(candidates.scores, index, axis=1).sum() / best)


def shares(name: str, exploration: float) -> list[float]:
    made = [create_policy(name, prior(rate), exploration=exploration, propensity_samples=1) for rate in RATES]
    return [share_of_best(policy, listed(rate)) for policy, rate in zip(made, RATES, strict=True)]


@pytest.mark.parametrize("name", EXPLORERS)
def test_before_anything_is_learned_slates_follow_the_release_however_rare_rewards_are(name: str) -> None:
    found = shares(name, 0.1)
    assert min(found) > 0.95
    assert np.ptp(found) < 0.01


@pytest.mark.parametrize("name", EXPLORERS)
def test_who_is_told_to_explore_does_so_as_much_at_any_rate(name: str) -> None:
    found = shares(name, 5.0)
    assert max(found) < 0.96
    assert np.ptp(found) < 0.12


def test_where_the_rate_is_not_known_the_prior_is_that_of_the_most_noise() -> None:
    unknown = create_policy("thompson", prior(0.005, known=False), propensity_samples=1)
    assert share_of_best(unknown, listed(0.005)) < 0.7
    assert prior(0.5).weight_precision == prior(0.5).precision == LinearPrior(np.zeros(1)).weight_precision


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["thompson", "thompson-disjoint"])
def test_the_rewards_that_correct_a_release_are_as_many_at_any_rate(name: str, rate: float) -> None:
    believed = LinearPrior(np.array([rate]), noise_variance=rate * (1.0 - rate))
    statistics = Learning.of(name, believed).empty()
    shown, item = np.ones((round(20 / rate), 1)), np.zeros(round(20 / rate), np.uint64)
    statistics.add_impressions(shown, arms=item)
    statistics.add_rewards(shown[:40], np.ones(40), arms=item[:40])  # twice as many as are believed in
    replaced = Learning.of(name, believed).prior
    mean = (infer if name == "thompson" else infer_disjoint)(replaced, statistics).mean
    trust = believed.precision * MOST_VARIANCE**2  # in rewards, where they are rare
    assert mean.flat[0] == pytest.approx(rate * (1 + 20 / (20 + trust / (1 - rate))), rel=1e-3)
