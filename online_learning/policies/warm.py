"""Compile a policy's kernels, or load them from the cache, before the first request waits for it."""

import numpy as np

from online_learning.policies import trial
from online_learning.policies.policy import Policy
from online_learning.policies.registry import Learning
from online_learning.statistics.position_bias import PositionStatistics, examination
from online_learning.types import Candidates


def warm(policy: Policy, learning: Learning) -> None:
    """Let the policy choose once and statistics of its kind learn once; neither keeps anything of it."""
    dim = len(learning.prior.weights)
    features, arms = np.zeros((1, 2, dim), np.float32), np.arange(2, dtype=np.uint64)[None]
    candidates = Candidates(np.zeros((1, 2), np.float32), features, np.ones((1, 2), np.bool_), arms)
    policy.select(candidates, k=np.ones(1, np.int64), seeds=np.zeros(1, np.uint64))
    trial.warm()
    examination(PositionStatistics(), 1)
    statistics = learning.empty()
    rows = statistics.rows(features[0])
    statistics.add_impressions(rows, arms=arms[0], times_ms=0, weights=np.ones(2), offsets=0)
    statistics.add_rewards(rows, np.ones(2), arms=arms[0], times_ms=0, offsets=0)
