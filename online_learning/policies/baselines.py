"""Baselines for learning policies on the same traffic. Neither learns."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.policy import Policy, RegisteredPolicy
from online_learning.policies.ranking import (
    boosts,
    certain,
    check_request,
    check_slates,
    highest,
    positions,
    top_k,
)
from online_learning.sampling import uniforms
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates

_ORDER = 1


class RandomPolicy(RegisteredPolicy):
    """Draws uniformly without replacement: propensity 1 / (candidates left) at each position."""

    name = "random"
    learns_from = None
    memoryless = True
    propensity_kind: PropensityKind = "exact"
    version = 0

    @classmethod
    def make(cls, prior: LinearPrior, **options: Any) -> Policy:
        """See `RegisteredPolicy.make`; the prior is not looked at."""
        return cls(**options)

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        usable = candidates.valid
        keys = np.where(usable, uniforms(seeds, usable.shape[1], stream=_ORDER), -np.inf)
        index = top_k(keys, usable, k)
        left = usable.sum(axis=1)[:, None] - np.arange(index.shape[1])
        propensities = np.where(index >= 0, 1.0 / np.maximum(left, 1), 0.0)
        return Slates(index, propensities.astype(np.float32))

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        propensities = np.zeros(index.shape, np.float32)
        for position, (rows, chosen, left) in enumerate(positions(candidates.valid, index)):
            open_ = left[np.arange(len(rows)), chosen]
            propensities[rows, position] = open_ / np.maximum(left.sum(axis=1), 1)
        return propensities

    def update(self, statistics: Statistics) -> None:
        """Do nothing: this policy does not learn."""


class PopularityPolicy(RegisteredPolicy):
    """Ranks by the candidates' own scores, with propensity 1.

    It is the popularity baseline when the caller gives popularities as scores. A candidate whose score
    is NaN or infinite is not chosen.
    """

    name = "popularity"
    learns_from = None
    memoryless = True
    served = False
    propensity_kind: PropensityKind = "exact"
    version = 0

    @classmethod
    def make(cls, prior: LinearPrior, **options: Any) -> Policy:
        """See `RegisteredPolicy.make`; the prior is not looked at."""
        return cls(**options)

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        keys, usable = _by_score(candidates)
        index = top_k(keys, usable, k)
        return Slates(index, certain(index))

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        return highest(*_by_score(candidates), index)

    def update(self, statistics: Statistics) -> None:
        """Do nothing: this policy does not learn."""


def _by_score(candidates: Candidates) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    usable = candidates.valid & np.isfinite(candidates.scores)
    scores = candidates.scores.astype(np.float64) + boosts(candidates)
    return np.where(usable, scores, -np.inf), usable
