"""LinUCB: the highest upper confidence bound first."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import OptimismOptions
from online_learning.policies.posterior_policy import RankingPolicy
from online_learning.policies.ranking import utilities
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.types import Candidates


class LinearUcbPolicy(RankingPolicy[LinearPosterior]):
    """Ranks by posterior mean + exploration * posterior standard deviation of the reward.

    One linear model is shared by all items (Li, Chu, Langford & Schapire, "A contextual-bandit approach to
    personalized news article recommendation", WWW 2010, with item features in place of a model per item).

    Parameters
    ----------
    prior : belief about the weights before the first update
    options : see `OptimismOptions`
    """

    name = "linucb"
    Options = OptimismOptions

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        self.exploration = self.Options(**options).exploration
        super().__init__(prior, infer)

    def _values(
        self, candidates: Candidates, posterior: LinearPosterior
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        utility, usable = utilities(candidates, posterior)
        # A feature that is not finite would spread over the whole matrix product.
        rows = np.where(usable[..., None], posterior.rows(candidates.features), np.float32(0.0))
        deviation = np.linalg.norm(rows @ posterior.root.astype(np.float32), axis=-1)
        return np.where(usable, utility + self.exploration * deviation, -np.inf), usable
