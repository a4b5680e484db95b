"""Epsilon-greedy: mostly the highest expected reward, now and then anything, with exact propensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import EpsilonOptions
from online_learning.policies.posterior_policy import PosteriorPolicy
from online_learning.policies.ranking import check_request, check_slates, positions, slate_lengths, utilities
from online_learning.sampling import uniforms
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.types import Candidates, PropensityKind, Slates

_EXPLORE, _WHICH = 1, 2


class EpsilonGreedyPolicy(PosteriorPolicy[LinearPosterior]):
    """Fills each position with the best remaining candidate, or with probability epsilon with any of them.

    Utility is the posterior mean of the reward. The propensity of a position is
    epsilon / (candidates left) + (1 - epsilon if it is the best of them).

    Parameters
    ----------
    prior : belief about the weights before the first update
    options : see `EpsilonOptions`
    """

    name = "epsilon-greedy"
    Options = EpsilonOptions
    propensity_kind: PropensityKind = "exact"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        self.epsilon = self.Options(**options).epsilon
        super().__init__(prior, infer)

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        utility, usable = utilities(candidates, posterior)
        lengths = slate_lengths(usable, k)
        shown = int(lengths.max(initial=0))
        explore = uniforms(seeds, shown, stream=_EXPLORE) < self.epsilon
        which = uniforms(seeds, shown, stream=_WHICH)
        index = np.full((len(k), int(k.max(initial=0))), -1, np.int64)
        propensities = np.zeros(index.shape, np.float32)
        for position in range(shown):
            filled = np.flatnonzero(position < lengths)
            left, rank = usable[filled], np.cumsum(usable[filled], axis=1, dtype=np.int64)
            best = _best(utility[filled], left)
            any_of_them = np.argmax(rank > np.floor(which[filled, position] * rank[:, -1])[:, None], axis=1)
            chosen = np.where(explore[filled, position], any_of_them, best)
            index[filled, position] = chosen
            propensities[filled, position] = self._chance(chosen == best, rank[:, -1])
            usable[filled, chosen] = False
        return Slates(index, propensities, posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        utility, usable = utilities(candidates, self._posterior)
        propensities = np.zeros(index.shape, np.float32)
        for position, (rows, chosen, left) in enumerate(positions(usable, index)):
            chance = self._chance(chosen == _best(utility[rows], left), np.maximum(left.sum(axis=1), 1))
            propensities[rows, position] = np.where(left[np.arange(len(rows)), chosen], chance, 0.0)
        return propensities

    def _chance(self, is_best: NDArray[np.bool_], n_left: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.epsilon / n_left + (1 - self.epsilon) * is_best


def _best(utility: NDArray[np.float64], left: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(np.argmax(np.where(left, utility, -np.inf), axis=1), np.int64)
