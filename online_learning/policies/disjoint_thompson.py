"""Thompson sampling with a linear model per item, with estimated propensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.kernels import count_wins
from online_learning.policies.linear_thompson import NOISE_BLOCK, TIE_NOISE
from online_learning.policies.ranking import (
    arm_utilities,
    check_request,
    check_slates,
    slate_lengths,
    usable_positions,
)
from online_learning.sampling import normals, uniforms, words
from online_learning.statistics.arm_posterior import infer_disjoint
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates

# Streams of random numbers of one request, see `online_learning.policies.linear_thompson`.
_ESTIMATE, _ESTIMATE_TIES = 1, 2
_CHOICE, _CHOICE_TIES = 4, 5  # of position 0; position j has streams _CHOICE + 2 j and _CHOICE_TIES + 2 j


class DisjointThompsonPolicy:
    """Fills each position with the best remaining candidate under fresh weights of every item's own model.

    No item's weights depend on another's (`infer_disjoint`), so drawing them and drawing the rewards that
    they expect, each from its normal distribution, are the same; the second needs one number a candidate
    instead of F. Choice and propensities are otherwise those of `LinearThompsonPolicy`.

    Parameters
    ----------
    prior : belief about the weights of every item before its first impression
    exploration : scale of the posterior's standard deviation; 0 ranks by the mean
    samples : draws per request that estimate its propensities; cost grows in proportion
    """

    name = "thompson-disjoint"
    propensity_kind: PropensityKind = "estimated"

    def __init__(self, prior: LinearPrior, *, exploration: float = 0.3, samples: int = 256) -> None:
        if not 0.0 <= exploration < np.inf:
            raise ValueError(f"exploration must be finite and at least 0, got {exploration}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        self.exploration = exploration
        self.samples = samples
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
        mean, deviation, usable = arm_utilities(candidates, posterior)
        deviation *= self.exploration
        index = _choose(mean, deviation, usable, k, seeds)
        wins = self._wins(mean, deviation, usable, index, seeds)
        propensities = np.where(index >= 0, (wins + 1) / (self.samples + 1), 0.0)
        return Slates(index, propensities.astype(np.float32), posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        mean, deviation, usable = arm_utilities(candidates, self._posterior)
        wins = self._wins(mean, deviation * self.exploration, usable, index, seeds)
        return (wins / self.samples).astype(np.float32)

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._posterior = infer_disjoint(self._prior, statistics)

    def _wins(
        self,
        mean: NDArray[Any],
        deviation: NDArray[Any],
        usable: NDArray[np.bool_],
        index: NDArray[np.int64],
        seeds: NDArray[np.uint64],
    ) -> NDArray[np.int64]:
        n, n_candidates = mean.shape
        keys = (words(seeds, 1, stream=_ESTIMATE_TIES)[:, 0] >> np.uint64(32)).astype(np.int64)
        mean, deviation = mean.astype(np.float32), deviation.astype(np.float32)
        wins = np.zeros(index.shape, np.int64)
        step = max(1, NOISE_BLOCK // (self.samples * max(1, n_candidates)))
        for first in range(0, n, step):
            part = slice(first, first + step)
            noise = normals(seeds[part], n_candidates * self.samples, stream=_ESTIMATE)
            utility = noise.reshape(-1, n_candidates, self.samples) * deviation[part, :, None]
            utility += mean[part, :, None]
            for row in range(first, min(first + step, n)):
                here = usable_positions(usable[row], index[row])
                won = count_wins(utility[row - first], index[row, here], usable[row], TIE_NOISE, keys[row])
                wins[row, here] = won
        return wins


def _choose(
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    usable: NDArray[np.bool_],
    k: NDArray[np.int64],
    seeds: NDArray[np.uint64],
) -> NDArray[np.int64]:
    n, n_candidates = mean.shape
    closed = np.where(usable, 0.0, -np.inf)
    rows = np.arange(n)
    lengths = slate_lengths(usable, k)
    index = np.full((n, int(k.max(initial=0))), -1, np.int64)
    for position in range(int(lengths.max(initial=0))):
        noise = normals(seeds, n_candidates, stream=_CHOICE + 2 * position)
        ties = TIE_NOISE * uniforms(seeds, n_candidates, stream=_CHOICE_TIES + 2 * position)
        best = np.argmax(mean + deviation * noise + ties + closed, axis=1)
        filled = position < lengths
        index[filled, position] = best[filled]
        closed[rows[filled], best[filled]] = -np.inf
    return index
