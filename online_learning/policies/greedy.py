"""Greedy: the highest expected reward first, learning without exploring."""

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.posterior_policy import RankingPolicy
from online_learning.policies.ranking import utilities
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.types import Candidates


class GreedyPolicy(RankingPolicy[LinearPosterior]):
    """Ranks by the posterior mean of the reward.

    Parameters
    ----------
    prior : belief about the weights before the first update
    """

    name = "greedy"

    def __init__(self, prior: LinearPrior) -> None:
        super().__init__(prior, infer)

    def _values(
        self, candidates: Candidates, posterior: LinearPosterior
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return utilities(candidates, posterior)
