"""What policies have in common that choose by a posterior: they rank by one number, or draw from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import ThompsonOptions
from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import certain, check_request, check_slates, highest, top_k
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates


class _Posterior(Protocol):
    @property
    def version(self) -> int: ...


P = TypeVar("P", bound=_Posterior)


class PosteriorPolicy(RegisteredPolicy, Generic[P]):
    """Holds the posterior that was adopted last.

    Parameters
    ----------
    prior : belief before the first update
    infer : gives the posterior after statistics; None for none
    """

    def __init__(self, prior: LinearPrior, infer: Callable[[LinearPrior, Statistics | None], P]) -> None:
        self._prior = prior
        self._infer = infer
        self._posterior = infer(prior, None)

    @property
    def version(self) -> int:
        """See `Policy.version`."""
        return self._posterior.version

    def update(self, statistics: Statistics) -> None:
        """See `Policy.update`."""
        self._posterior = self._infer(self._prior, statistics)


class RankingPolicy(PosteriorPolicy[P], ABC):
    """Puts the highest value first. Every propensity is 1, so its log says nothing of other policies."""

    memoryless = True
    propensity_kind: PropensityKind = "exact"

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        values, usable = self._values(candidates, posterior)
        index = top_k(values, usable, k)
        return Slates(index, certain(index), posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        return highest(*self._values(candidates, self._posterior), index)

    @abstractmethod
    def _values(self, candidates: Candidates, posterior: P) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return (B, C) float64 to rank by, -inf where a candidate cannot be used, and which can be."""


class ThompsonPolicy(PosteriorPolicy[P], ABC):
    """Puts the best of what is left first under a draw of its own for each position.

    Parameters
    ----------
    prior, infer : see `PosteriorPolicy`
    options : see `ThompsonOptions`
    """

    Options = ThompsonOptions
    propensity_kind: PropensityKind = "estimated"

    def __init__(
        self, prior: LinearPrior, infer: Callable[[LinearPrior, Statistics | None], P], **options: Any
    ) -> None:
        told = self.Options(**options)
        self.exploration = told.exploration
        self.samples = told.propensity_samples
        super().__init__(prior, infer)

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        index = np.full((len(k), int(k.max(initial=0))), -1, np.int64)
        propensities = self._run(posterior, candidates, k, seeds, index, choosing=True)
        return Slates(index, propensities, posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        no_k = np.zeros(len(index), np.int64)
        return self._run(self._posterior, candidates, no_k, seeds, index, choosing=False)

    @abstractmethod
    def _run(
        self,
        posterior: P,
        candidates: Candidates,
        k: NDArray[np.int64],
        seeds: NDArray[np.uint64],
        index: NDArray[np.int64],
        *,
        choosing: bool,
    ) -> NDArray[np.float32]:
        """Return (B, K) float32, the propensities of slates; `choosing` fills the slates, `index`, first."""
