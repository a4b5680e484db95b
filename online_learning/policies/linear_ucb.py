"""LinUCB: the highest upper confidence bound first."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import OptimismOptions
from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import certain, check_request, check_slates, highest, top_k, utilities
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates


class LinearUcbPolicy(RegisteredPolicy):
    """Ranks by posterior mean + exploration * posterior standard deviation of the reward.

    One linear model is shared by all items (Li, Chu, Langford & Schapire, "A contextual-bandit approach to
    personalized news article recommendation", WWW 2010, with item features in place of a model per item).
    Nothing is drawn: every propensity is 1, and the log supports no off-policy evaluation of anything else.

    Parameters
    ----------
    prior : belief about the weights before the first update
    options : see `OptimismOptions`
    """

    name = "linucb"
    Options = OptimismOptions
    memoryless = True
    propensity_kind: PropensityKind = "exact"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        self.exploration = self.Options(**options).exploration
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
        bound, usable = self._bound(candidates, posterior)
        index = top_k(bound, usable, k)
        return Slates(index, certain(index), posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        return highest(*self._bound(candidates, self._posterior), index)

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._posterior = infer(self._prior, statistics)

    def _bound(
        self, candidates: Candidates, posterior: LinearPosterior
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        utility, usable = utilities(candidates, posterior)
        # A feature that is not finite would spread over the whole matrix product.
        rows = np.where(usable[..., None], posterior.rows(candidates.features), np.float32(0.0))
        deviation = np.linalg.norm(rows @ posterior.root.astype(np.float32), axis=-1)
        return np.where(usable, utility + self.exploration * deviation, -np.inf), usable
