import numpy as np
import pytest

from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import REGISTRY, Learning
from online_learning.statistics.posterior import LinearPrior

PRIOR = LinearPrior(np.zeros(3))


@pytest.mark.parametrize("name", REGISTRY)
def test_a_name_alone_is_the_policy_as_it_is_configured(name: str) -> None:
    spec = PolicySpec.parse(name)
    assert (spec.text, spec.policy, spec.options) == (name, name, {})
    if name != "rl":  # it is read from a release
        assert spec.create(PRIOR).name == name


def test_options_go_before_what_is_configured_for_all() -> None:
    spec = PolicySpec.parse("thompson:exploration=0.05,propensity_samples=64")
    policy = spec.create(PRIOR, exploration=0.3, propensity_samples=256, epsilon=0.2)
    assert (policy.exploration, policy.samples) == (0.05, 64)
    assert PolicySpec.parse("epsilon-greedy").create(PRIOR, epsilon=0.2).epsilon == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "policy must be one of softmax, .* got '' in ''"),
        ("ucb1:c=2", "policy must be one of softmax, .* got 'ucb1' in 'ucb1:c=2'"),
        ("softmax:", "options of softmax must be one of temperature as option=value, got '' in 'softmax:'"),
        ("softmax:epsilon=1", "options of softmax must be one of temperature .* got 'epsilon=1'"),
        ("softmax:temperature", "options of softmax must be one of temperature .* got 'temperature'"),
        ("rl:temperature=1", "options of rl must be none, got 'temperature=1'"),
        ("greedy:epsilon=1", "options of greedy must be none, got 'epsilon=1'"),
        (
            "softmax:temperature=warm",
            "temperature must be a number, got 'warm' in 'softmax:temperature=warm'",
        ),
        (
            "softmax:temperature=0",
            "temperature must be finite and above 0, got 0.0 in 'softmax:temperature=0'",
        ),
        ("epsilon-greedy:epsilon=1.4", r"epsilon must be in \[0, 1\], got 1.4"),
        ("thompson:propensity_samples=1.5", "propensity_samples must be a whole number, got '1.5'"),
        ("softmax:temperature=1,temperature=2", "options must be given once, got temperature twice"),
    ],
)
def test_what_is_no_policy_is_refused_in_the_words_it_was_written_in(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicySpec.parse(text)


@pytest.mark.parametrize(
    ("candidate", "live", "fits"),
    [
        ("softmax:temperature=0.1", "thompson", True),
        ("random", "thompson-disjoint", True),
        ("linucb-hybrid", "thompson-disjoint", True),
        ("thompson-disjoint", "thompson", False),
        ("thompson", "thompson-logistic", False),
    ],
)
def test_a_candidate_must_learn_from_what_the_live_policy_learns_from(
    candidate: str, live: str, fits: bool
) -> None:
    learning = Learning.of(live, PRIOR)
    spec = PolicySpec.parse(candidate)
    if fits:
        spec.check_served_with(learning, live)
        spec.create(PRIOR).update(learning.empty())
        return
    with pytest.raises(
        ValueError, match=f"'{candidate}' must learn from the '{learning.kind}' statistics of"
    ):
        spec.check_served_with(learning, live)


@pytest.mark.parametrize("live", ["thompson", "thompson-disjoint", "thompson-logistic"])
def test_a_policy_that_learns_by_releases_goes_with_any_live_one(live: str) -> None:
    PolicySpec.parse("rl").check_served_with(Learning.of(live, PRIOR), live)
