"""The protocol every policy follows."""

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import NoOptions
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates


class RegisteredPolicy:
    """Class attributes of a policy; `online_learning.policies.registry` finds it by `name`.

    Attributes
    ----------
    name : how the policy is called in settings, records and metrics
    learns_from : the statistics it reads; None for a policy that learns nothing, or by other means
    Options : what it can be told; a dataclass of `online_learning.policies.options`
    served : whether a worker may serve it
    memoryless : whether its next choice depends on the items left over only, whoever has chosen those before
    """

    name: ClassVar[str]
    learns_from: ClassVar[type[Statistics] | None] = LinearStatistics
    Options: ClassVar[type] = NoOptions
    served: ClassVar[bool] = True
    memoryless: ClassVar[bool] = False

    @classmethod
    def make(cls, prior: LinearPrior, **options: Any) -> "Policy":
        """Return a new policy; `options` are those of `Options`."""
        made: Policy = cls(prior, **options)  # type: ignore[call-arg, assignment]
        return made


class Policy(Protocol):
    """Chooses slates from scored candidates, and learns from merged statistics."""

    @property
    def memoryless(self) -> bool:
        """See `RegisteredPolicy`."""
        ...

    @property
    def name(self) -> str:
        """Name of the policy in settings, records and metrics."""
        ...

    @property
    def propensity_kind(self) -> PropensityKind:
        """Whether the propensities are exact or Monte Carlo estimates."""
        ...

    @property
    def version(self) -> int:
        """Number of observations (impressions and rewards) that the policy has learned from.

        It is a function of the statistics alone, so two workers, or one before and after a restart,
        show the same version exactly when they have adopted the same amount of evidence. It stays 0
        for a policy that does not learn.
        """
        ...

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """Choose one slate per request.

        A request's slate is a pure function of the adopted statistics, its own row of `candidates`
        and its seed: it does not depend on the rest of the batch, and a smaller k gives the first
        positions of a larger one. Never chosen are candidates that are not valid, nor those of which the
        policy reads something that is NaN or infinite.

        Parameters
        ----------
        candidates : B requests with C candidates each
        k : (B,) int64, slate sizes, at least 0; more than there are candidates gives a shorter slate
        seeds : (B,) uint64, one per request
        """
        ...

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """Return how probable each position of given slates is, were this policy to choose.

        The probability that it would put this candidate there, given the positions before, whoever chose
        them: what weighs another policy's log in off-policy evaluation. Over all candidates of a position
        it sums to 1. Of the policy's own slates it is what `select` says, if that is exact; an estimate is
        wins / samples here, unbiased above the line, and never 0 in `select`, where it goes below.

        Parameters
        ----------
        candidates : B requests with C candidates each
        index : (B, K) int64, column of the candidate at each position, none twice; -1 after a slate's end
        seeds : (B,) uint64, of the samples that estimate; they must be independent of what chose the slates

        Returns
        -------
        (B, K) float32; 0 where index is -1 and for what the policy would never choose
        """
        ...

    def update(self, statistics: Statistics) -> None:
        """Adopt `statistics`, merged over all partitions, in place of those adopted before.

        O(F^3) for a policy that learns. On an error the policy keeps what it had. It may be called
        while another thread is in `select`, which then ends with the version it began with.
        """
        ...
