"""Thompson sampling on a linear model of reward, with estimated propensities."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.linear_thompson_kernels import linear_thompson
from online_learning.policies.posterior_policy import ThompsonPolicy
from online_learning.policies.ranking import boosts, check_dim
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates

_NOTHING = np.zeros(0, np.float32)


class LinearThompsonPolicy(ThompsonPolicy["_Adopted"]):
    """Fills each position with the best remaining candidate under fresh weights from the posterior.

    Weights are drawn from N(mean, exploration^2 covariance) (Thompson 1933; Agrawal & Goyal 2013), once
    per position. One draw for a whole slate would make the positions depend on each other through the
    draw, and the probability of a position given those before could not be estimated: after a few
    positions no sample agrees with all of them. With a draw per position it is the probability that the
    chosen candidate is the best of the remaining, which samples of the weights shared by all positions
    estimate.

    A propensity is (wins + 1) / (samples + 1), wins counted on `samples` draws of the request's own that
    are independent of those that chose. So it is never 0 (at least 1 / (samples + 1)), its standard error
    is about sqrt(p (1 - p) / samples), and its inverse, which importance weighting uses, is unbiased but
    for a factor 1 - (1 - p)^(samples + 1) (Chao & Strawderman, "Negative moments of positive random
    variables", JASA 1972). The positions of a slate share their samples, so their errors are correlated:
    what is said holds for each position, and a product of inverses over positions is biased, in the order
    of 1 / samples where propensities are large and more where they are small. Candidates that can hardly
    win are not sampled (`argmax_kernels.REACH`): a propensity is off by less than 1e-9 times their number.

    Parameters
    ----------
    prior : belief about the weights before the first update
    options : see `ThompsonOptions`
    """

    name = "thompson"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        super().__init__(prior, self._adopted, **options)

    def _adopted(self, prior: LinearPrior, statistics: Statistics | None) -> "_Adopted":
        posterior = self._belief(prior, statistics)
        turned = np.ascontiguousarray((self.exploration * posterior.root).T, np.float32)
        return _Adopted(posterior, posterior.mean.astype(np.float32), turned)

    def _belief(self, prior: LinearPrior, statistics: Statistics | None) -> LinearPosterior:
        return infer(prior, statistics)

    def _known_weights(self) -> NDArray[np.float32]:
        """Return weights of a prior probability whose log-odds are added to the utility, or none."""
        return _NOTHING

    def _run(
        self,
        posterior: "_Adopted",
        candidates: Candidates,
        k: NDArray[np.int64],
        seeds: NDArray[np.uint64],
        index: NDArray[np.int64],
        *,
        choosing: bool,
    ) -> NDArray[np.float32]:
        check_dim(candidates, len(posterior.mean))
        propensities = np.zeros(index.shape, np.float32)
        rows = posterior.belief.rows(np.ascontiguousarray(candidates.features, np.float32))
        linear_thompson(
            rows, candidates.valid, boosts(candidates), posterior.mean, posterior.turned,
            self._known_weights(), k, seeds, self.samples, index, propensities, choosing,
        )  # fmt: skip
        return propensities


@dataclass(frozen=True, slots=True)
class _Adopted:
    """A posterior, and as the kernels want it: (F,) and (F, F) float32, the root scaled and transposed."""

    belief: LinearPosterior
    mean: NDArray[np.float32]
    turned: NDArray[np.float32]

    @property
    def version(self) -> int:
        return self.belief.version
