"""The record of a slate: what was chosen, by which policy, how probable it was, and why."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.release.scorer import Scores
from streams.events import Recommendation, Request, SlateItem
from streams.learning.routes import Route, Selection
from streams.state.item_index import ItemIndex
from streams.why.slate_reasons import Why


@dataclass(frozen=True, slots=True)
class Chosen:
    """A slate as it goes into its record.

    features : (len(slate), F) float32, what the policy saw of each position
    shadows : by candidate policy, how probable each position is under it
    fallback : why the slate is not as it should be, None if it is
    model_version : of the release that made it
    """

    slate: list[SlateItem]
    features: NDArray[np.float32]
    shadows: dict[str, list[float]]
    route: Route
    policy_version: int
    fallback: str | None
    model_version: str


def chosen_slates(
    scores: Scores,
    selection: Selection,
    why: Sequence[Sequence[Why]],
    *,
    shadows: dict[str, NDArray[np.float32]],
    routes: Sequence[Route],
    fallbacks: Sequence[str | None],
    index: ItemIndex,
    model_version: str,
) -> list[Chosen]:
    """Return the slates of a batch.

    Parameters
    ----------
    why : for each slate, by position
    """
    chosen = []
    for b, (route, fallback) in enumerate(zip(routes, fallbacks, strict=True)):
        at = selection.index[b][selection.index[b] >= 0]
        columns = zip(
            scores.rows[b, at].tolist(),
            scores.scores[b, at].tolist(),
            selection.propensities[b, : len(at)].tolist(),
            selection.teams[b, : len(at)].tolist(),
            why[b][: len(at)],
            strict=True,
        )
        slate = [
            SlateItem(
                item_id=index.ids[row],
                position=position,
                score=score,
                propensity=propensity,
                reasons=reasons,
                evidence=evidence,
                team=route.variants[team] if team >= 0 else None,
            )
            for position, (row, score, propensity, team, (reasons, evidence)) in enumerate(columns)
        ]
        chosen.append(
            Chosen(
                slate=slate,
                features=np.ascontiguousarray(scores.features[b, at], np.float32),
                shadows={name: column[b, : len(at)].tolist() for name, column in shadows.items()},
                route=route,
                policy_version=int(selection.versions[b]),
                fallback=fallback if slate else "no_candidates",
                model_version=model_version,
            )
        )
    return chosen


def slate_record(request: Request, chosen: Chosen, *, clicks_offset: int, received: float) -> Recommendation:
    """Return the record of a slate that goes out now.

    Parameters
    ----------
    clicks_offset : last offset of the user's click partition that has been folded
    received : Unix seconds at which the request entered
    """
    route, features = chosen.route, chosen.features
    if request.preview:  # without features nothing is learned from it when it is read again either
        features = features[:0, :0]
    return Recommendation(
        request_id=request.request_id,
        user_id=request.user_id,
        slate=chosen.slate,
        policy=route.policy,
        policy_version=chosen.policy_version,
        propensity_kind=route.propensity_kind,
        model_version=chosen.model_version,
        features=features.astype("<f4", copy=False).tobytes(),
        feature_dim=features.shape[1],
        timestamp_ms=request.timestamp_ms,
        latency_ms=round(max(0.0, time.time() - received) * 1000, 3),
        clicks_offset=clicks_offset,
        context=request.context,
        candidate_propensities=chosen.shadows,
        fallback=chosen.fallback,
        experiment=route.experiment,
        variant=route.variant,
    )
