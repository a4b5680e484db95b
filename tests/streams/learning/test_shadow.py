import numpy as np
import pytest

from online_learning.policies.policy import Policy
from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import Learning
from streams.errors import ConfigurationError
from streams.learning.shadow import ShadowPolicies
from streams.settings import load_settings
from tests.policy_checks import PRIOR, random_candidates, random_statistics, request

LIVE = "thompson"
LEARNING = Learning.of(LIVE, PRIOR)
TEXTS = ("softmax:temperature=0.2", "softmax:temperature=0.4", "epsilon-greedy", "random", LIVE)


def make(spec: PolicySpec) -> Policy:
    return spec.create(PRIOR, epsilon=0.3, propensity_samples=512)


def test_every_candidate_says_how_probable_the_slates_are_under_it() -> None:
    shadows = ShadowPolicies(TEXTS, make, LEARNING, LIVE)
    candidates, asked = random_candidates(0, n=20), request(20, 6)
    live = make(PolicySpec.parse(LIVE))
    statistics = random_statistics(live, 1)
    for policy in (live, *shadows):
        policy.update(statistics)
    slates = live.select(candidates, **asked)
    found = shadows.propensities(candidates, slates.index, seeds=asked["seeds"])
    assert tuple(found) == TEXTS
    for text in TEXTS[:4]:
        alone = make(PolicySpec.parse(text))
        alone.update(statistics)
        assert np.array_equal(found[text], alone.propensities(candidates, slates.index, seeds=asked["seeds"]))
    # The live policy's own candidate estimates with other samples than those that chose and were logged.
    again = live.propensities(candidates, slates.index, seeds=asked["seeds"])
    assert not np.array_equal(found[LIVE], again)
    np.testing.assert_allclose(found[LIVE], again, atol=0.12)


def test_without_candidates_nothing_is_said() -> None:
    shadows = ShadowPolicies((), make, LEARNING, LIVE)
    index = np.zeros((5, 1), np.int64)
    assert shadows.propensities(random_candidates(0), index, seeds=np.zeros(5, np.uint64)) == {}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ("softmax:temperature=0",),
            "candidate_policies: temperature must be finite and above 0, got 0.0 in",
        ),
        (("bandit",), "candidate_policies: policy must be one of softmax, .* got 'bandit'"),
        (
            ("greedy", "random", "greedy"),
            "candidate_policies: policies must be different, got 'greedy' twice",
        ),
        (("popularity",), "candidate_policies: policy must not be 'popularity', which no worker serves"),
        (
            ("linucb-disjoint",),
            "candidate policy 'linucb-disjoint' must learn from the 'linear' statistics of the live policy "
            "'thompson', but needs 'arms'",
        ),
    ],
)
def test_candidates_that_cannot_be_evaluated_stop_the_worker_at_its_start(
    texts: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ShadowPolicies(texts, make, LEARNING, LIVE)


def test_candidates_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().candidate_policies == ()
    monkeypatch.setenv("SLATESTREAM_CANDIDATE_POLICIES", '["greedy", "softmax:temperature=0.05"]')
    assert load_settings().candidate_policies == ("greedy", "softmax:temperature=0.05")
