"""Apprentice mode: an incumbent serves, another policy learns from what comes of it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.policy import Policy
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates


class ApprenticePolicy:
    """Chooses as the incumbent does, which never learns, and passes what is learned to the apprentice.

    The version is the apprentice's: how much it had learned when the incumbent chose. What it would have
    chosen is up to whoever asks it.

    Parameters
    ----------
    apprentice : learns, and does not serve
    incumbent : serves as it is
    """

    name = "apprentice"
    memoryless = False

    def __init__(self, apprentice: Policy, incumbent: Policy) -> None:
        self.apprentice = apprentice
        self.incumbent = incumbent

    @property
    def propensity_kind(self) -> PropensityKind:
        """See `Policy.propensity_kind`; the incumbent's."""
        return self.incumbent.propensity_kind

    @property
    def version(self) -> int:
        """See `Policy.version`; the apprentice's."""
        return self.apprentice.version

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        version = self.version
        return replace(self.incumbent.select(candidates, k=k, seeds=seeds), version=version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        return self.incumbent.propensities(candidates, index, seeds=seeds)

    def update(self, statistics: Statistics) -> None:
        """Let the apprentice adopt `statistics`."""
        self.apprentice.update(statistics)
