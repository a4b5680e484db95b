"""Thompson sampling on a linear model of reward, with estimated propensities."""

import numpy as np
from numpy.typing import NDArray

from online_learning.kernels import count_wins
from online_learning.policies.ranking import (
    boosts,
    check_request,
    check_slates,
    slate_lengths,
    usable_positions,
    utilities,
)
from online_learning.sampling import normals, uniforms, words
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates

# Streams of random numbers of one request: what chooses the slate is independent of what estimates it.
_CHOICE, _ESTIMATE, _ESTIMATE_TIES = 1, 2, 3
_CHOICE_TIES = 4  # of position 0; position j has stream _CHOICE_TIES + j

# Candidates of equal features have equal utility under any weights. Noise far below any difference that
# matters, and above the rounding of float32 sums of order 1, makes the choice among them uniform.
TIE_NOISE = 1e-5

# Random numbers made at once: enough that the calls cost nothing, few enough to stay in the cache.
NOISE_BLOCK = 65_536


class LinearThompsonPolicy:
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
    of 1 / samples where propensities are large and more where they are small.

    Parameters
    ----------
    prior : belief about the weights before the first update
    exploration : scale of the posterior's standard deviation; 0 ranks by the mean
    samples : draws per request that estimate its propensities; cost grows in proportion
    """

    name = "thompson"
    propensity_kind: PropensityKind = "estimated"

    def __init__(self, prior: LinearPrior, *, exploration: float = 0.3, samples: int = 256) -> None:
        if not 0.0 <= exploration < np.inf:
            raise ValueError(f"exploration must be finite and at least 0, got {exploration}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        self.exploration = exploration
        self.samples = samples
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
        features, usable = _usable(candidates, posterior)
        known = self._known(features) + boosts(candidates)
        index = self._choose(features, known, usable, k, seeds, posterior)
        wins = self._wins(features, known, usable, index, seeds, posterior)
        propensities = np.where(index >= 0, (wins + 1) / (self.samples + 1), 0.0)
        return Slates(index, propensities.astype(np.float32), posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        posterior = self._posterior
        features, usable = _usable(candidates, posterior)
        known = self._known(features) + boosts(candidates)
        wins = self._wins(features, known, usable, index, seeds, posterior)
        return (wins / self.samples).astype(np.float32)

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._posterior = self._infer(statistics)

    def _infer(self, statistics: Statistics | None) -> LinearPosterior:
        return infer(self._prior, statistics)

    def _known(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is added to features @ weights, the same under all weights: (B, C) float32."""
        return np.zeros(features.shape[:2], np.float32)

    def _choose(
        self,
        features: NDArray[np.float32],
        known: NDArray[np.float32],
        usable: NDArray[np.bool_],
        k: NDArray[np.int64],
        seeds: NDArray[np.uint64],
        posterior: LinearPosterior,
    ) -> NDArray[np.int64]:
        n, n_candidates, dim = features.shape
        closed = np.where(usable, 0.0, -np.inf)
        rows = np.arange(n)
        lengths = slate_lengths(usable, k)
        shown = int(lengths.max(initial=0))
        noise = normals(seeds, shown * dim, stream=_CHOICE).reshape(n, shown, dim)
        weights = self._weights(noise, posterior)
        index = np.full((n, int(k.max(initial=0))), -1, np.int64)
        for position in range(shown):
            # One product per position: its rounding, and so the slate, does not depend on k or the batch.
            utility = known + np.matmul(features, weights[:, position, :, None])[..., 0]
            ties = TIE_NOISE * uniforms(seeds, n_candidates, stream=_CHOICE_TIES + position)
            best = np.argmax(utility + ties + closed, axis=1)
            filled = position < lengths
            index[filled, position] = best[filled]
            closed[rows[filled], best[filled]] = -np.inf
        return index

    def _wins(
        self,
        features: NDArray[np.float32],
        known: NDArray[np.float32],
        usable: NDArray[np.bool_],
        index: NDArray[np.int64],
        seeds: NDArray[np.uint64],
        posterior: LinearPosterior,
    ) -> NDArray[np.int64]:
        """Return (B, K) int64, in how many samples each position has the best of what remained."""
        wins = np.zeros(index.shape, np.int64)
        step = max(1, NOISE_BLOCK // (self.samples * features.shape[2]))
        for first in range(0, len(index), step):
            part = slice(first, first + step)
            wins[part] = self._block_wins(
                features[part], known[part], usable[part], index[part], seeds[part], posterior
            )
        return wins

    def _block_wins(
        self,
        features: NDArray[np.float32],
        known: NDArray[np.float32],
        usable: NDArray[np.bool_],
        index: NDArray[np.int64],
        seeds: NDArray[np.uint64],
        posterior: LinearPosterior,
    ) -> NDArray[np.int64]:
        n, _, dim = features.shape
        noise = normals(seeds, self.samples * dim, stream=_ESTIMATE).reshape(n, self.samples, dim)
        weights = self._weights(noise, posterior)
        keys = (words(seeds, 1, stream=_ESTIMATE_TIES)[:, 0] >> np.uint64(32)).astype(np.int64)
        wins = np.zeros(index.shape, np.int64)
        for row in range(n):
            utility = known[row, :, None] + features[row] @ weights[row].T  # (C, S)
            here = usable_positions(usable[row], index[row])
            wins[row, here] = count_wins(utility, index[row, here], usable[row], TIE_NOISE, keys[row])
        return wins

    def _weights(self, noise: NDArray[np.float32], posterior: LinearPosterior) -> NDArray[np.float32]:
        # (..., F) standard normals to (..., F) weights
        root = (self.exploration * posterior.root).astype(np.float32)
        return noise @ root.T + posterior.mean.astype(np.float32)


def _usable(
    candidates: Candidates, posterior: LinearPosterior
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    _, usable = utilities(candidates, posterior.mean)
    # A feature that is not finite would spread over the whole matrix product.
    return np.where(usable[..., None], candidates.features, np.float32(0.0)), usable
