"""The record of a slate: what was chosen, by which policy, how probable it was, and why."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.events import Recommendation, Request, SlateItem
from streams.learning.routes import Route
from streams.settings import Settings
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.why import graph_paths as graph
from streams.why.signal_sources import SignalSources


@dataclass(frozen=True, slots=True)
class Chosen:
    """A slate of item rows, by position; teams as of `Selection`, shadows : propensities by candidate."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    propensities: NDArray[np.float32]
    features: NDArray[np.float32]
    shadows: dict[str, list[float]]
    route: Route
    teams: NDArray[np.int8]
    policy_version: int
    fallback: str | None


class SlateRecords:
    """Makes records in the event loop, from the state as it is then."""

    def __init__(
        self, settings: Settings, shared: SharedState, sources: SignalSources, *, model_version: str
    ) -> None:
        self._shared = shared
        self._sources = sources
        self._model_version = model_version
        self._actions = tuple(settings.actions)
        self._action_weights = np.array(list(settings.actions.values()), np.float32)

    def make(
        self, request: Request, shard: Shard, row: int, chosen: Chosen, *, received: float
    ) -> Recommendation:
        """Return the record of a slate for the user in `row`, -1 for one never seen.

        Parameters
        ----------
        received : Unix seconds at which the request entered
        """
        route = chosen.route
        return Recommendation(
            request_id=request.request_id,
            user_id=request.user_id,
            slate=self._slate(request, shard, row, chosen),
            policy=route.policy,
            policy_version=chosen.policy_version,
            propensity_kind=route.propensity_kind,
            model_version=self._model_version,
            features=chosen.features.astype("<f4").tobytes(),
            feature_dim=chosen.features.shape[1],
            timestamp_ms=request.timestamp_ms,
            latency_ms=round(max(0.0, time.time() - received) * 1000, 3),
            clicks_offset=shard.clicks.position - 1,
            context=request.context,
            candidate_propensities=chosen.shadows,
            fallback=chosen.fallback,
            experiment=route.experiment,
            variant=route.variant,
        )

    def _slate(self, request: Request, shard: Shard, row: int, chosen: Chosen) -> list[SlateItem]:
        shared = self._shared
        reasons = graph.reasons(
            shared.catalogue,
            shared.index,
            shard.profiles,
            row,
            chosen.rows,
            now_ms=request.timestamp_ms,
            actions=self._actions,
            action_weights=self._action_weights,
            covisits=shared.parts,
        )
        evidence = self._sources.strongest(shard.profiles, row, chosen.rows)
        teams = chosen.teams.tolist()
        return [
            SlateItem(
                item_id=shared.index.ids[item],
                position=position,
                score=float(chosen.scores[position]),
                propensity=float(chosen.propensities[position]),
                reasons=reasons[position],
                evidence=evidence[position],
                team=chosen.route.variants[teams[position]] if teams[position] >= 0 else None,
            )
            for position, item in enumerate(chosen.rows.tolist())
        ]
