"""Softmax over slates: Plackett-Luce sampling with exact propensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import SoftmaxOptions
from online_learning.policies.posterior_policy import PosteriorPolicy
from online_learning.policies.ranking import check_request, check_slates, top_k, utilities
from online_learning.sampling import gumbels
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.types import Candidates, PropensityKind, Slates

_NOISE = 1


class SoftmaxPolicy(PosteriorPolicy[LinearPosterior]):
    """Draws position after position with probability proportional to exp(utility / temperature).

    This is the Plackett-Luce model (Plackett, "The analysis of permutations", 1975). Perturbing the
    log-weights with Gumbel noise and taking the top k draws from it at once (Kool, van Hoof & Welling,
    "Stochastic beams and where to find them", ICML 2019). Utility is the posterior mean of the reward.

    Parameters
    ----------
    prior : belief about the weights before the first update
    options : see `SoftmaxOptions`
    """

    name = "softmax"
    Options = SoftmaxOptions
    memoryless = True
    propensity_kind: PropensityKind = "exact"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        self.temperature = self.Options(**options).temperature
        super().__init__(prior, infer)

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        utility, usable = utilities(candidates, posterior)
        logits = utility / self.temperature
        keys = logits + gumbels(seeds, logits.shape[1], stream=_NOISE)
        index = top_k(keys, usable, k)
        return Slates(index, conditional_propensities(logits, index), posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        utility, _ = utilities(candidates, self._posterior)
        return conditional_propensities(utility / self.temperature, index)


def conditional_propensities(logits: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the Plackett-Luce probability of each position of a slate, given the positions before.

    Parameters
    ----------
    logits : (B, C) float64, log-weights, -inf for what could not be chosen
    index : (B, K) int64, the slates, -1 after their end

    Returns
    -------
    (B, K) float32, 0 where index is -1 and for what could not be chosen

    Notes
    -----
    The normaliser of position j is built up from the end, by adding weights to those of the candidates
    left over. Subtracting the chosen weights from the full sum would lose every digit when one candidate
    outweighs the rest.
    """
    filled = index >= 0
    chosen = np.where(filled, np.take_along_axis(logits, np.maximum(index, 0), axis=1), -np.inf)
    left = logits.copy()
    rows, positions = np.nonzero(filled)
    left[rows, index[rows, positions]] = -np.inf
    total = _log_sum_exp(left)
    propensities = np.zeros(index.shape, np.float32)
    for position in reversed(range(index.shape[1])):
        here = chosen[:, position] > -np.inf
        total = np.logaddexp(total, chosen[:, position])
        propensities[here, position] = np.exp(chosen[here, position] - total[here])
    return propensities


def _log_sum_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # (B, C) to (B,); several times faster than logaddexp.reduce. -inf where there is nothing to sum.
    top = values.max(axis=1, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(shift + np.log(np.exp(values - shift[:, None]).sum(axis=1)))
