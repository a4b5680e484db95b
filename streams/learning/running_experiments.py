"""The experiments that a worker takes part in: followed from their topic, and who belongs to which."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.experiments.assignment import OUTSIDE, assign
from online_learning.experiments.segment import Segment
from online_learning.policies.policy import Policy
from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import Learning
from online_learning.policies.warm import warm
from online_learning.statistics.sums import Statistics
from streams.experiments.definition import (
    LIVE,
    MAX_RUNNING,
    Experiment,
    check_experiment,
    decode_experiment,
)
from streams.learning.routes import Route, UserView
from streams.metrics import Metrics
from streams.state.item_index import keys_of

log = logging.getLogger(__name__)


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

    def learn(self, statistics: Statistics, live: Policy) -> None:
        """Let the policies adopt merged statistics, but the live one, which has."""
        for policy in self.policies:
            if policy is not live:
                policy.update(statistics)

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


class RunningExperiments:
    """Sends users to the policies of experiments, and everybody else to the live one.

    A user takes part in one experiment at a time: the one started first of those that would have them, and
    comparisons before policies of a part of the users. A definition that this worker cannot run leaves its
    users with the live policy, is counted, and is logged once.

    Parameters
    ----------
    live : serves whoever is in no experiment, and the variants that say so
    create : makes a policy that learns from `learning`
    """

    def __init__(
        self, live: Policy, learning: Learning, create: Callable[[PolicySpec], Policy], metrics: Metrics
    ) -> None:
        self._live = live
        self._default = Route((live,))
        self._learning = learning
        self._create = create
        self._metrics = metrics
        self._definitions: dict[str, Experiment] = {}
        self._refused: dict[str, str] = {}
        self._running: dict[str, _Running] = {}
        self._order: tuple[_Running, ...] = ()
        self._statistics: Statistics | None = None
        self._lock = threading.Lock()  # what is learned, and who learns it, change together

    def __iter__(self) -> Iterator[Policy]:
        """The policies of the variants, the live one left out."""
        for running in self._order:
            yield from (policy for policy in running.policies if policy is not self._live)

    def update(self, statistics: Statistics) -> None:
        """Let the policies adopt merged statistics, and those of experiments to come; runs in a thread."""
        with self._lock:
            self._statistics = statistics
            policies = tuple(self)
        for policy in policies:
            policy.update(statistics)

    async def apply(self, rows: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Take in rows of `experiments`, and return when what is new has begun."""
        await self.start(self.take_in(rows))

    def take_in(self, rows: Iterable[tuple[bytes | None, bytes | None]]) -> Mapping[str, Experiment]:
        """Take in rows of `experiments`: what is stopped ends at once; return what is new, for `start`."""
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
        return started

    async def take_over(self, other: "RunningExperiments") -> None:
        """Run what another runs, or would, from now on."""
        self._definitions = dict(other._definitions)
        await self.start(dict(self._definitions))

    async def start(self, started: Mapping[str, Experiment]) -> None:
        """Let experiments begin when they are ready, unless they have been stopped by then."""
        for name, experiment in started.items():
            try:
                running = await asyncio.to_thread(self._make, experiment)
            except ValueError as error:
                self._refuse(name, error)
                self._remove(name)
                continue
            learned: Statistics | None = None
            while self._definitions.get(name) is experiment and not self._add(running, learned):
                learned = self._statistics
                assert learned is not None
                await asyncio.to_thread(running.learn, learned, self._live)

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
        check_experiment(experiment, self._learning, self._live.name)
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
            return self._live
        policy = self._create(PolicySpec.parse(text))
        warm(policy, self._learning)
        return policy

    def _add(self, running: _Running, learned: Statistics | None) -> bool:
        """Let an experiment begin; return False when its policies must learn something newer before."""
        experiment = running.experiment
        if experiment.name not in self._running and len(self._running) >= MAX_RUNNING:
            self._refuse(experiment.name, ValueError(f"running experiments must be at most {MAX_RUNNING}"))
            return True
        with self._lock:
            if learned is not self._statistics:
                return False
            self._running[experiment.name] = running
            self._sort()
        log.info("experiment %s runs: %s, share %g", experiment.name, experiment.kind, experiment.share)
        return True

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

    def routes(self, users: Sequence[UserView]) -> list[Route]:
        """Return what serves each user."""
        routes = [self._default] * len(users)
        if not self._order:
            return routes
        keys = keys_of(user.user_id for user in users)
        for running in reversed(self._order):  # the first has the last word
            for row, number in enumerate(running.assign(users, keys).tolist()):
                if number != OUTSIDE and users[row].enrolled:
                    routes[row] = running.routes[number]
        return routes
