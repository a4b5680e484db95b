"""Thompson sampling with a linear model per item, with estimated propensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.arm_thompson_kernels import arm_thompson
from online_learning.policies.options import ThompsonOptions
from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import arm_utilities, check_request, check_slates
from online_learning.statistics.arm_posterior import ArmPosterior, infer_disjoint
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates


class DisjointThompsonPolicy(RegisteredPolicy):
    """Fills each position with the best remaining candidate under fresh weights of every item's own model.

    No item's weights depend on another's (`infer_disjoint`), so drawing them and drawing the rewards that
    they expect, each from its normal distribution, are the same; the second needs one number a candidate
    instead of F. Choice and propensities are otherwise those of `LinearThompsonPolicy`.

    Parameters
    ----------
    prior : belief about the weights of every item before its first impression
    options : see `ThompsonOptions`
    """

    name = "thompson-disjoint"
    Options = ThompsonOptions
    learns_from = ArmStatistics
    propensity_kind: PropensityKind = "estimated"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        told = self.Options(**options)
        self.exploration = told.exploration
        self.samples = told.propensity_samples
        self._prior = prior
        self._posterior = infer_disjoint(prior)

    @property
    def version(self) -> int:
        """See `Policy.version`."""
        return self._posterior.version

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        index = np.full((len(k), int(k.max(initial=0))), -1, np.int64)
        propensities = self._run(posterior, candidates, k, seeds, index, choosing=True)
        return Slates(index, propensities, posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        no_k = np.zeros(len(index), np.int64)
        return self._run(self._posterior, candidates, no_k, seeds, index, choosing=False)

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._posterior = infer_disjoint(self._prior, statistics)

    def _run(
        self,
        posterior: ArmPosterior,
        candidates: Candidates,
        k: NDArray[np.int64],
        seeds: NDArray[np.uint64],
        index: NDArray[np.int64],
        *,
        choosing: bool,
    ) -> NDArray[np.float32]:
        mean, deviation, usable = arm_utilities(candidates, posterior)
        propensities = np.zeros(index.shape, np.float32)
        arm_thompson(
            mean.astype(np.float32), (self.exploration * deviation).astype(np.float32), usable,
            k, seeds, self.samples, index, propensities, choosing,
        )  # fmt: skip
        return propensities
