"""Thompson sampling on a linear model of reward, with estimated propensities."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.linear_thompson_kernels import linear_thompson
from online_learning.policies.options import ThompsonOptions
from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import boosts, check_dim, check_request, check_slates
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates

_NOTHING = np.zeros(0, np.float32)


class LinearThompsonPolicy(RegisteredPolicy):
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
    Options = ThompsonOptions
    propensity_kind: PropensityKind = "estimated"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        told = self.Options(**options)
        self.exploration = told.exploration
        self.samples = told.propensity_samples
        self._prior = prior
        self._adopt(self._infer(None))

    @property
    def version(self) -> int:
        """See `Policy.version`."""
        return self._adopted.posterior.version

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        adopted = self._adopted
        index = np.full((len(k), int(k.max(initial=0))), -1, np.int64)
        propensities = self._run(adopted, candidates, k, seeds, index, choosing=True)
        return Slates(index, propensities, adopted.posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        no_k = np.zeros(len(index), np.int64)
        return self._run(self._adopted, candidates, no_k, seeds, index, choosing=False)

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._adopt(self._infer(statistics))

    def _infer(self, statistics: Statistics | None) -> LinearPosterior:
        return infer(self._prior, statistics)

    def _known_weights(self) -> NDArray[np.float32]:
        """Return weights of a prior probability whose log-odds are added to the utility, or none."""
        return _NOTHING

    def _adopt(self, posterior: LinearPosterior) -> None:
        turned = np.ascontiguousarray((self.exploration * posterior.root).T, np.float32)
        self._adopted = _Adopted(posterior, posterior.mean.astype(np.float32), turned)

    def _run(
        self,
        adopted: "_Adopted",
        candidates: Candidates,
        k: NDArray[np.int64],
        seeds: NDArray[np.uint64],
        index: NDArray[np.int64],
        *,
        choosing: bool,
    ) -> NDArray[np.float32]:
        check_dim(candidates, len(adopted.mean))
        propensities = np.zeros(index.shape, np.float32)
        rows = adopted.posterior.rows(np.ascontiguousarray(candidates.features, np.float32))
        linear_thompson(
            rows, candidates.valid, boosts(candidates), adopted.mean, adopted.turned,
            self._known_weights(), k, seeds, self.samples, index, propensities, choosing,
        )  # fmt: skip
        return propensities


@dataclass(frozen=True, slots=True)
class _Adopted:
    """A posterior, and as the kernels want it: (F,) and (F, F) float32, the root scaled and transposed."""

    posterior: LinearPosterior
    mean: NDArray[np.float32]
    turned: NDArray[np.float32]
