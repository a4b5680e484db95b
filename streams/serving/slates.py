"""From a prepared batch to its slates, in the inference thread: score, choose, explain."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.release.scorer import Scores
from model_core.signals.pasts import Pasts
from online_learning.types import Candidates
from streams.items.table import AnyScorer
from streams.learning.policy_set import PolicySet
from streams.learning.routes import choose
from streams.metrics import Metrics
from streams.serving.extra_candidates import columns
from streams.serving.friends import friends_by_row
from streams.serving.records import Chosen, chosen_slates, shown
from streams.serving.request_batch import Gathered, Prepared, RequestBatches
from streams.serving.rules import RuleColumns
from streams.settings import Settings
from streams.state.shared import SharedState
from streams.why.slate_reasons import MAX_REASONS, NEW, ON_TRIAL, SlateReasons, Why


class SlateMaker:
    """Makes the slates of batches. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        shared: SharedState,
        scorer: AnyScorer,
        policies: PolicySet,
        batches: RequestBatches,
        reasons: SlateReasons,
        metrics: Metrics,
    ) -> None:
        self._index = shared.index
        self._scorer = scorer
        self._policies = policies
        self._batches = batches
        self._reasons = reasons
        self._rules = RuleColumns(settings, shared.catalogue)
        self._metrics = metrics

    def make(self, gathered: Gathered) -> list[Chosen]:
        """Return a slate for each request, in order."""
        started = time.perf_counter()
        batch = self._batches.prepare(gathered)
        prepared = time.perf_counter()
        scores = self._scorer.score(batch.batch, batch.items)
        scored = time.perf_counter()
        candidates = self._candidates(batch, scores)
        selection = choose(candidates, batch.routes, k=batch.k, seeds=batch.seeds)
        selected = time.perf_counter()
        shadows = self._policies.shadows.propensities(candidates, selection.index, seeds=batch.seeds)
        shadowed = time.perf_counter()
        slates = shown(scores, selection)
        why = self._reasons.of(
            batch.people.stated, batch.drawn, slates.rows, parts=batch.parts, liked=batch.liked,
            popularity=batch.popularity, friends=friends_by_row(batch.friends),
        )  # fmt: skip
        if selection.tried is not None:
            _say_tried(why, selection.tried)
        self._metrics.observe_stages("click_to_slate", _ages(batch.people.pasts, batch.times_ms))
        chosen = chosen_slates(
            slates, selection, why, shadows=shadows, routes=batch.routes, fallbacks=batch.allowed.fallbacks,
            index=self._index, model_version=self._scorer.release.version, events=batch.people.events,
        )  # fmt: skip
        for stage, seconds in (
            ("prepare", prepared - started),
            ("score", scored - prepared),
            ("policy", selected - scored),
            ("shadow", shadowed - selected),
            ("explain", time.perf_counter() - shadowed),
        ):
            self._metrics.observe_stage(stage, seconds)
        return chosen

    def candidates(self, batch: Prepared) -> tuple[Scores, Candidates]:
        """Score a batch, and return what its policies would choose from; nothing is measured."""
        scores = self._scorer.score(batch.batch, batch.items)
        return scores, self._candidates(batch, scores)

    def _candidates(self, batch: Prepared, scores: Scores) -> Candidates:
        rules: dict[str, Any] = {}
        if batch.diverse:
            rules = self._rules.of(scores.rows, batch.items, batch.times_ms)
        return Candidates(
            scores=scores.scores,
            features=scores.features,
            valid=scores.valid,
            arms=_keys(self._index.keys, scores.rows, scores.valid),
            **rules,
            **columns(batch.extras, scores),
        )


def _say_tried(why: Sequence[Sequence[Why]], tried: NDArray[np.int64]) -> None:
    """Add to what is on trial that it is, as the first reason."""
    for b in np.flatnonzero(tried >= 0).tolist():
        reasons = why[b][tried[b]].reasons
        reasons[:] = [ON_TRIAL, *(one for one in reasons if one != NEW)][:MAX_REASONS]


def _ages(pasts: Pasts, times_ms: NDArray[np.int64]) -> list[float]:
    """Seconds between the newest event of each user who has any and the user's request."""
    asked = zip(pairwise(pasts.bounds.tolist()), times_ms.tolist(), strict=True)
    return [
        max(0, now_ms - int(pasts.times_ms[end - 1])) / 1000 for (begin, end), now_ms in asked if end > begin
    ]


def _keys(keys: NDArray[np.uint64], rows: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Keys of candidates, 0 where there is none: the row there may be of no item."""
    if valid.all():
        return keys[rows]
    found = np.zeros(rows.shape, np.uint64)
    found[valid] = keys[rows[valid]]
    return found
