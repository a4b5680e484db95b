"""What some slates have taught policies, summed up apart: to be taken out of the sums that have it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from online_learning.attribution.cascade import looked_at
from online_learning.attribution.rewards import Shaping
from online_learning.statistics.sums import Statistics
from streams.state.item_index import key_of, keys_of
from streams.state.release_statistics import ReleaseStatistics


class Taught:
    """Sums over slates whose rewards are known, by the release that made them, as `SlateLearning` adds them.

    Parameters
    ----------
    statistics : those that have learned of the slates
    examination : (n_positions,) float64, how often each position is looked at
    shaping, positive : rewards of actions, and which of them are responses
    of_rewards : the sum of its rewards is learned of an item, and not whether it was responded to
    cascade : positions below a slate's last response were not looked at

    Attributes
    ----------
    parts : the sums by version
    """

    def __init__(
        self,
        statistics: ReleaseStatistics,
        *,
        examination: NDArray[np.float64],
        shaping: Shaping,
        positive: frozenset[str],
        of_rewards: bool,
        cascade: bool,
    ) -> None:
        self._statistics = statistics
        self._examination = examination
        self._shaping = shaping
        self._positive = positive
        self._of_rewards = of_rewards
        self._cascade = cascade
        self.parts: dict[str, Statistics] = {}

    def add(
        self,
        version: str,
        features: NDArray[np.float32],
        item_ids: Sequence[str],
        *,
        timestamp_ms: int,
        actions: Sequence[Sequence[str]],
        rewards: Sequence[float],
        shown: bool = True,
    ) -> None:
        """Add a slate, where its release's sums are known and have these features.

        Parameters
        ----------
        features : (K, F) float32; item_ids : K of them
        actions, rewards : of each position, in order of arrival, and their sum
        shown : False where the slate counts as rewarded and not as shown, yet
        """
        known = self._statistics.of(version)
        if known is None or not len(features) or features.shape[1] != known.dim:
            return
        part = self.parts.setdefault(version, known.empty())
        rows, arms = known.rows(features), keys_of(item_ids)
        if shown:
            weights = self._examination[: len(rows)]
            part.add_impressions(rows, arms=arms, times_ms=timestamp_ms, weights=weights)
        taken = [p for p, names in enumerate(actions) if not self._positive.isdisjoint(names)]
        if taken and self._cascade:
            below = slice(looked_at(taken, len(rows)), None)
            part.amend_impressions(
                rows[below], np.full(len(rows[below]), -1.0), arms=arms[below], times_ms=timestamp_ms
            )
        for position, names in enumerate(actions):
            if values := self._learned(names, rewards[position]):
                part.add_rewards(
                    rows[[position] * len(values)], np.array(values), times_ms=timestamp_ms,
                    arms=np.full(len(values), key_of(item_ids[position]), np.uint64),
                )  # fmt: skip

    def _learned(self, actions: Sequence[str], total: float) -> list[float]:
        """Rewards that were learned of a position, or others of the same number and sum."""
        if self._of_rewards:
            return [total, *[0.0] * (len(actions) - 1)] if actions else []
        responses = [action for action in actions if action in self._positive]
        if not responses:
            return []
        # What the response earned is not told apart where dwell times shape others' rewards, too.
        others = list(actions)
        others.remove(responses[0])
        weights = self._shaping.weights
        earned = total - sum(weights[action] for action in others)
        whole = responses[0] not in self._shaping.dwell_half_ms
        return [1.0 if whole else min(max(earned / weights[responses[0]], 0.0), 1.0)]
