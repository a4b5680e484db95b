"""Makes lanes: the one place that knows what of serving depends on a release."""

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.release.baseline import BaselineScorer
from model_core.signals.weighing import Weigher
from streams.cache import Hold
from streams.clock import Clock
from streams.items.table import AnyScorer, ItemTable
from streams.learning.learned import read_learned
from streams.learning.learner import Learner
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.serving.eligibility import Eligibility
from streams.serving.explainer import Explainer
from streams.serving.lane import Lane
from streams.serving.own_clicks import OwnClicks
from streams.serving.previews import Previews
from streams.serving.request_batch import RequestBatches
from streams.serving.slates import SlateMaker
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.why.signal_sources import SignalSources
from streams.why.slate_reasons import SlateReasons


class LaneMaker:
    """Makes the lane of a release; lanes share nothing that one of them changes.

    Parameters
    ----------
    shard : returns the shard of an owned partition
    counts_as_seen : (n_actions,) bool
    """

    def __init__(
        self,
        settings: Settings,
        shard: Callable[[int], Awaitable[Shard]],
        *,
        shared: SharedState,
        eligibility: Eligibility,
        own_clicks: OwnClicks,
        counts_as_seen: NDArray[np.bool_],
        spaces: Spaces,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._shard = shard
        self._shared = shared
        self._eligibility = eligibility
        self._own_clicks = own_clicks
        self._counts_as_seen = counts_as_seen
        self._spaces = spaces
        names = tuple(settings.actions)
        self._positive = np.array([name in settings.positive_actions for name in names], np.bool_)
        self._metrics = metrics
        self._clock = clock

    def make(self, scorer: AnyScorer, *, folder: Path | None, weigher: Weigher | None = None) -> Lane:
        """Return a lane that serves nobody yet; it follows the items once these are started.

        Parameters
        ----------
        folder : of the release
        weigher : what is learned online of the signals; a release has weights of its own

        Raises
        ------
        ConfigurationError
            If a policy of the settings cannot choose from this release's candidates.
        ValueError
            If what its policy begins with cannot be read.
        """
        settings, shared, release = self._settings, self._shared, scorer.release
        prior = self._spaces.prior(release.version, release.feature_dim, rate=release.served_probability)
        policies = PolicySet(settings, prior, self._metrics)
        unnamed = self._spaces.learning("", release.feature_dim)
        begun = read_learned(folder, release, unnamed, policies.learning)
        inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
        items = ItemTable(shared.index, shared.catalogue, scorer, inference)
        sources = SignalSources(covisits=shared.covisits, ease=items.ease)
        reasons = SlateReasons(
            catalogue=shared.catalogue, index=shared.index,
            actions=tuple(settings.actions),
            action_weights=np.array(list(settings.actions.values()), np.float32),
        )  # fmt: skip
        batches = RequestBatches(
            settings, shared=shared, scorer=scorer, items=items, eligibility=self._eligibility,
            policies=policies, sources=sources, counts_as_seen=self._counts_as_seen, positive=self._positive,
            weigher=weigher if isinstance(scorer, BaselineScorer) else None, clock=self._clock,
        )  # fmt: skip
        slates = SlateMaker(
            settings, shared=shared, scorer=scorer, policies=policies, batches=batches, reasons=reasons,
            metrics=self._metrics,
        )  # fmt: skip
        explainer = Explainer(
            settings, self._shard, shared=shared, scorer=scorer, items=items, eligibility=self._eligibility,
            batches=batches, sources=sources, slate_reasons=reasons, own_clicks=self._own_clicks,
            inference=inference, clock=self._clock,
        )  # fmt: skip
        previews = Previews(
            batches=batches, slates=slates, policies=policies, index=shared.index, inference=inference
        )
        return Lane(
            folder=folder, hold=None if folder is None else Hold(folder), scorer=scorer,
            inference=inference, items=items, policies=policies,
            learner=Learner(policies, self._metrics, begun=begun, online=settings.learn_online),
            batches=batches, slates=slates, explainer=explainer, previews=previews,
        )  # fmt: skip
