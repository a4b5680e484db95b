"""Thompson sampling on a logistic model of reward, with estimated propensities."""

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.linear_thompson import LinearThompsonPolicy
from online_learning.statistics.logistic import LogisticStatistics, infer_logistic
from online_learning.statistics.posterior import LinearPosterior, LinearPrior
from online_learning.statistics.sums import Statistics


class LogisticThompsonPolicy(LinearThompsonPolicy):
    """Thompson sampling where the log-odds of a reward are linear, not the reward.

    Rare rewards differ by factors, which the log-odds follow and a linear model does not; and a reward that
    is nearly certain, either way, teaches little. Chapelle & Li, "An empirical evaluation of Thompson
    sampling", NIPS 2011; `online_learning.statistics.logistic` has the model. What is drawn, and how
    propensities are estimated, is as of `LinearThompsonPolicy`: the order by log-odds is the order by
    probability.

    Parameters
    ----------
    prior : features @ prior.weights is the probability of a reward before the first impression; precision
        is that of the weights added to its log-odds
    options : see `ThompsonOptions`
    """

    name = "thompson-logistic"
    learns_from = LogisticStatistics

    @property
    def weights(self) -> NDArray[np.float64]:
        """Mean of the weights added to the prior's log-odds, (F,) float64: where to develop next."""
        return self._posterior.mean.astype(np.float64)

    def _belief(self, prior: LinearPrior, statistics: Statistics | None) -> LinearPosterior:
        return infer_logistic(prior, statistics)

    def _known_weights(self) -> NDArray[np.float32]:
        return self._prior.weights.astype(np.float32)
