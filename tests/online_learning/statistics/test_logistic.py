import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from online_learning.statistics.logistic import MIN_CHANCE, LogisticStatistics, infer_logistic
from online_learning.statistics.posterior import LinearPrior

DIM = 3
PRIOR = LinearPrior(np.array([0.2, 0.05, 0.0]), precision=3.0)


def log_odds(chance: np.ndarray) -> np.ndarray:
    within = np.clip(chance, MIN_CHANCE, 1.0 - MIN_CHANCE)
    return np.log(within) - np.log1p(-within)


def clicks(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, DIM))
    rows[:, 0] = 1.0
    odds = log_odds(rows @ PRIOR.weights) + rows @ [0.5, -1.0, 0.8]
    return rows, rng.random(n) < 1.0 / (1.0 + np.exp(-odds))


def fold(statistics: LogisticStatistics, rows: np.ndarray, clicked: np.ndarray) -> LogisticStatistics:
    statistics.add_impressions(rows)
    statistics.add_rewards(rows[clicked], np.ones(int(clicked.sum())))
    return statistics


def log_posterior_is_highest_at(rows: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    def negative(weights: np.ndarray) -> float:
        odds = log_odds(rows @ PRIOR.weights) + rows @ weights
        return float(np.logaddexp(0, odds).sum() - odds[clicked].sum() + 1.5 * weights @ weights)

    return minimize(negative, np.zeros(DIM), tol=1e-12).x


def test_developed_at_its_own_mean_it_is_the_laplace_approximation() -> None:
    rows, clicked = clicks(0)
    reference = np.zeros(DIM)
    for _ in range(20):
        statistics = LogisticStatistics(PRIOR)
        statistics.develop_at(reference)
        posterior = infer_logistic(PRIOR, fold(statistics, rows, clicked))
        reference = posterior.mean
    np.testing.assert_allclose(posterior.mean, log_posterior_is_highest_at(rows, clicked), atol=1e-4)
    p = 1.0 / (1.0 + np.exp(-log_odds(rows @ PRIOR.weights) - rows @ reference))
    curvature = (rows * (p * (1 - p))[:, None]).T @ rows + 3.0 * np.eye(DIM)
    np.testing.assert_allclose(posterior.root @ posterior.root.T, np.linalg.inv(curvature), rtol=1e-3)


def test_developed_batch_after_batch_it_comes_close_to_the_whole_likelihood() -> None:
    rows, clicked = clicks(1, 3000)
    statistics = LogisticStatistics(PRIOR)
    for first in range(0, 3000, 50):
        part = slice(first, first + 50)
        fold(statistics, rows[part], clicked[part])
        statistics.develop_at(infer_logistic(PRIOR, statistics).mean)
    best = log_posterior_is_highest_at(rows, clicked)
    np.testing.assert_allclose(infer_logistic(PRIOR, statistics).mean, best, atol=0.06)


@given(seed=st.integers(0, 30), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_any_batching_gives_the_same_bits(seed: int, cuts: list[int]) -> None:
    rows, clicked = clicks(seed, 60)
    whole, pieces = (LogisticStatistics(PRIOR, half_life_ms=10) for _ in range(2))
    edges = [0, *sorted(cuts), 60]
    for statistics, ends in ((whole, [0, 60]), (pieces, edges)):
        statistics.develop_at(np.array([0.1, -0.3, 0.2]))
        for first, last in zip(ends[:-1], ends[1:], strict=True):
            statistics.add_impressions(rows[first:last], times_ms=np.arange(first, last))
    assert pieces.to_bytes() == whole.to_bytes()


@given(seed=st.integers(0, 30), cut=st.integers(0, 60))
def test_saving_and_resuming_changes_nothing(seed: int, cut: int) -> None:
    rows, clicked = clicks(seed, 60)
    live = LogisticStatistics(PRIOR)
    live.develop_at(np.array([0.3, 0.0, -0.7]))
    fold(live, rows[:cut], clicked[:cut])
    resumed = LogisticStatistics.read_for(live.to_bytes(), PRIOR)
    assert fold(resumed, rows[cut:], clicked[cut:]) == fold(live, rows[cut:], clicked[cut:])


def test_the_order_of_adding_does_not_show() -> None:
    parts = []
    for seed in range(3):
        part = LogisticStatistics(PRIOR)
        part.develop_at(np.full(DIM, 0.1 * seed))
        parts.append(fold(part, *clicks(seed, 50 + seed)))
    forth, back = parts[0] + parts[1] + parts[2], parts[2] + (parts[1] + parts[0])
    np.testing.assert_allclose(forth.gram, back.gram, rtol=1e-13)
    np.testing.assert_allclose(forth.moment, back.moment, rtol=1e-12)
    np.testing.assert_array_equal(forth.reference, back.reference)


def test_what_is_not_finite_is_left_out() -> None:
    rows, clicked = clicks(2, 20)
    spoilt = np.concatenate([rows, np.full((1, DIM), np.nan), np.full((1, DIM), np.inf)])
    statistics = LogisticStatistics(PRIOR)
    assert statistics.add_impressions(spoilt) == 20
    assert np.isfinite(statistics.gram).all()


def test_a_reference_that_is_no_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="weights must be a finite vector of 3, got shape"):
        LogisticStatistics(PRIOR).develop_at(np.array([0.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match=r"weights must be a finite vector of 3, got shape \(2,\)"):
        LogisticStatistics(PRIOR).develop_at(np.zeros(2))


def test_a_snapshot_of_another_half_life_is_refused() -> None:
    data = LogisticStatistics(PRIOR, half_life_ms=7).to_bytes()
    with pytest.raises(ValueError, match="half_life_ms must be None, got 7"):
        LogisticStatistics.read_for(data, PRIOR)


def test_an_impression_cannot_be_taken_back() -> None:
    statistics = LogisticStatistics(LinearPrior(np.zeros(2)))
    with pytest.raises(ValueError, match="impressions must not be amended in logistic statistics"):
        statistics.amend_impressions(np.ones((1, 2)), -np.ones(1))
