import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior, infer

DIM = 4


def learned(seed: int, n: int = 50) -> tuple[np.ndarray, np.ndarray, LinearStatistics]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, DIM)).astype(np.float32)
    y = rng.integers(0, 2, n).astype(np.float64)
    statistics = LinearStatistics(DIM)
    statistics.add_impressions(x)
    statistics.add_rewards(x[y > 0], y[y > 0])  # no reward is a reward of 0
    return x.astype(np.float64), y, statistics


@given(
    seed=st.integers(0, 50),
    precision=st.floats(0.01, 1e4),
    noise_variance=st.floats(0.01, 10.0),
)
def test_posterior_is_ridge_regression_around_the_prior(seed, precision, noise_variance) -> None:
    x, y, statistics = learned(seed)
    w0 = np.random.default_rng(seed + 1).normal(size=DIM)
    prior = LinearPrior(w0, precision=precision, noise_variance=noise_variance)
    posterior = infer(prior, statistics)
    # Ridge with penalty weight_precision * noise_variance on w - w0, as one least-squares problem.
    root = np.sqrt(prior.weight_precision * noise_variance)
    expected = np.linalg.lstsq(np.vstack([x, root * np.eye(DIM)]), np.append(y, root * w0), rcond=None)[0]
    np.testing.assert_allclose(posterior.mean, expected, rtol=1e-8, atol=1e-8)
    covariance = np.linalg.inv(x.T @ x / noise_variance + prior.weight_precision * np.eye(DIM))
    np.testing.assert_allclose(posterior.root @ posterior.root.T, covariance, rtol=1e-8, atol=1e-12)


def test_without_statistics_the_posterior_is_the_prior() -> None:
    w0 = np.arange(DIM) / 2
    for posterior in (
        infer(LinearPrior(w0, precision=4.0)),
        infer(LinearPrior(w0, precision=4.0), LinearStatistics(DIM)),
    ):
        np.testing.assert_allclose(posterior.mean, w0)
        np.testing.assert_allclose(posterior.root, 0.5 * np.eye(DIM))
        assert posterior.version == 0


def test_shown_and_never_clicked_lowers_the_expected_reward() -> None:
    prior = LinearPrior(np.array([0.5, 0.0, 0.0, 0.0]))
    statistics = LinearStatistics(DIM)
    x = np.array([[1.0, 0.0, 0.0, 0.0]], np.float32)
    utility = [infer(prior, statistics).mean[0]]
    for _ in range(3):
        statistics.add_impressions(np.repeat(x, 100, axis=0))
        utility.append(infer(prior, statistics).mean[0])
    assert utility == sorted(utility, reverse=True)
    assert utility[-1] < 0.1


def test_uncertainty_shrinks_with_evidence_in_its_direction_only() -> None:
    statistics = LinearStatistics(DIM)
    statistics.add_impressions(np.repeat(np.eye(DIM, dtype=np.float32)[:1], 1000, axis=0))
    posterior = infer(LinearPrior(np.zeros(DIM), precision=1.0), statistics)
    deviations = np.sqrt(np.diag(posterior.root @ posterior.root.T))
    assert deviations[0] < 0.05
    np.testing.assert_allclose(deviations[1:], 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": 0.0}, "precision must be finite and above 0, got 0.0"),
        ({"precision": np.inf}, "precision must be finite and above 0, got inf"),
        ({"noise_variance": -1.0}, "noise_variance must be finite and above 0, got -1.0"),
        ({"noise_variance": np.nan}, "noise_variance must be finite and above 0, got nan"),
        ({"weights": np.array([np.nan])}, "weights must be a finite vector"),
        ({"weights": np.zeros((2, 2))}, "weights must be a finite vector"),
        ({"weights": np.zeros(0)}, "weights must be a finite vector"),
    ],
)
def test_a_prior_that_is_none_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearPrior(**{"weights": np.zeros(2), **settings})


def test_the_prior_keeps_its_own_weights() -> None:
    weights = np.ones(DIM)
    prior = LinearPrior(weights)
    weights[0] = 5.0
    np.testing.assert_allclose(infer(prior).mean, 1.0)
