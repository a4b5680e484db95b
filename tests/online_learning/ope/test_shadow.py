"""Propensities that another policy would have had, in the log of one, tell what the other is worth."""

import numpy as np
import pytest

from online_learning.ope.evaluation import Estimate, evaluate
from online_learning.ope.slates import SLATE_ESTIMATORS, LoggedSlates
from online_learning.policies.policy import Policy
from online_learning.policies.registry import create_policy
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates

N, N_ITEMS, DIM, K = 4_000, 8, 4, 2
WEIGHTS = np.array([0.3, 0.15, -0.1, 0.05])
PRIOR = LinearPrior(WEIGHTS, precision=50.0)
LIVE = {"temperature": 0.3}
OTHERS: dict[str, dict[str, float]] = {
    "softmax": {"temperature": 0.12},
    "epsilon-greedy": {"epsilon": 0.4},
    "random": {},
    "greedy": {},
    "thompson": {"exploration": 1.0, "propensity_samples": 128},
}


def requests(seed: int) -> Candidates:
    rng = np.random.default_rng(seed)
    features = rng.normal(scale=0.5, size=(N, N_ITEMS, DIM)).astype(np.float32)
    features[..., 0] = 1.0
    everything = np.ones((N, N_ITEMS), np.bool_)
    return Candidates(features[..., 1], features, everything)


def choose(policy: Policy, candidates: Candidates, seed: int) -> tuple[np.ndarray, np.ndarray]:
    seeds = np.arange(N, dtype=np.uint64) + np.uint64(seed * N)
    slates = policy.select(candidates, k=np.full(N, K), seeds=seeds)
    return slates.index, slates.propensities.astype(float)


def chances(candidates: Candidates, index: np.ndarray) -> np.ndarray:
    """A click at each position; the second is half as likely under a good first one: a cascade."""
    chosen = np.take_along_axis(candidates.features, index[:, :, None], axis=1) @ WEIGHTS
    chance = np.clip(chosen, 0.02, 0.98)
    chance[:, 1] *= 1.0 - 0.5 * chance[:, 0]
    return chance


@pytest.mark.parametrize("name", OTHERS)
def test_the_estimate_from_the_live_log_covers_what_the_policy_earns_itself(name: str) -> None:
    live = create_policy("softmax", PRIOR, **LIVE)
    other = create_policy(name, PRIOR, **OTHERS[name])
    candidates = requests(1)
    index, logged = choose(live, candidates, seed=2)
    rewards = (np.random.default_rng(3).random((N, K)) < chances(candidates, index)).astype(float)
    seeds = np.arange(N, dtype=np.uint64) * np.uint64(31) + np.uint64(7)
    target = other.propensities(candidates, index, seeds=seeds).astype(float)
    log = LoggedSlates(rewards, np.stack([logged, target]), logged)
    measured = np.mean(
        [chances(candidates, choose(other, candidates, seed=s)[0]).sum(axis=1) for s in (4, 5)]
    )
    for estimator in ("rips", "snrips", "snsips"):
        same, found = evaluate(log, {estimator: SLATE_ESTIMATORS[estimator]}, resamples=300)[estimator]
        assert isinstance(found, Estimate)
        assert found.low <= measured <= found.high
        assert found.high - found.low < 0.35 * measured
        assert same.value == pytest.approx(rewards.sum(axis=1).mean())
    assert abs(measured - rewards.sum(axis=1).mean()) > 0.01  # another policy, another value
