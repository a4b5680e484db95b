"""Greedy: the highest expected reward first, learning without exploring."""

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import certain, check_request, check_slates, highest, top_k, utilities
from online_learning.statistics.posterior import LinearPrior, infer
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates


class GreedyPolicy(RegisteredPolicy):
    """Ranks by the posterior mean of the reward; every propensity is 1.

    Its log supports no off-policy evaluation of anything else: what it does not choose has probability 0.

    Parameters
    ----------
    prior : belief about the weights before the first update
    """

    name = "greedy"
    memoryless = True
    propensity_kind: PropensityKind = "exact"

    def __init__(self, prior: LinearPrior) -> None:
        self._prior = prior
        self._posterior = infer(prior)

    @property
    def version(self) -> int:
        """See `Policy.version`."""
        return self._posterior.version

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        utility, usable = utilities(candidates, posterior)
        index = top_k(utility, usable, k)
        return Slates(index, certain(index), posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        return highest(*utilities(candidates, self._posterior), index)

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._posterior = infer(self._prior, statistics)
