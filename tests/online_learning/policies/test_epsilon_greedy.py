import numpy as np
import pytest

from online_learning.policies.epsilon_greedy import EpsilonGreedyPolicy
from online_learning.policies.greedy import GreedyPolicy
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.policy_checks import DIM, random_candidates, request

PRIOR = LinearPrior(np.linspace(-1.0, 1.0, DIM))


def test_without_exploration_it_is_greedy() -> None:
    candidates, asked = random_candidates(0), request(5, 9)
    slates = EpsilonGreedyPolicy(PRIOR, epsilon=0.0).select(candidates, **asked)
    assert (slates.index == GreedyPolicy(PRIOR).select(candidates, **asked).index).all()
    assert (slates.propensities[slates.index >= 0] == 1.0).all()


def test_the_propensities_of_all_ordered_pairs_sum_to_one_and_are_met() -> None:
    """4 candidates, slates of 2, 100,000 users: each pair as often as its propensities say."""
    n, epsilon = 100_000, 0.4
    one = random_candidates(3, n=1, n_candidates=4, valid=1.0)
    many = Candidates(np.repeat(one.scores, n, 0), np.repeat(one.features, n, 0), np.repeat(one.valid, n, 0))
    slates = EpsilonGreedyPolicy(PRIOR, epsilon=epsilon).select(many, **request(n, 2))
    pair = slates.index[:, 0] * 4 + slates.index[:, 1]
    probability = dict(zip(pair.tolist(), slates.propensities.prod(1).tolist(), strict=True))
    assert len(probability) == 12
    assert sum(probability.values()) == pytest.approx(1.0, abs=1e-6)
    counts = np.bincount(pair, minlength=16)
    for which, p in probability.items():
        assert abs(counts[which] / n - p) < 5 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_an_epsilon_that_is_no_probability_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\]"):
        EpsilonGreedyPolicy(PRIOR, epsilon=epsilon)
