"""LinUCB with a model per item: disjoint, or hybrid with weights that all items share."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import HybridOptions, OptimismOptions
from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import (
    arm_utilities,
    certain,
    check_request,
    check_slates,
    highest,
    top_k,
)
from online_learning.statistics.arm_posterior import ArmPosterior, infer_disjoint, infer_hybrid
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates


class DisjointUcbPolicy(RegisteredPolicy):
    """Ranks by mean + exploration * standard deviation of each item's own model.

    Li, Chu, Langford & Schapire, "A contextual-bandit approach to personalized news article
    recommendation", WWW 2010, algorithm 1; `infer_disjoint` has the model. Nothing is drawn: every
    propensity is 1.

    Parameters
    ----------
    prior : belief about the weights of every item before its first impression
    options : see `OptimismOptions`
    """

    name = "linucb-disjoint"
    learns_from = ArmStatistics
    Options: ClassVar[type] = OptimismOptions
    memoryless = True
    propensity_kind: PropensityKind = "exact"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        self.exploration = self.Options(**options).exploration
        self._prior = prior
        self._posterior = self._infer(None)

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
        self._posterior = self._infer(statistics)

    def _bound(
        self, candidates: Candidates, posterior: ArmPosterior
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        mean, deviation, usable = arm_utilities(candidates, posterior)
        return np.where(usable, mean + self.exploration * deviation, -np.inf), usable

    def _infer(self, statistics: Statistics | None) -> ArmPosterior:
        return infer_disjoint(self._prior, statistics)


class HybridUcbPolicy(DisjointUcbPolicy):
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
        self.arm_precision = prior.precision if told.arm_precision is None else told.arm_precision
        super().__init__(prior, **options)

    def _infer(self, statistics: Statistics | None) -> ArmPosterior:
        return infer_hybrid(self._prior, statistics, arm_precision=self.arm_precision)
