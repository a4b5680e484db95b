"""Every policy keeps the contract of tests/policy_checks.py."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from online_learning.policies.apprentice import ApprenticePolicy
from online_learning.policies.options import SlateRules
from online_learning.policies.policy import Policy
from online_learning.policies.registry import POLICIES, REGISTRY, Learning, create_policy, find
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from streams.settings import Settings
from tests.policy_checks import CHECKS, DIM, FEATURE_SPACE, PRIOR, Make, learning, random_candidates, request
from tests.propensity_checks import CHECKS as PROPENSITY_CHECKS

LEARNED = tuple(name for name in POLICIES if name not in ("random", "popularity"))


def maker(name: str) -> Make:
    rules = SlateRules(diversity=0.3, cap=1, fresh_share=0.25)
    exploration = 1.2 if name == "thompson-logistic" else 0.3  # log-odds move 4 times as far as p around 1/2

    def make() -> Policy:
        return create_policy(
            name, PRIOR, temperature=0.2, exploration=exploration, propensity_samples=128, rules=rules
        )

    return make


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("check", [*CHECKS, *PROPENSITY_CHECKS], ids=lambda check: check.__name__)
def test_policy_keeps_the_contract(name: str, check: Callable[[Make], None]) -> None:
    check(maker(name))


@pytest.mark.parametrize("check", [*CHECKS, *PROPENSITY_CHECKS], ids=lambda check: check.__name__)
def test_an_apprentice_keeps_the_contract(check: Callable[[Make], None]) -> None:
    def make() -> Policy:
        return ApprenticePolicy(
            create_policy("linucb", PRIOR), create_policy("softmax", PRIOR, temperature=0.2)
        )

    check(make)


@pytest.mark.parametrize("name", POLICIES)
def test_created_policy_has_the_name_it_was_asked_by(name: str) -> None:
    assert maker(name)().name == name


def test_unknown_policy_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="policy must be one of softmax, diverse-softmax, .* got 'ucb1'"):
        create_policy("ucb1", PRIOR)


@pytest.mark.parametrize("name", LEARNED)
def test_update_with_other_statistics_is_refused_and_leaves_the_policy_as_it_was(name: str) -> None:
    policy = maker(name)()
    policy.update(learning(policy).empty())
    before = policy.select(random_candidates(0), **request(5, 3))
    with pytest.raises(ValueError, match=f"dim {DIM}, got 7"):
        policy.update(Learning.of(name, LinearPrior(np.zeros(7), feature_space=FEATURE_SPACE)).empty())
    with pytest.raises(ValueError, match=r"feature_space 'release-1.*', got 'release-2"):
        policy.update(Learning.of(name, LinearPrior(np.zeros(DIM), feature_space="release-2")).empty())
    with pytest.raises(ValueError, match=r"feature_space 'release-1.*', got 'release-1.*half-life 5'"):
        policy.update(learning(policy, half_life_ms=5).empty())
    broken = learning(policy).empty()
    broken.add_impressions(np.eye(DIM), arms=np.zeros(DIM, np.uint64))
    broken._packed[0] = -100.0
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


@pytest.mark.parametrize("name", POLICIES)
def test_slates_that_do_not_go_with_the_candidates_are_refused(name: str) -> None:
    policy, candidates, seeds = maker(name)(), random_candidates(0), np.zeros(5, np.uint64)
    with pytest.raises(
        ValueError, match=r"index and seeds must have shapes \(5, K\) and \(5,\), got \(4, 2\)"
    ):
        policy.propensities(candidates, np.zeros((4, 2), np.int64), seeds=seeds)
    with pytest.raises(ValueError, match=r"index must be in \[-1, 30\), got 0 to 30"):
        policy.propensities(candidates, np.array([[0], [1], [2], [3], [30]]), seeds=seeds)


@pytest.mark.parametrize("name", LEARNED)
def test_statistics_of_another_kind_are_refused(name: str) -> None:
    policy = maker(name)()
    other = "thompson-disjoint" if learning(policy).kind != "arms" else "thompson"
    with pytest.raises(ValueError, match=r"statistics must be \w+Statistics, got \w+Statistics"):
        policy.update(Learning.of(other, PRIOR).empty())


@pytest.mark.parametrize("name", [name for name in LEARNED if Learning.of(name, PRIOR).kind == "arms"])
def test_a_policy_with_a_model_per_item_must_be_told_the_items(name: str) -> None:
    known = random_candidates(0)
    with pytest.raises(ValueError, match="arms must be given to a policy with a model per item, got None"):
        maker(name)().select(Candidates(known.scores, known.features, known.valid), **request(5, 3))


def test_an_option_that_no_policy_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match="options must be among temperature, rules, exploration, .* got explration"
    ):
        create_policy("thompson", PRIOR, explration=0.3)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_registry_has_a_policy_under_the_name_its_class_says(name: str) -> None:
    assert find(name).name == name
    assert find(name).Options() == find(name).Options()  # every option has a default


def test_settings_have_the_defaults_of_the_options() -> None:
    settings = Settings()
    for policy in REGISTRY.values():
        for option in fields(policy.Options):
            if option.name not in ("rules", "arm_precision"):  # made of others; of the prior's
                assert getattr(settings, option.name) == option.default
    assert settings.prior_precision == LinearPrior(np.zeros(1)).precision
