import numpy as np

from online_learning.policies.greedy import GreedyPolicy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior
from tests.policy_checks import DIM, random_candidates, request

PRIOR = LinearPrior(np.linspace(-1.0, 1.0, DIM))


def test_slates_are_ordered_by_expected_reward() -> None:
    candidates = random_candidates(0, valid=1.0)
    slates = GreedyPolicy(PRIOR).select(candidates, **request(5, 30))
    utility = np.take_along_axis(candidates.features @ PRIOR.weights, slates.index, axis=1)
    assert (np.diff(utility, axis=1) <= 1e-6).all()


def test_equal_utilities_keep_the_order_of_the_candidates() -> None:
    slates = GreedyPolicy(LinearPrior(np.zeros(DIM))).select(random_candidates(0, valid=1.0), **request(5, 9))
    assert (slates.index == np.arange(9)).all()


def test_what_was_rewarded_moves_to_the_front() -> None:
    candidates = random_candidates(1, n=1, valid=1.0)
    policy = GreedyPolicy(LinearPrior(np.zeros(DIM), precision=1.0))
    statistics = LinearStatistics(DIM)
    shown = np.random.default_rng(2).normal(size=(500, DIM))
    truth = np.array([0.0, 1.0, -2.0, 0.5, 0.0, 1.0])
    statistics.add_impressions(shown)
    statistics.add_rewards(shown, shown @ truth)
    policy.update(statistics)
    best = int(np.argmax(candidates.features[0] @ truth))
    assert policy.select(candidates, **request(1, 1)).index[0, 0] == best
