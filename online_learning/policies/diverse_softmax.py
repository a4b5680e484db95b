"""Softmax, position after position, with rules between the positions and exact propensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import DiverseSoftmaxOptions, SlateRules
from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import check_request, check_slates, slate_lengths, utilities
from online_learning.sampling import uniforms
from online_learning.statistics.posterior import LinearPrior, infer
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates

_FRESH, _WHICH = 1, 2


class DiverseSoftmaxPolicy(RegisteredPolicy):
    """Draws each position from a softmax over what is left, given what stands before it.

    A candidate's utility is the posterior mean of its reward, less `diversity` times its highest cosine
    similarity to a position before, if that is above 0: maximal marginal relevance (Carbonell & Goldstein,
    "The use of MMR, diversity-based reranking", SIGIR 1998), drawn from instead of maximised. With
    probability `fresh_share` the draw is among the fresh candidates only, so that
    propensity = fresh_share x softmax among the fresh + (1 - fresh_share) x softmax among all
    that the cap allows: exact, given the positions before. Pinned candidates, which come before all others
    (`online_learning.policies.pinning`), count for the cap and for similarity.

    A rule whose column is not in the candidates is not applied.

    Parameters
    ----------
    prior : belief about the weights before the first update
    options : see `DiverseSoftmaxOptions`
    """

    name = "diverse-softmax"
    Options = DiverseSoftmaxOptions
    propensity_kind: PropensityKind = "exact"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        told = self.Options(**options)
        self.temperature = told.temperature
        self.rules = told.rules or SlateRules()
        self._prior = prior
        self._posterior = infer(prior)

    @property
    def version(self) -> int:
        """See `Policy.version`."""
        return self._posterior.version

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        utility, usable = utilities(candidates, posterior.mean)
        slate = _Slate(candidates, usable, self.rules)
        lengths = slate_lengths(usable, k)
        shown = int(lengths.max(initial=0))
        for_fresh = uniforms(seeds, shown, stream=_FRESH) < self.rules.fresh_share
        which = uniforms(seeds, shown, stream=_WHICH)
        index = np.full((len(k), int(k.max(initial=0))), -1, np.int64)
        propensities = np.zeros(index.shape, np.float32)
        for position in range(shown):
            every, among_fresh, some = self._parts(utility, slate)
            drawn = np.where(some & for_fresh[:, position, None], among_fresh, every)
            chosen = _draw(drawn, which[:, position])
            filled = np.flatnonzero(position < lengths)
            index[filled, position] = chosen[filled]
            chance = self._chance(every, among_fresh, some)
            propensities[filled, position] = chance[filled, chosen[filled]]
            slate.take(filled, chosen[filled])
        return Slates(index, propensities, posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        utility, usable = utilities(candidates, self._posterior.mean)
        slate = _Slate(candidates, usable, self.rules)
        propensities = np.zeros(index.shape, np.float32)
        for position in range(index.shape[1]):
            rows = np.flatnonzero(index[:, position] >= 0)
            if not len(rows):
                break
            chosen = index[rows, position]
            chance = self._chance(*self._parts(utility, slate))
            propensities[rows, position] = chance[rows, chosen]
            taken = usable[rows, chosen]  # what is pinned is there already
            slate.take(rows[taken], chosen[taken])
        return propensities

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._posterior = infer(self._prior, statistics)

    def _parts(
        self, utility: NDArray[np.float64], slate: "_Slate"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return the softmax over all that is open and over the fresh, and (B, 1) whether some are fresh."""
        open_, fresh = slate.open()
        logits = (utility - self.rules.diversity * slate.likeness) / self.temperature
        return _softmax(logits, open_), _softmax(logits, fresh), np.asarray(fresh.any(axis=1))[:, None]

    def _chance(
        self,
        every: NDArray[np.float64],
        among_fresh: NDArray[np.float64],
        some: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Return (B, C), the probability of each candidate for the next position."""
        share = np.where(some, self.rules.fresh_share, 0.0)
        chance: NDArray[np.float64] = share * among_fresh + (1.0 - share) * every
        return chance


class _Slate:
    """What the positions filled so far mean for the next one; of a batch of slates.

    likeness : (B, C) float64, highest similarity to a position before, at least 0
    """

    def __init__(self, candidates: Candidates, usable: NDArray[np.bool_], rules: SlateRules) -> None:
        self._left = usable.copy()
        self._fresh = candidates.fresh if candidates.fresh is not None and rules.fresh_share else None
        self._vectors = candidates.vectors if rules.diversity else None
        self._groups = candidates.groups if rules.cap is not None else None
        self._cap = rules.cap
        self._of_group = None if self._groups is None else np.zeros(self._groups.shape, np.int64)
        self.likeness = np.zeros(usable.shape)
        if candidates.pinned is not None:
            placed = (candidates.pinned >= 0) & ~candidates.valid
            for column in np.flatnonzero(placed.any(axis=0)):
                rows = np.flatnonzero(placed[:, column])
                self.take(rows, np.full(len(rows), column))

    def open(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which candidates the next position may have, and the fresh ones of these."""
        allowed = self._left
        if self._of_group is not None and self._cap is not None:
            within = allowed & ~np.asarray((self._of_group >= self._cap).any(axis=2))
            allowed = np.where(np.asarray(within.any(axis=1))[:, None], within, allowed)
        return allowed, allowed & self._fresh if self._fresh is not None else np.zeros_like(allowed)

    def take(self, rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> None:
        """Put a candidate at the next position of some slates."""
        self._left[rows, chosen] = False
        if self._vectors is not None:
            mine = self._vectors[rows, chosen]
            alike = np.matmul(self._vectors[rows], mine[:, :, None])[..., 0]
            self.likeness[rows] = np.maximum(self.likeness[rows], np.where(np.isfinite(alike), alike, 0.0))
        if self._groups is not None and self._of_group is not None:
            for group in self._groups[rows, chosen].T:
                same = (self._groups[rows] == group[:, None, None]) & (group >= 0)[:, None, None]
                self._of_group[rows] += same


def _softmax(logits: NDArray[np.float64], of: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (B, C) probabilities, all 0 where there is nothing to choose from."""
    masked = np.where(of, logits, -np.inf)
    top = masked.max(axis=1, initial=-np.inf)
    weights = np.exp(masked - np.where(np.isfinite(top), top, 0.0)[:, None])
    total = weights.sum(axis=1, keepdims=True)
    chances: NDArray[np.float64] = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0.0)
    return chances


def _draw(chances: NDArray[np.float64], where: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (B,) int64, a column drawn by its chance; where : (B,) uniform numbers."""
    if not chances.shape[1]:
        return np.zeros(len(chances), np.int64)
    cumulated = np.cumsum(chances, axis=1)
    # Rounding must not lead past the last column that has a chance.
    below = np.minimum(where * cumulated[:, -1], np.nextafter(cumulated[:, -1], 0.0))
    return np.asarray(np.argmax(cumulated > below[:, None], axis=1), np.int64)
