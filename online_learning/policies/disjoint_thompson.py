"""Thompson sampling with a linear model per item, with estimated propensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.arm_thompson_kernels import arm_thompson
from online_learning.policies.posterior_policy import ThompsonPolicy
from online_learning.policies.ranking import arm_utilities
from online_learning.statistics.arm_posterior import ArmPosterior, infer_disjoint
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates


class DisjointThompsonPolicy(ThompsonPolicy[ArmPosterior]):
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
    learns_from = ArmStatistics

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        super().__init__(prior, infer_disjoint, **options)

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
