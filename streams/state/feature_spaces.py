"""Feature spaces: each release has statistics of its own, as features of releases are not comparable."""

from functools import lru_cache

import msgspec
import numpy as np
import xxhash

from model_core.release.folder import prior_weights
from online_learning.policies.registry import Learning
from online_learning.statistics.posterior import MOST_VARIANCE, LinearPrior
from online_learning.statistics.sums import Statistics
from streams.settings import Settings

KEPT = 3
"""Releases beside the one that serves whose statistics go on: a canary, and those that a rollback finds."""


class SpaceRow(msgspec.Struct, frozen=True, array_like=True):
    """Statistics of a release that does not serve, as a `PolicyRow` has them; empty where parts have rows."""

    feature_space: str
    dim: int
    statistics: bytes


class Spaces:
    """Says what slates of any release teach, by its version and the number of its features."""

    def __init__(self, settings: Settings) -> None:
        self._policy = settings.policy
        self._precision = settings.prior_precision
        self._half_life_ms = settings.reward_half_life_ms
        # Sums of responses and sums of rewards must not be added.
        self._kind = "/reward" if settings.learn_from == "reward" else ""

    def prior(self, version: str, dim: int, *, rate: float | None = None) -> LinearPrior:
        """Return what is believed of a release's features before anything is learned.

        Parameters
        ----------
        rate : how often rewards are to be expected, in (0, 1); None where the release does not say. What
            policies infer from statistics depends on it, and the statistics do not.
        """
        return LinearPrior(
            prior_weights(dim).astype(np.float64),
            precision=self._precision,
            noise_variance=MOST_VARIANCE if rate is None else rate * (1.0 - rate),
            feature_space=version + self._kind,
            relative=True,
        )

    def learning(self, version: str, dim: int) -> Learning:
        """Return what makes and reads the statistics of a release."""
        return Learning.of(self._policy, self.prior(version, dim), half_life_ms=self._half_life_ms)

    def blank(self, version: str, dim: int) -> Statistics:
        """Return statistics of nothing."""
        return self.learning(version, dim).empty()

    def read(self, row: SpaceRow) -> tuple[str, Statistics] | None:
        """Return a release's version and the statistics of a row.

        None where the settings of now learn in another way.
        """
        version = row.feature_space.partition("/")[0]
        if row.dim < 2 or not version:
            return None
        learning = self.learning(version, row.dim)
        if learning.feature_space != row.feature_space:
            return None
        return version, learning.read(row.statistics) if row.statistics else learning.empty()


@lru_cache(maxsize=64)
def space_key(feature_space: str) -> bytes:
    """Tell feature spaces apart in keys: 8 bytes."""
    return xxhash.xxh3_64_digest(feature_space.encode())
