import pickle

import pytest

from online_learning.policies.registry import POLICIES, create_policy
from online_learning.policies.warm import warm
from tests.policy_checks import PRIOR, learning


@pytest.mark.parametrize("name", POLICIES)
def test_warming_leaves_the_policy_as_it_was(name: str) -> None:
    policy = create_policy(name, PRIOR)
    before = pickle.dumps(policy)
    warm(policy, learning(policy))
    assert pickle.dumps(policy) == before
    assert policy.version == 0
