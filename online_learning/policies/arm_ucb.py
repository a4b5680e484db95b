"""LinUCB with a model per item: disjoint, or hybrid with weights that all items share."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import HybridOptions, OptimismOptions
from online_learning.policies.posterior_policy import RankingPolicy
from online_learning.policies.ranking import arm_utilities
from online_learning.statistics.arm_posterior import ArmPosterior, infer_disjoint, infer_hybrid
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates


class _ArmUcbPolicy(RankingPolicy[ArmPosterior]):
    learns_from = ArmStatistics
    exploration: float

    def _values(
        self, candidates: Candidates, posterior: ArmPosterior
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        mean, deviation, usable = arm_utilities(candidates, posterior)
        return np.where(usable, mean + self.exploration * deviation, -np.inf), usable


class DisjointUcbPolicy(_ArmUcbPolicy):
    """Ranks by mean + exploration * standard deviation of each item's own model.

    Li, Chu, Langford & Schapire, "A contextual-bandit approach to personalized news article
    recommendation", WWW 2010, algorithm 1; `infer_disjoint` has the model.

    Parameters
    ----------
    prior : belief about the weights of every item before its first impression
    options : see `OptimismOptions`
    """

    name = "linucb-disjoint"
    Options = OptimismOptions

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        self.exploration = self.Options(**options).exploration
        super().__init__(prior, infer_disjoint)


class HybridUcbPolicy(_ArmUcbPolicy):
    """Ranks as `DisjointUcbPolicy`, with item models that share what they have in common.

    Li et al. 2010, algorithm 2; `infer_hybrid` has the model.

    Parameters
    ----------
    prior : belief about the shared weights before the first impression
    options : see `HybridOptions`
    """

    name = "linucb-hybrid"
    Options = HybridOptions

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        told = self.Options(**options)
        self.exploration = told.exploration
        self.arm_precision = prior.precision if told.arm_precision is None else told.arm_precision
        super().__init__(prior, partial(infer_hybrid, arm_precision=self.arm_precision))
