"""The policies of a worker: the live one, those of running experiments, and who is served by which."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from online_learning.apprentice import ApprenticePolicy
from online_learning.experiments.assignment import OUTSIDE, assign
from online_learning.experiments.interleaving import (
    MEMORYLESS,
    draft_propensities,
    other_seeds,
    team_draft,
)
from online_learning.experiments.segment import Segment
from online_learning.factory import Learning, create_policy
from online_learning.pinning import above, others, pinned
from online_learning.policy import Policy
from online_learning.policy_spec import PolicySpec
from online_learning.posterior import LinearPrior
from online_learning.statistics import Statistics
from online_learning.types import Candidates, PropensityKind
from online_learning.warm import warm
from streams.errors import ConfigurationError
from streams.experiments.definition import (
    LIVE,
    MAX_RUNNING,
    Experiment,
    check_experiment,
    decode_experiment,
)
from streams.metrics import Metrics
from streams.settings import Settings
from streams.shadow import ShadowPolicies
from streams.slate_rules import rules_of
from streams.state.item_index import keys_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What serves a user: one policy, or two that are interleaved; experiment is None for the live one."""

    policies: tuple[Policy, ...]
    variants: tuple[str, ...] = ()
    experiment: str | None = None

    @property
    def variant(self) -> str | None:
        """The variant of the whole slate; None outside experiments and where two are interleaved."""
        return self.variants[0] if len(self.variants) == 1 else None

    @property
    def policy(self) -> str:
        """How the policy is called in records and metrics."""
        return self.policies[0].name if len(self.policies) == 1 else "interleaved"

    @property
    def propensity_kind(self) -> PropensityKind:
        """Whether the slates' propensities are exact."""
        if len(self.policies) == 1:
            return self.policies[0].propensity_kind
        return "exact" if all(policy.name in MEMORYLESS for policy in self.policies) else "estimated"


@dataclass(frozen=True, slots=True)
class UserView:
    """What decides who serves a user; events ever and attributes stated."""

    user_id: str
    events: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Slates of a batch: index and propensities as of `Slates`, versions : (B,) int64 of the policies.

    teams : (B, K) int8, which of a route's variants put the item there; -1 where nothing is interleaved.
    """

    index: NDArray[np.int64]
    propensities: NDArray[np.float32]
    versions: NDArray[np.int64]
    teams: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class _Running:
    """An experiment whose policies are ready; routes has one for each variant, or one if interleaved."""

    experiment: Experiment
    segment: Segment | None
    routes: tuple[Route, ...]

    @property
    def policies(self) -> Iterator[Policy]:
        """The policies of all variants."""
        return (policy for route in self.routes for policy in route.policies)

    def assign(self, users: Sequence[UserView], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return which of the routes serves each user, or `OUTSIDE`."""
        experiment = self.experiment
        variants = experiment.variants if len(self.routes) > 1 else experiment.variants[:1]
        numbers = assign(
            keys,
            experiment.name,
            [variant.name for variant in variants],
            [variant.weight for variant in variants],
            share=experiment.share,
        )
        if self.segment is not None:
            inside = [self.segment.has(user.events, user.attributes) for user in users]
            numbers = np.where(inside, numbers, OUTSIDE)
        return numbers


class PolicySet:
    """Holds every policy that serves, gives all of them what is learned, and sends users to them.

    learner is the policy of the settings; in apprentice mode the incumbent serves for it (`live`).

    A user takes part in one experiment at a time: the one started first of those that would have them, and
    comparisons before policies of a part of the users. A definition that this worker cannot run leaves its
    users with the live policy, is counted, and is logged once.
    """

    def __init__(self, settings: Settings, prior: LinearPrior, metrics: Metrics) -> None:
        self._half_life_ms = settings.reward_half_life_ms
        self._defaults: dict[str, Any] = {
            "temperature": settings.temperature,
            "exploration": settings.exploration,
            "epsilon": settings.epsilon,
            "propensity_samples": settings.propensity_samples,
            "rules": rules_of(settings),
            "policy_release": settings.policy_release,
        }
        self._prior = prior
        self._metrics = metrics
        self.learning = Learning.of(settings.policy, prior, half_life_ms=self._half_life_ms)
        self.learner = create_policy(
            settings.policy, prior, half_life_ms=self._half_life_ms, **self._defaults
        )
        self.live: Policy = self.learner
        if settings.apprentice:
            self.live = ApprenticePolicy(self.learner, self._incumbent(settings.incumbent))
        self._live = Route((self.live,))
        self.shadows = ShadowPolicies(
            settings.candidate_policies, self._create, self.learning, settings.policy
        )
        self._definitions: dict[str, Experiment] = {}
        self._refused: dict[str, str] = {}
        self._running: dict[str, _Running] = {}
        self._order: tuple[_Running, ...] = ()
        self._statistics: Statistics | None = None

    @property
    def names(self) -> frozenset[str]:
        """Names of the policies that serve, and of those in their shadow."""
        names = frozenset(policy.name for policy in self._all())
        return names | {self.live.incumbent.name} if isinstance(self.live, ApprenticePolicy) else names

    def _all(self) -> Iterator[Policy]:
        yield self.live
        for running in self._order:
            yield from (policy for policy in running.policies if policy is not self.live)
        yield from self.shadows

    def warm(self) -> None:
        """Compile what the policies need before the first request waits for it."""
        for policy in (self.learner, *self._all()):
            warm(policy, self.learning)

    # Event loop: what is learned

    def update(self, statistics: Statistics) -> None:
        """Let every policy adopt merged statistics."""
        self._statistics = statistics
        for policy in self._all():
            policy.update(statistics)

    # Event loop: which experiments run

    async def apply(self, rows: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Take in rows of `experiments`: what is stopped ends at once, what is new begins when ready."""
        started: dict[str, Experiment] = {}
        for key, value in rows:
            name = (key or b"").decode(errors="replace")
            experiment = self._read(name, value)
            if experiment is None or not experiment.running:
                self._definitions.pop(name, None)
                started.pop(name, None)
                self._remove(name)
            elif self._definitions.get(name) != experiment:
                self._definitions[name] = started[name] = experiment
        for name, experiment in started.items():
            try:
                running = await asyncio.to_thread(self._make, experiment)
            except ValueError as error:
                self._refuse(name, error)
                self._remove(name)
                continue
            if self._definitions.get(name) is experiment:
                self._add(running)

    def _read(self, name: str, value: bytes | None) -> Experiment | None:
        if value is None:
            return None
        try:
            experiment = decode_experiment(value)
            if experiment.name != name:
                raise ValueError(f"key must be the experiment's name {experiment.name!r}, got {name!r}")
        except ValueError as error:
            self._refuse(name, error)
            return None
        return experiment

    def _refuse(self, name: str, error: ValueError) -> None:
        if self._refused.get(name) == str(error):
            return
        self._refused[name] = str(error)
        self._metrics.experiments_refused.inc()
        log.error("experiment %r is not run here, its users keep the live policy: %s", name, error)

    def _make(self, experiment: Experiment) -> _Running:
        """Make and compile the policies of an experiment; runs beside the event loop."""
        check_experiment(experiment, self.learning, self.live.name)
        policies = tuple(self._policy(variant.policy) for variant in experiment.variants)
        names = tuple(variant.name for variant in experiment.variants)
        if experiment.kind == "interleaving":
            routes: tuple[Route, ...] = (Route(policies, names, experiment.name),)
        else:
            pairs = zip(policies, names, strict=True)
            routes = tuple(Route((policy,), (name,), experiment.name) for policy, name in pairs)
        segment = None if experiment.segment is None else Segment.parse(experiment.segment)
        return _Running(experiment, segment, routes)

    def _policy(self, text: str) -> Policy:
        if text == LIVE:
            return self.live
        policy = self._create(PolicySpec.parse(text))
        warm(policy, self.learning)
        return policy

    def _incumbent(self, text: str) -> Policy:
        try:
            return self._create(PolicySpec.parse(text))
        except ValueError as error:
            raise ConfigurationError(f"Bad configuration:\n  incumbent: {error}") from None

    def _create(self, spec: PolicySpec) -> Policy:
        return spec.create(self._prior, half_life_ms=self._half_life_ms, **self._defaults)

    def _add(self, running: _Running) -> None:
        experiment = running.experiment
        if experiment.name not in self._running and len(self._running) >= MAX_RUNNING:
            self._refuse(experiment.name, ValueError(f"running experiments must be at most {MAX_RUNNING}"))
            return
        if self._statistics is not None:
            for policy in running.policies:
                policy.update(self._statistics)
        self._running[experiment.name] = running
        self._sort()
        log.info("experiment %s runs: %s, share %g", experiment.name, experiment.kind, experiment.share)

    def _remove(self, name: str) -> None:
        if self._running.pop(name, None) is not None:
            self._sort()
            log.info("experiment %s has ended: its users are served by the live policy", name)

    def _sort(self) -> None:
        def place(running: _Running) -> tuple[bool, int, str]:
            experiment = running.experiment
            return experiment.kind == "policy", experiment.started_ms, experiment.name

        self._order = tuple(sorted(self._running.values(), key=place))
        self._metrics.experiments_running.set(len(self._order))

    # Event loop: who is served by which

    def routes(self, users: Sequence[UserView]) -> list[Route]:
        """Return what serves each user."""
        routes = [self._live] * len(users)
        if not self._order:
            return routes
        keys = keys_of(user.user_id for user in users)
        for running in reversed(self._order):  # the first has the last word
            for row, number in enumerate(running.assign(users, keys).tolist()):
                if number != OUTSIDE:
                    routes[row] = running.routes[number]
        return routes

    # Inference thread: the slates

    def select(
        self,
        candidates: Candidates,
        routes: Sequence[Route],
        *,
        k: NDArray[np.int64],
        seeds: NDArray[np.uint64],
    ) -> Selection:
        """Choose a slate for each request by the policy that serves it, below what is pinned."""
        top = pinned(candidates, k)
        if not top.size:
            return self._select(candidates, routes, k=k, seeds=seeds)
        below = self._select(others(candidates, top), routes, k=k - (top >= 0).sum(axis=1), seeds=seeds)
        width = int(k.max())
        return Selection(
            above(top, top, below.index, end=-1)[:, :width],
            above(top, 1.0, below.propensities, end=0.0)[:, :width],
            below.versions,
            above(top, -1, below.teams, end=-1)[:, :width],
        )

    def _select(
        self,
        candidates: Candidates,
        routes: Sequence[Route],
        *,
        k: NDArray[np.int64],
        seeds: NDArray[np.uint64],
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
    others = other_seeds(seeds)
    one = first.select(candidates, k=k, seeds=seeds)
    two = second.select(candidates, k=k, seeds=others)
    draft = team_draft(one.index, two.index, seeds=seeds)
    propensities = draft_propensities(
        first.propensities(candidates, draft.index, seeds=seeds),
        second.propensities(candidates, draft.index, seeds=others),
    )
    propensities[draft.index < 0] = 0.0
    return Selection(draft.index, propensities, np.full(len(k), max(one.version, two.version)), draft.teams)


def _rows_of(candidates: Candidates, rows: NDArray[np.int64]) -> Candidates:
    columns = {column.name: getattr(candidates, column.name) for column in fields(candidates)}
    return Candidates(
        **cast(Any, {name: None if value is None else value[rows] for name, value in columns.items()})
    )
