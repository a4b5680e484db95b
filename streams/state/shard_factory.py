"""Makes empty shards, as the settings and the release want them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.config import SignalConfig
from model_core.signals.weighing import Weigher
from online_learning.attribution.pending_slates import PendingSlates
from online_learning.attribution.rewards import Shaping
from online_learning.statistics.position_bias import PositionStatistics, power_law
from streams.events import MAX_SLATE
from streams.kafka.progress import RecentIds
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from streams.state.log_bases import LogBases
from streams.state.own_likes import stances
from streams.state.profiles import Profiles
from streams.state.release_statistics import ReleaseStatistics
from streams.state.shard import Shard
from streams.state.slate_learning import SlateLearning
from streams.state.spending import Spending
from streams.state.trial_counts import TrialCounts


class ShardFactory:
    """Makes shards.

    Parameters
    ----------
    serving : returns the version of the release that serves, and the number of its features
    signals : how releases' training counts co-visits

    Attributes
    ----------
    spaces : what slates of any release teach
    weigher : what the shards' clicks teach, None where a release says what signals count
    spending : makes the counts of a partition's budgets, None where items have none
    """

    def __init__(
        self, settings: Settings, *, serving: Callable[[], tuple[str, int]], signals: SignalConfig
    ) -> None:
        self._settings = settings
        self.spaces = Spaces(settings)
        self._serving = serving
        self._signals = signals
        self.weigher: Weigher | None = None
        self.spending: Callable[[int], Spending] | None = None
        self.trials = TrialCounts()
        given = 0.0 if settings.position_bias == "learned" else settings.position_bias
        self.examination: NDArray[np.float64] = power_law(given, MAX_SLATE)

    def shard(self, partition: int) -> Shard:
        """Return the empty shard of a partition."""
        settings = self._settings
        version, dim = self._serving()
        profiles = Profiles(
            partition,
            history_limit=settings.history_limit,
            actions=tuple(settings.actions),
            positive=settings.positive_actions,
        )
        if settings.friends_boost:
            profiles.stances = stances(settings.actions, settings.positive_actions)
        slates = PendingSlates(
            window_ms=settings.attribution_window_ms,
            shaping=Shaping(settings.actions, settings.dwell_half_ms, settings.attribution_windows_ms),
            lateness_ms=settings.allowed_lateness_ms,
            max_bytes=settings.pending_slates_bytes,
        )
        blank = self.spaces.blank
        statistics = ReleaseStatistics(partition, version, blank(version, dim), blank=blank)
        logs = LogBases()
        learning = SlateLearning(
            profiles,
            slates,
            statistics,
            logs=logs,
            positions=PositionStatistics() if settings.position_bias == "learned" else None,
            examination=self.examination,
            learn_from=settings.learn_from,
            cascade=settings.click_model == "cascade",
            trials=self.trials,
        )
        return Shard(
            partition=partition,
            profiles=profiles,
            covisits=self.covisits(),
            statistics=statistics,
            slates=slates,
            learning=learning,
            logs=logs,
            answered=RecentIds(settings.answered_requests),
            weigher=self.weigher,
            spending=None if self.spending is None else self.spending(partition),
        )

    def covisits(self) -> CoVisitation:
        """Return empty counts, paired as the release's training paired them."""
        return CoVisitation(neighbours=self._signals.neighbours, **self._signals.pairing)
