import numpy as np
import pytest

from online_learning.policies.registry import POLICIES
from streams.bench.policy import candidates_of, in_turn, learned, measure, policy_command
from streams.errors import ConfigurationError


def test_both_run_in_turn_and_as_often_as_each_other() -> None:
    ran: list[str] = []
    first, second = in_turn(lambda: ran.append("graph"), lambda: ran.append("policy"), 0.0)
    assert ran[:2] == ["graph", "policy"]
    assert ran[2:] == ["graph", "policy"] * 5
    assert min(first, second) >= 0.0


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_measured_on_a_batch(name: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.random((3, 20, 6), np.float32)
    candidates = candidates_of(features, features[..., 1].copy(), np.ones((3, 20), np.bool_))
    policy, rewards_per_s = learned(name, 6, 16)
    found = measure(policy, rewards_per_s, lambda: features.sum(), candidates, 4, 0.0)
    assert (found.policy, found.batch) == (name, 3)
    assert found.ratio == pytest.approx(found.policy_ms / found.graph_ms)
    assert found.slates_per_s == pytest.approx(3e3 / found.policy_ms)
    assert found.rewards_per_s > 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"policies": "greedy,ucb1"}, "--policies must be among softmax, .* got 'greedy,ucb1'"),
        ({"batches": "1,x"}, "--batches must be whole numbers from 1 on, comma-separated, got '1,x'"),
    ],
)
def test_what_cannot_be_measured_is_refused(option: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        policy_command(**option)
