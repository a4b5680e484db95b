"""Every policy keeps the contract of tests/policy_checks.py."""

from collections.abc import Callable

import numpy as np
import pytest

from online_learning.factory import POLICIES, create_policy
from online_learning.policy import Policy
from online_learning.posterior import LinearPrior
from online_learning.statistics import LinearStatistics
from tests.policy_checks import CHECKS, DIM, FEATURE_SPACE, Make, random_candidates, request

PRIOR = LinearPrior(np.arange(DIM) / DIM, precision=2.0, feature_space=FEATURE_SPACE)

LEARNED = ("softmax", "thompson", "linucb", "epsilon-greedy", "greedy")


def maker(name: str) -> Make:
    def make() -> Policy:
        return create_policy(name, PRIOR, temperature=0.2, exploration=0.3, propensity_samples=128)

    return make


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_policy_keeps_the_contract(name: str, check: Callable[[Make], None]) -> None:
    check(maker(name))


@pytest.mark.parametrize("name", POLICIES)
def test_created_policy_has_the_name_it_was_asked_by(name: str) -> None:
    assert maker(name)().name == name


def test_unknown_policy_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="policy must be one of softmax, thompson, .* got 'ucb1'"):
        create_policy("ucb1", PRIOR)


@pytest.mark.parametrize("name", LEARNED)
def test_update_with_other_statistics_is_refused_and_leaves_the_policy_as_it_was(name: str) -> None:
    policy = maker(name)()
    policy.update(LinearStatistics(DIM, feature_space=FEATURE_SPACE))
    before = policy.select(random_candidates(0), **request(5, 3))
    with pytest.raises(ValueError, match=f"dim {DIM}, got 7"):
        policy.update(LinearStatistics(7, feature_space=FEATURE_SPACE))
    with pytest.raises(ValueError, match="feature_space 'release-1', got 'release-2'"):
        policy.update(LinearStatistics(DIM, feature_space="release-2"))
    broken = LinearStatistics(DIM, feature_space=FEATURE_SPACE)
    broken.gram -= 100.0 * np.eye(DIM)
    with pytest.raises(ValueError, match="positive semi-definite"):
        policy.update(broken)
    after = policy.select(random_candidates(0), **request(5, 3))
    assert np.array_equal(before.index, after.index)
    assert policy.version == 0


@pytest.mark.parametrize("name", LEARNED)
def test_features_of_another_dimension_are_refused(name: str) -> None:
    policy = create_policy(name, LinearPrior(np.zeros(DIM + 1)))
    with pytest.raises(ValueError, match=f"dimension {DIM + 1}, got {DIM}"):
        policy.select(random_candidates(0), **request(5, 3))


@pytest.mark.parametrize("name", POLICIES)
def test_request_arrays_that_do_not_fit_are_refused(name: str) -> None:
    policy = maker(name)()
    with pytest.raises(ValueError, match=r"k and seeds must have shape \(5,\)"):
        policy.select(random_candidates(0), **request(4, 3))
    with pytest.raises(ValueError, match="k must be at least 0, got -1"):
        policy.select(random_candidates(0), **request(5, -1))
