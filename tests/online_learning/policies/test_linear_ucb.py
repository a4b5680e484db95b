import numpy as np
import pytest

from online_learning.policies.greedy import GreedyPolicy
from online_learning.policies.linear_ucb import LinearUcbPolicy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.policy_checks import DIM, random_candidates, request

PRIOR = LinearPrior(np.linspace(-1.0, 1.0, DIM), precision=2.0)


def test_slates_are_ordered_by_the_bound_of_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(300, DIM)).astype(np.float32)
    statistics = LinearStatistics(DIM)
    statistics.add_impressions(shown)
    statistics.add_rewards(shown[:90], np.ones(90))
    policy = LinearUcbPolicy(PRIOR, exploration=1.5)
    policy.update(statistics)
    candidates = random_candidates(1, valid=1.0)
    x = candidates.features.astype(np.float64)
    precision = shown.T.astype(np.float64) @ shown / PRIOR.noise_variance + 2.0 * np.eye(DIM)
    moment = 2.0 * PRIOR.weights + shown[:90].sum(0, dtype=np.float64) / PRIOR.noise_variance
    covariance = np.linalg.inv(precision)
    bound = x @ (covariance @ moment) + 1.5 * np.sqrt(np.einsum("bcf,fg,bcg->bc", x, covariance, x))
    index = policy.select(candidates, **request(5, 30)).index
    assert (np.diff(np.take_along_axis(bound, index, 1), axis=1) <= 1e-5).all()


def test_without_exploration_it_is_greedy() -> None:
    candidates, asked = random_candidates(0), request(5, 9)
    slates = LinearUcbPolicy(PRIOR, exploration=0.0).select(candidates, **asked)
    assert (slates.index == GreedyPolicy(PRIOR).select(candidates, **asked).index).all()


def test_of_equal_means_the_less_known_comes_first() -> None:
    statistics = LinearStatistics(2)
    statistics.add_impressions(np.tile(np.array([[1.0, 0.0]], np.float32), (1000, 1)))
    policy = LinearUcbPolicy(LinearPrior(np.zeros(2)), exploration=1.0)
    policy.update(statistics)
    two = Candidates(np.zeros((1, 2), np.float32), np.eye(2, dtype=np.float32)[None], np.ones((1, 2), bool))
    assert policy.select(two, **request(1, 2)).index.tolist() == [[1, 0]]


@pytest.mark.parametrize("exploration", [-1.0, float("nan"), float("inf")])
def test_an_exploration_that_makes_no_sense_is_refused(exploration: float) -> None:
    with pytest.raises(ValueError, match="exploration must be finite and at least 0"):
        LinearUcbPolicy(PRIOR, exploration=exploration)
