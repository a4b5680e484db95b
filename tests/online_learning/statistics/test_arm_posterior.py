import numpy as np
import pytest

from online_learning.statistics.arm_posterior import infer_disjoint, infer_hybrid
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior, infer

DIM, ARMS = 4, np.array([3, 900, 2**63 + 5], np.uint64)
PRIOR = LinearPrior(np.array([0.5, 0.0, -1.0, 0.2]), precision=1.7, noise_variance=0.3)


def observations(seed: int, n: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, DIM)), ARMS[rng.integers(0, 3, n)], rng.normal(size=n)


def filled(seed: int = 0) -> ArmStatistics:
    rows, arms, rewards = observations(seed)
    statistics = ArmStatistics(DIM)
    statistics.add_impressions(rows, arms=arms)
    statistics.add_rewards(rows, rewards, arms=arms)
    return statistics


def test_a_disjoint_arm_is_the_shared_model_of_its_own_rows() -> None:
    rows, arms, rewards = observations(0)
    posterior = infer_disjoint(PRIOR, filled())
    for slot, arm in enumerate(ARMS):
        own = LinearStatistics(DIM)
        own.add_impressions(rows[arms == arm])
        own.add_rewards(rows[arms == arm], rewards[arms == arm])
        expected = infer(PRIOR, own)
        np.testing.assert_allclose(posterior.mean[slot], expected.mean, rtol=1e-9)
        np.testing.assert_allclose(posterior.covariance[slot], expected.root @ expected.root.T, rtol=1e-8)
    np.testing.assert_array_equal(posterior.mean[-1], PRIOR.weights)


def test_a_hybrid_arm_is_the_regression_on_shared_and_own_features_together() -> None:
    rows, arms, rewards = observations(1)
    statistics = ArmStatistics(DIM)
    statistics.add_impressions(rows, arms=arms)
    statistics.add_rewards(rows, rewards, arms=arms)
    posterior = infer_hybrid(PRIOR, statistics, arm_precision=0.8)
    # Shared weights, then those of each of the three arms and of one never shown, in one regression.
    wide = np.zeros((len(rows), 5 * DIM))
    wide[:, :DIM] = rows
    for slot, arm in enumerate(ARMS):
        wide[arms == arm, DIM * (slot + 1) : DIM * (slot + 2)] = rows[arms == arm]
    trust = np.repeat([PRIOR.precision, 0.8, 0.8, 0.8, 0.8], DIM) * PRIOR.weight_precision / PRIOR.precision
    covariance = np.linalg.inv(wide.T @ wide / PRIOR.noise_variance + np.diag(trust))
    before = np.concatenate([PRIOR.weight_precision * PRIOR.weights, np.zeros(4 * DIM)])
    mean = covariance @ (before + wide.T @ rewards / PRIOR.noise_variance)
    for slot in range(4):
        view = np.zeros((DIM, 5 * DIM))
        view[:, :DIM] = view[:, DIM * (slot + 1) : DIM * (slot + 2)] = np.eye(DIM)
        np.testing.assert_allclose(posterior.mean[slot], view @ mean, rtol=1e-8)
        np.testing.assert_allclose(posterior.covariance[slot], view @ covariance @ view.T, atol=1e-10)


def test_hybrid_arms_that_may_not_differ_are_the_shared_model() -> None:
    rows, arms, rewards = observations(2)
    whole = LinearStatistics(DIM)
    whole.add_impressions(rows)
    whole.add_rewards(rows, rewards)
    statistics = ArmStatistics(DIM)
    statistics.add_impressions(rows, arms=arms)
    statistics.add_rewards(rows, rewards, arms=arms)
    posterior = infer_hybrid(PRIOR, statistics, arm_precision=1e9)
    np.testing.assert_allclose(posterior.mean, np.tile(infer(PRIOR, whole).mean, (4, 1)), rtol=1e-5)


def test_candidates_and_whole_catalogues_are_scored_alike() -> None:
    posterior = infer_disjoint(PRIOR, filled(3))
    contexts = np.random.default_rng(4).normal(size=(6, DIM)).astype(np.float32)
    mean, deviation = posterior.score(contexts[[0, 1, 2, 0, 3, 4, 5, 0]])
    repeated = contexts[[0, 1, 2, 0, 3, 4, 5, 0]]
    features = np.repeat(repeated[:, None], 3, axis=1)
    one_mean, one_deviation = posterior.moments(features, np.tile(np.sort(ARMS), (8, 1)))
    np.testing.assert_allclose(mean, one_mean, atol=1e-5)
    np.testing.assert_allclose(deviation, one_deviation, rtol=1e-4)


def test_an_arm_never_shown_is_as_the_prior_has_it() -> None:
    posterior = infer_disjoint(PRIOR, filled(5))
    x = np.ones((1, 1, DIM), np.float32)
    mean, deviation = posterior.moments(x, np.array([[77]], np.uint64))
    assert mean.item() == pytest.approx(PRIOR.weights.sum(), rel=1e-6)
    assert deviation.item() == pytest.approx(np.sqrt(DIM / PRIOR.weight_precision), rel=1e-6)
