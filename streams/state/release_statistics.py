"""A partition's bandit statistics, for each release those of the slates that it made.

Features of different releases are not comparable, so each release has statistics of its own.
"""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.sums import Statistics
from streams.state.feature_spaces import KEPT
from streams.state.policy_row import arm_key


class ReleaseStatistics:
    """Statistics of the release that serves, and of some that served before.

    Parameters
    ----------
    version, serving : of the release that serves
    blank : makes empty statistics by version and number of features; without it nothing is learned of slates
        of releases that are not known

    Attributes
    ----------
    others : by version, those of releases that served before, the latest last
    dropped_arms : keys of rows that are to be deleted from the changelog
    next_reference : where the logistic statistics that serve are developed from the next `develop` on
    """

    def __init__(
        self,
        partition: int,
        version: str,
        serving: Statistics,
        *,
        blank: Callable[[str, int], Statistics] | None = None,
    ) -> None:
        self.version = version
        self.serving = serving
        self.others: dict[str, Statistics] = {}
        self.dropped_arms: set[bytes] = set()
        self.next_reference: NDArray[np.float64] | None = None
        self._partition = partition
        self._blank = blank

    def of(self, version: str) -> Statistics | None:
        """Return the statistics of a release; None where there are none."""
        return self.serving if version == self.version else self.others.get(version)

    def begun(self, version: str, dim: int) -> Statistics | None:
        """Return the statistics of a release, begun where there are none.

        None where none are kept, or where those of the release have another number of features.
        """
        statistics = self.of(version)
        # Fewer features than two no release has: somebody else wrote that slate.
        if statistics is None and self._blank is not None and dim > 1:
            statistics = self.others[version] = self._blank(version, dim)
            self.forget_oldest()
        return None if statistics is None or statistics.dim != dim else statistics

    @property
    def every(self) -> tuple[Statistics, ...]:
        """The statistics of all releases, that of the one that serves first."""
        return (self.serving, *self.others.values())

    def in_space(self, feature_space: str) -> Statistics | None:
        """Return the statistics of a feature space; None where there are none."""
        return next((one for one in self.every if one.feature_space == feature_space), None)

    def serve(self, version: str, blank: Statistics) -> None:
        """Let slates be made by another release from now on; those of before are still learned from.

        Parameters
        ----------
        blank : empty statistics, for a release of which nothing is known
        """
        if version == self.version:
            return
        before, self.serving = self.serving, self.others.pop(version, blank)
        self.others[self.version] = before
        self.version = version
        self.next_reference = None  # of the features of the one before
        self.forget_oldest()

    def put(self, version: str, statistics: Statistics) -> None:
        """Take over what is known of a release."""
        if version == self.version:
            self.serving = statistics
        else:
            self.others[version] = statistics

    def forget_oldest(self) -> None:
        """Forget what releases of long ago have learned, and delete its rows, until `KEPT` are left."""
        while len(self.others) > KEPT:
            gone = self.others.pop(next(iter(self.others)))
            self._drop_rows(gone.parts.tolist(), gone.feature_space)

    def forget(self, arms: Collection[int]) -> None:
        """Forget arms in every release's statistics, and delete their rows."""
        for statistics in self.every:
            statistics.forget(arms)
            self._drop_rows(arms, statistics.feature_space)
        self._drop_rows(arms, None)

    def _drop_rows(self, arms: Collection[int], feature_space: str | None) -> None:
        self.dropped_arms.update(arm_key(self._partition, arm, feature_space) for arm in arms)

    def develop(self) -> None:
        """Develop the statistics that serve at `next_reference`, if there is one."""
        if self.next_reference is not None:
            self.serving.develop_at(self.next_reference)
