"""Routes requests to policies and makes the slates of a batch: each by one policy, or by two interleaved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from online_learning.experiments.interleaving import (
    draft_propensities,
    other_seeds,
    team_draft,
)
from online_learning.policies.pinning import above, others, pinned
from online_learning.policies.policy import Policy
from online_learning.policies.trial import inserted, on_trial
from online_learning.types import Candidates, PropensityKind


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """The route of a user: one policy, or two that are interleaved; experiment is None for the live one."""

    policies: tuple[Policy, ...]
    variants: tuple[str, ...] = ()
    experiment: str | None = None

    @property
    def variant(self) -> str | None:
        """The variant of the whole slate; None outside experiments and where two are interleaved."""
        return self.variants[0] if len(self.variants) == 1 else None

    @property
    def policy(self) -> str:
        """Name of the policy in records and metrics."""
        return self.policies[0].name if len(self.policies) == 1 else "interleaved"

    @property
    def propensity_kind(self) -> PropensityKind:
        """Whether the slates' propensities are exact."""
        if len(self.policies) == 1:
            return self.policies[0].propensity_kind
        return "exact" if all(policy.memoryless for policy in self.policies) else "estimated"


@dataclass(frozen=True, slots=True)
class UserView:
    """The facts that decide a user's route: number of events ever, and stated attributes.

    enrolled: the user may be in an experiment.
    """

    user_id: str
    events: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    enrolled: bool = True


@dataclass(frozen=True, slots=True)
class Selection:
    """Slates of a batch: index and propensities as of `Slates`, versions : (B,) int64 of the policies.

    teams : (B, K) int8, which of a route's variants put the item there; -1 where nothing is interleaved.
    tried : (B,) int64, the position of what is on trial, -1 = none; None where nothing is.
    """

    index: NDArray[np.int64]
    propensities: NDArray[np.float32]
    versions: NDArray[np.int64]
    teams: NDArray[np.int8]
    tried: NDArray[np.int64] | None = None


def choose(
    candidates: Candidates, routes: Sequence[Route], *, k: NDArray[np.int64], seeds: NDArray[np.uint64]
) -> Selection:
    """Choose a slate for each request by what serves it (`Policy.select`), around what stands anyway.

    Parameters
    ----------
    routes : one for each of the B requests
    k, seeds : see `Policy.select`
    """
    top = pinned(candidates, k)
    n_top = (top >= 0).sum(axis=1)
    tried = on_trial(candidates, k - n_top)
    trials = bool((tried >= 0).any())
    if not top.size and not trials:
        return _by_route(candidates, routes, k, seeds)
    rest = others(candidates, np.column_stack([top, tried]) if trials else top)
    found = _by_route(rest, routes, k - n_top - (tried >= 0), seeds)
    width = int(k.max())
    if top.size:
        found = Selection(
            above(top, top, found.index, end=-1)[:, :width],
            above(top, 1.0, found.propensities, end=0.0)[:, :width],
            found.versions,
            above(top, -1, found.teams, end=-1)[:, :width],
        )
    if not trials or candidates.trial_at is None:
        return found
    index, propensities, teams, positions = inserted(
        tried, candidates.trial_at, n_top, found.index, found.propensities, found.teams, width
    )
    return Selection(index, propensities, found.versions, teams, positions)


def _by_route(
    candidates: Candidates, routes: Sequence[Route], k: NDArray[np.int64], seeds: NDArray[np.uint64]
) -> Selection:
    distinct = dict.fromkeys(routes)
    if len(distinct) == 1:
        return _select(routes[0], candidates, k, seeds)
    shape = (len(routes), int(k.max(initial=0)))
    index, teams = np.full(shape, -1, np.int64), np.full(shape, -1, np.int8)
    propensities, versions = np.zeros(shape, np.float32), np.zeros(len(routes), np.int64)
    for route in distinct:
        rows = np.array([row for row, one in enumerate(routes) if one is route], np.int64)
        part = _select(route, _rows_of(candidates, rows), k[rows], seeds[rows])
        width = part.index.shape[1]
        index[rows, :width], teams[rows, :width] = part.index, part.teams
        propensities[rows, :width], versions[rows] = part.propensities, part.versions
    return Selection(index, propensities, versions, teams)


def _select(
    route: Route, candidates: Candidates, k: NDArray[np.int64], seeds: NDArray[np.uint64]
) -> Selection:
    if len(route.policies) == 1:
        slates = route.policies[0].select(candidates, k=k, seeds=seeds)
        teams = np.full(slates.index.shape, -1, np.int8)
        return Selection(slates.index, slates.propensities, np.full(len(k), slates.version), teams)
    first, second = route.policies
    independent = other_seeds(seeds)
    one = first.select(candidates, k=k, seeds=seeds)
    two = second.select(candidates, k=k, seeds=independent)
    draft = team_draft(one.index, two.index, seeds=seeds)
    propensities = draft_propensities(
        first.propensities(candidates, draft.index, seeds=seeds),
        second.propensities(candidates, draft.index, seeds=independent),
    )
    propensities[draft.index < 0] = 0.0
    return Selection(draft.index, propensities, np.full(len(k), max(one.version, two.version)), draft.teams)


def _rows_of(candidates: Candidates, rows: NDArray[np.int64]) -> Candidates:
    columns = {column.name: getattr(candidates, column.name) for column in fields(candidates)}
    return Candidates(
        **cast(Any, {name: None if value is None else value[rows] for name, value in columns.items()})
    )
