"""A batch of requests: gathered from the state in the event loop, worked out in the inference thread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from model_core.data.batches import ScoreBatch
from model_core.signals.joint import LikedItems, joint_scores
from model_core.signals.parts import Parts, PartsReader
from model_core.signals.popularity import Popularity
from model_core.signals.reader import Drawn, Reader
from model_core.signals.trends import Trends, popularity_signal
from model_core.signals.weighing import Weigher, moments
from streams.clock import Clock
from streams.events import Request
from streams.items.table import AnyScorer, ItemTable
from streams.learning.policy_set import PolicySet
from streams.learning.routes import Route, UserView
from streams.serving.allowed_rows import Allowed, AllowedRows, Wanted
from streams.serving.eligibility import Eligibility
from streams.serving.extra_candidates import ExtraCandidates, Extras
from streams.serving.friends import Friends, FriendsItems
from streams.serving.newcomers import Newcomers
from streams.serving.user_entities import stated_entities
from streams.settings import Settings
from streams.state.people import People, gather
from streams.state.shard import Shard, users_of
from streams.state.shared import SharedState
from streams.why.signal_sources import SignalSources


@dataclass(frozen=True, slots=True)
class Job:
    """A request on its way to the scorer.

    queued : when it began to wait for a batch, of `time.perf_counter`
    """

    request: Request
    shard: Shard
    queued: float


@dataclass(frozen=True, slots=True)
class Gathered:
    """State that is read together, at one moment, in the event loop: O(events of the users).

    diverse: whether a policy reads the rules of slates, asked once a batch, for experiments come and go.
    """

    wanted: Wanted
    routes: Sequence[Route]
    diverse: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch as it is scored: arrays only, no state.

    parts, liked : what co-visits and EASE are read of
    friends : of each request what its user's friends liked
    items : (N, dim) float32; popularity : (N,) float32, what the release is told of each item's
    k : (B,) int64; seeds : (B,) uint64; times_ms : (B,) int64
    """

    people: People
    drawn: Drawn
    parts: Parts
    liked: LikedItems | None
    requests: Sequence[Request]
    batch: ScoreBatch
    items: NDArray[np.float32]
    popularity: NDArray[np.float32]
    allowed: Allowed
    k: NDArray[np.int64]
    seeds: NDArray[np.uint64]
    times_ms: NDArray[np.int64]
    routes: Sequence[Route]
    diverse: bool
    extras: Extras | None
    friends: Sequence[FriendsItems] | None


class RequestBatches:
    """Makes batches: `gather` in the event loop, then `prepare` in the inference thread.

    Parameters
    ----------
    counts_as_seen, positive : (n_actions,) bool
    weigher : what is learned online of the signals, where no release is
    """

    def __init__(
        self,
        settings: Settings,
        *,
        shared: SharedState,
        scorer: AnyScorer,
        items: ItemTable,
        eligibility: Eligibility,
        policies: PolicySet,
        sources: SignalSources,
        counts_as_seen: NDArray[np.bool_],
        positive: NDArray[np.bool_],
        weigher: Weigher | None,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._release = scorer.release
        self._items = items
        self._eligibility = eligibility
        self._policies = policies
        self._sources = sources
        self._allowed = AllowedRows(eligibility, shared.index, shared.prerequisites)
        self._extras = ExtraCandidates(
            settings,
            shared.index,
            shared.catalogue,
            Newcomers(settings, shared.index, shared.catalogue, shared.trials, clock),
        )
        self._friends = Friends(settings, shared)
        self._counts_as_seen, self._positive = counts_as_seen, positive
        self._clock = clock
        release = scorer.release
        self._reader = Reader(
            release.signals,
            history_length=release.history_length,
            n_affinities=release.n_affinities,
            n_entities=1 + len(release.entity_rows),
            codes=np.array([release.action_code(name) for name in settings.actions], np.int64),
        )
        surge = release.signals.surge_bound
        self._popularity = Popularity(surge, release.signals.read_temper)
        self._parts, self._trends = PartsReader(), Trends(surge)
        self._weigher = weigher

    # Event loop

    def gather(self, jobs: Sequence[Job]) -> Gathered:
        """Read what users have done and said, and what may be served, as things stand."""
        self._eligibility.advance(int(self._clock.time() * 1000))
        with users_of(job.shard for job in jobs):
            people = gather(
                # Here, and not before: the row of a user who is forgotten meanwhile is another's.
                [(job.shard.profiles, job.shard.profiles.row_of(job.request.user_id)) for job in jobs],
                depth=self._reader.config.depth,
                counts_as_seen=self._counts_as_seen,
                positive=self._positive,
            )
        requests = [job.request for job in jobs]
        users = [
            UserView(request.user_id, events, said.attributes, enrolled=not request.preview)
            for request, events, said in zip(requests, people.events.tolist(), people.stated, strict=True)
        ]
        postings = self._shared.catalogue.postings
        return Gathered(
            wanted=Wanted(
                requests=requests,
                people=people,
                bits=self._eligibility.bits,
                on_time=[self._eligibility.holds(request.timestamp_ms) for request in requests],
                filters=[
                    [postings(relation, values) for relation, values in request.filters.items()]
                    for request in requests
                ],
                opened=self._shared.prerequisites.opened(people.pasts),
            ),
            routes=self._policies.experiments.routes(users),
            diverse="diverse-softmax" in self._policies.names,
        )

    # Inference thread

    def prepare(self, gathered: Gathered, *, drawing: bool = True) -> Prepared:
        """Work out what the scorer and the policies are given.

        Parameters
        ----------
        drawing : items whose budgets are paced sit out requests by a coin; else only those do of which
            nothing is left
        """
        wanted, people = gathered.wanted, gathered.wanted.people
        requests, items = wanted.requests, self._items.vectors
        n = len(items)
        budgets = self._shared.budgets
        held = None
        if budgets is not None:
            names = [request.request_id for request in requests]
            held = budgets.held(names) if drawing else [budgets.spent_rows()] * len(names)
        allowed = self._allowed.of(wanted, n, fallback=self._items.fallback, held=held)
        times_ms = np.array([request.timestamp_ms for request in requests], np.int64)
        seeds = np.array([self._seed(request.request_id) for request in requests], np.uint64)
        described = self._eligibility.described(n)
        parts = self._parts.read(self._shared.parts)
        self._popularity.read(parts, n)
        drawn = self._reader.draw(people.pasts, times_ms, described=described)
        drawn = drawn._replace(window=self._popularity.weighed(drawn.window))
        liked = self._sources.liked(drawn)
        fresh = gathered.diverse and self._settings.fresh_share > 0
        friends = self._friends.of(people.stated, times_ms)
        extras = self._extras.of(
            requests, allowed, self._popularity.counts, seeds, fresh=fresh, friends=friends
        )
        batch = self._score_batch(people, drawn, parts, liked, times_ms, allowed, described, extras)
        return Prepared(
            people=people,
            drawn=drawn,
            parts=parts,
            liked=liked,
            requests=requests,
            batch=batch,
            items=items,
            popularity=batch.popularity,
            allowed=allowed,
            k=np.array([request.k for request in requests], np.int64),
            seeds=seeds,
            times_ms=times_ms,
            routes=gathered.routes,
            diverse=gathered.diverse,
            extras=extras,
            friends=friends,
        )

    def _score_batch(
        self,
        people: People,
        drawn: Drawn,
        parts: Parts,
        liked: LikedItems | None,
        times_ms: NDArray[np.int64],
        allowed: Allowed,
        described: NDArray[np.bool_],
        extras: Extras | None,
    ) -> ScoreBatch:
        signals, signal_values = joint_scores(parts, *drawn.window, self._popularity.tempers, liked)
        limited, mask = allowed.limits()
        return ScoreBatch(
            **self._reader.users(
                people.pasts, times_ms, drawn, described=described, edges=self._items.edges,
                stated=stated_entities(people.stated, self._release.entity_rows),
            ),
            popularity=popularity_signal(
                self._release.signals.horizon, self._popularity, self._trends, parts, times_ms
            ),
            signals=signals,
            signal_values=signal_values,
            eligible=allowed.eligible,
            excluded=allowed.unseen,
            limited=limited,
            limited_mask=mask,
            wanted=None if extras is None else extras.wanted,
            moments=None if self._weigher is None else moments(
                self._weigher.weights, self._trends, parts, len(described), times_ms
            ),
        )  # fmt: skip

    def _seed(self, request_id: str) -> int:
        return int(xxhash.xxh3_64_intdigest(request_id.encode(), seed=self._settings.seed))
