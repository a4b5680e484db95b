"""The record of a slate: what was chosen, by which policy, how probable it was, and why."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
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
    events : of the user ever, when it was made
    tried : the item that is on trial, if one is
    """

    slate: list[SlateItem]
    features: NDArray[np.float32]
    shadows: dict[str, list[float]]
    route: Route
    policy_version: int
    fallback: str | None
    model_version: str
    events: int
    tried: str | None


class Shown(NamedTuple):
    """Candidates as they stand in the slates of a batch.

    rows : (B, K) int64, -1 = no position; scores : (B, K) float32; features : (B, K, F) float32
    sizes : (B,) int64, positions there are
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    features: NDArray[np.float32]
    sizes: NDArray[np.int64]


def shown(scores: Scores, selection: Selection) -> Shown:
    """Look up what was selected."""
    index = np.ascontiguousarray(selection.index)
    shape = index.shape
    found = Shown(
        np.empty(shape, np.int64),
        np.empty(shape, np.float32),
        np.empty((*shape, scores.features.shape[2]), np.float32),
        np.empty(len(index), np.int64),
    )
    _look_up(
        index,
        np.ascontiguousarray(scores.rows),
        np.ascontiguousarray(scores.scores, np.float32),
        np.ascontiguousarray(scores.features, np.float32),
        *found,
    )
    return found


# It takes a microsecond a slate, and so keeps the interpreter: NumPy lets go of it to look up a few numbers,
# and has to wait each time until it has it again.
@numba.njit(cache=True)
def _look_up(  # type: ignore[no-untyped-def]
    index, rows, scores, features, shown_rows, shown_scores, shown_features, sizes
):
    for b in range(len(index)):
        sizes[b] = 0
        for k in range(index.shape[1]):
            at = index[b, k]
            shown_rows[b, k], shown_scores[b, k] = -1, np.float32(0)
            if at < 0:
                continue
            sizes[b] += 1
            shown_rows[b, k], shown_scores[b, k] = rows[b, at], scores[b, at]
            for f in range(features.shape[2]):
                shown_features[b, k, f] = features[b, at, f]


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    rows, numbers, features = (
        np.zeros((1, 1), np.int64),
        np.zeros((1, 1), np.float32),
        np.zeros((1, 1, 1), np.float32),
    )
    _look_up(rows, rows, numbers, features, rows.copy(), numbers, features, np.zeros(1, np.int64))


def chosen_slates(
    shown: Shown,
    selection: Selection,
    why: Sequence[Sequence[Why]],
    *,
    shadows: dict[str, NDArray[np.float32]],
    routes: Sequence[Route],
    fallbacks: Sequence[str | None],
    index: ItemIndex,
    model_version: str,
    events: NDArray[np.int64],
) -> list[Chosen]:
    """Return the slates of a batch.

    Parameters
    ----------
    why : for each slate, by position
    events : (B,) int64, of each user ever
    """
    by_position = (
        shown.rows.tolist(),
        shown.scores.tolist(),
        selection.propensities.tolist(),
        selection.teams.tolist(),
    )
    shadowed = {name: column.tolist() for name, column in shadows.items()}
    tried = [-1] * len(routes) if selection.tried is None else selection.tried.tolist()
    versions, sizes, dim = selection.versions.tolist(), shown.sizes.tolist(), shown.features.shape[2]
    chosen = []
    for b, (route, fallback, size, n_events, on_trial) in enumerate(
        zip(routes, fallbacks, sizes, events.tolist(), tried, strict=True)
    ):
        columns = zip(*(column[b][:size] for column in by_position), why[b][:size], strict=True)
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
                # Of its own: what is kept of a slate keeps nothing of the batch.
                features=np.frombuffer(shown.features[b, :size].tobytes(), np.float32).reshape(size, dim),
                shadows={name: column[b][:size] for name, column in shadowed.items()},
                route=route,
                policy_version=versions[b],
                fallback=fallback if slate else "no_candidates",
                model_version=model_version,
                events=n_events,
                tried=slate[on_trial].item_id if on_trial >= 0 else None,
            )
        )
    return chosen


def slate_record(
    request: Request, chosen: Chosen, *, learned: bool, clicks_offset: int, received: float
) -> Recommendation:
    """Return the record of a slate that goes out now.

    Parameters
    ----------
    learned : whether policies learn from it
    clicks_offset : last offset of the user's click partition that has been folded
    received : Unix seconds at which the request entered
    """
    route, features = chosen.route, chosen.features
    if not learned:  # without features nothing is learned from it when it is read again either
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
