"""Serving: from a request to a published slate, micro-batched, scored off the event loop."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from model_core.release.batches import ScoreBatch
from model_core.signals import co_visitation
from model_core.signals.sample_signals import SignalConfig
from online_learning.types import Candidates
from streams.events import Recommendation, Request, encode
from streams.items.table import AnyScorer, ItemTable
from streams.kafka.inputs import Inputs
from streams.kafka.log import RowPublisher
from streams.kafka.transport import RecordBatch
from streams.learning.policy_set import PolicySet
from streams.learning.routes import Route, UserView, choose
from streams.metrics import Metrics
from streams.serving.batcher import Batcher
from streams.serving.extra_candidates import ExtraCandidates, Extras, columns, score_all
from streams.serving.records import Chosen, SlateRecords
from streams.serving.rules import RuleColumns
from streams.serving.user_entities import user_entities
from streams.settings import Settings
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.why.signal_sources import SignalSources

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """A request on its way to the scorer; user_row is -1 for a user never seen."""

    request: Request
    shard: Shard
    user_row: int
    queued: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the inference thread needs of a batch: arrays only, no state.

    diverse: whether a policy reads the rules of slates, asked once a batch, for experiments come and go.
    """

    batch: ScoreBatch
    items: NDArray[np.float32]
    k: NDArray[np.int64]
    seeds: NDArray[np.uint64]
    times_ms: list[int]
    fallbacks: list[str | None]
    routes: list[Route]
    diverse: bool
    extras: Extras | None


class Server:
    """Answers requests from Kafka, from clicks and from HTTP alike.

    Parameters
    ----------
    inference : the thread that scores
    end_of_clicks : asks for the next offset to be written to a partition of `clicks`
    recommendations : full name of the topic that slates go to
    """

    def __init__(
        self,
        settings: Settings,
        *,
        shared: SharedState,
        scorer: AnyScorer,
        items: ItemTable,
        policies: PolicySet,
        inference: ThreadPoolExecutor,
        end_of_clicks: Callable[[int], Awaitable[int]],
        inputs: Inputs,
        publisher: RowPublisher,
        recommendations: str,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._scorer = scorer
        self._items = items
        self._policies = policies
        self._inputs = inputs
        self._end_of_clicks = end_of_clicks
        self._publisher = publisher
        self._recommendations = recommendations
        self._metrics = metrics
        self._batcher: Batcher[Job, Prepared, Chosen] = Batcher(
            self._prepare,
            self._run,
            executor=inference,
            max_batch=settings.max_batch,
            max_wait_ms=settings.max_wait_ms,
        )
        actions = settings.actions
        seen = set(actions if settings.seen_actions is None else settings.seen_actions)
        positive = set(settings.positive_actions)
        self._action_is_seen = np.array([name in seen for name in actions], np.bool_)
        self._action_is_positive = np.array([name in positive for name in actions], np.bool_)
        release = scorer.release
        self._signals = SignalConfig(**release.signals)
        self._rules = RuleColumns(settings, shared.catalogue)
        self._extras = ExtraCandidates(settings, shared.index, shared.catalogue)
        self._ease = items.ease
        self.sources = SignalSources(
            read=self._signals,
            length=release.history_length,
            positive=self._action_is_positive,
            covisits=shared.covisits,
            ease=self._ease,
            index=shared.index,
            history_limit=settings.history_limit,
        )
        self._records = SlateRecords(settings, shared, self.sources, model_version=release.version)
        self._release_action = np.array([release.action_code(name) for name in actions], np.int64)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._serving: dict[str, asyncio.Future[None]] = {}
        self._fresh: dict[int, asyncio.Future[int]] = {}
        self._crash: Callable[[BaseException], None] | None = None

    def start(self, crash: Callable[[BaseException], None]) -> None:
        """Begin to score; an error that the worker must not survive goes to `crash`."""
        self._crash = crash
        self._batcher.start()

    async def stop(self) -> None:
        """Cancel what is in flight."""
        for task in self._tasks:
            task.cancel()
        await self._batcher.stop()

    async def drain(self, timeout_s: float) -> None:
        """Wait for the requests in flight, but not for ever: those left over are read again."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout_s)

    @property
    def in_flight(self) -> int:
        """Requests taken and not yet answered."""
        return MAX_IN_FLIGHT - self._room._value

    # Entrances

    async def serve_batch(
        self, shard: Shard, accepted: Sequence[tuple[Request, Any]], batch: RecordBatch
    ) -> None:
        """Serve the requests of a batch; complete its offsets when all are answered."""
        remaining = len(accepted)

        async def one(request: Request, record: Any) -> None:
            nonlocal remaining
            await self.serve(request, shard, received=record.timestamp / 1000)
            remaining -= 1
            if not remaining:
                self._inputs.ledger.complete(batch.tp, batch.last_offset, batch.epoch)

        for request, record in accepted:
            await self._room.acquire()
            self._spawn(one(request, record))

    def serve_click(self, shard: Shard, request: Request, offset: int, *, received: float) -> None:
        """Serve the slate that a click asked for; its offset is held until then."""
        shard.holding.add(offset)

        async def one() -> None:
            async with self._room:
                await self.serve(request, shard, received=received)
            shard.holding.discard(offset)

        self._spawn(one(), room=False)

    def _spawn(self, work: Any, *, room: bool = True) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(task: "asyncio.Task[Any]") -> None:
            self._tasks.discard(task)
            if room:
                self._room.release()
            if not task.cancelled() and (error := task.exception()) is not None:
                assert self._crash is not None
                self._crash(error)

        task.add_done_callback(done)

    # The pipeline

    async def serve(self, request: Request, shard: Shard, *, received: float) -> Recommendation | None:
        """Answer one request and return the published record; None when its id was answered before.

        Parameters
        ----------
        received : Unix seconds at which the request entered, for the latency in the record
        """
        metrics = self._metrics
        if not shard.answered.add(request.request_id):
            metrics.count_events("requests", "duplicate")
            # Read again after a rebalance while the first is in flight: done only when that one is.
            if (first := self._serving.get(request.request_id)) is not None:
                await asyncio.shield(first)
            return None
        published = asyncio.get_running_loop().create_future()
        self._serving[request.request_id] = published
        try:
            record = await self._answer(request, shard, received)
            published.set_result(None)
        finally:
            published.cancel()
            del self._serving[request.request_id]
        return record

    async def _answer(self, request: Request, shard: Shard, received: float) -> Recommendation:
        metrics = self._metrics
        entered = time.perf_counter()
        await self.own_clicks(shard)
        metrics.observe_stage("wait", time.perf_counter() - entered)
        row = shard.profiles.row_of(request.user_id)
        chosen = await self._batcher.submit(Job(request, shard, row, time.perf_counter()))
        record = self._records.make(request, shard, row, chosen, received=received)
        await self._publish(shard, record, chosen.features)
        metrics.count_events("requests", "accepted")
        metrics.count_slates(record.policy, record.fallback)
        if record.experiment is not None:
            metrics.count_exposure(record.experiment, record.variant)
        metrics.observe_stage("request_to_publish", max(0.0, time.time() - received))
        return record

    async def own_clicks(self, shard: Shard) -> None:
        """Wait, within bounds, until the clicks acknowledged before now have been folded."""
        timeout = self._settings.read_your_writes_ms / 1000
        if not timeout:
            return
        end = await self._fresh_end(shard.partition)
        if not await shard.clicks.reached(end, timeout):
            log.warning(
                "partition %d: a request waited %.1f s for clicks up to offset %d, folded up to %d",
                shard.partition, timeout, end, shard.clicks.position,
            )  # fmt: skip

    async def _fresh_end(self, partition: int) -> int:
        """The end of a click partition, asked after now; requests that wait together ask once."""
        pending = self._fresh.get(partition)
        if pending is not None:
            # It may have been asked before this request came in: wait for it, then share the next one.
            await asyncio.shield(pending)
            pending = self._fresh.get(partition)
        if pending is None or pending.done():
            pending = asyncio.ensure_future(self._end_of_clicks(partition))
            self._fresh[partition] = pending
            pending.add_done_callback(lambda task: self._forget(partition, task))
        return await asyncio.shield(pending)

    def _forget(self, partition: int, task: "asyncio.Future[int]") -> None:
        if self._fresh.get(partition) is task:
            del self._fresh[partition]

    async def _publish(self, shard: Shard, record: Recommendation, features: NDArray[np.float32]) -> None:
        # Opened before it is out: nobody can click before, and nobody's click may find it closed.
        shard.open_slate(record, features)
        started = time.perf_counter()
        offset = await self._publisher.send(
            self._recommendations, shard.partition, record.user_id.encode(), encode(record)
        )
        self._metrics.observe_stage("publish", time.perf_counter() - started)
        self._metrics.count_events("recommendations", "published")
        shard.count_slate(record, features, offset)

    # Event loop: state in, arrays out

    def _prepare(self, jobs: Sequence[Job]) -> Prepared:
        metrics, now = self._metrics, time.perf_counter()
        metrics.observe_stages("queue", (now - job.queued for job in jobs))
        metrics.observe_score_batch(len(jobs))
        return self.prepare(jobs)

    def prepare(self, jobs: Sequence[Job]) -> Prepared:
        """What the inference thread needs of a batch, as things stand."""
        release = self._scorer.release
        items = self._items.vectors
        n, batch = len(items), len(jobs)
        history = np.full((batch, release.history_length), -1, np.int64)
        codes = np.zeros((batch, release.history_length), np.int64)
        ages = np.zeros((batch, release.history_length), np.float32)
        entities = np.zeros((batch, release.n_affinities), np.int64)
        weights = np.zeros((batch, release.n_affinities), np.float32)
        positive = np.zeros((batch, release.history_length), np.bool_)
        eligible = np.zeros((batch, n), np.bool_)
        fallbacks: list[str | None] = []
        pinned = []
        for b, job in enumerate(jobs):
            self._allow(job, eligible[b])
            pinned.append(self._extras.pinned(job.request, eligible[b]))
            fallbacks.append(self._take_out_seen(job, eligible[b]))
            if job.user_row < 0:
                continue
            rows, actions, times = job.shard.profiles.history(job.user_row, release.history_length)
            if len(rows):
                history[b, -len(rows) :] = rows
                codes[b, -len(rows) :] = self._release_action[actions]
                ages[b, -len(rows) :] = np.maximum(job.request.timestamp_ms - times, 0) / 1000
                positive[b, -len(rows) :] = self._action_is_positive[actions]
            entities[b], weights[b] = user_entities(
                release,
                self._shared.catalogue,
                self._items,
                job.shard.profiles,
                job.user_row,
                now_ms=job.request.timestamp_ms,
                half_life_ms=self._settings.affinity_half_life_ms,
            )
        signals = np.empty((batch, release.n_signals, n), np.float32)
        parts = self._shared.parts
        read = self._signals
        signals[:, 0] = co_visitation.scores(
            parts,
            history[:, -read.read_window :],
            n,
            co_visitation.history_weights(
                positive[:, -read.read_window :], read_decay=read.read_decay, read_other=read.read_other
            ),
        )
        signals[:, 1] = np.log1p(co_visitation.total_popularity(parts, n))
        if self._ease is not None:
            signals[:, 2] = self._ease.scores([self._liked(job) for job in jobs], n)
        requests = [job.request for job in jobs]
        diverse = "diverse-softmax" in self._policies.names
        seeds = np.array([self._seed(request.request_id) for request in requests], np.uint64)
        return Prepared(
            batch=ScoreBatch(
                **_inside(history, codes, ages, n),
                user_entities=entities,
                user_entity_weights=weights,
                signals=signals,
                eligible=eligible,
            ),
            items=items,
            extras=self._extras.of(
                requests, pinned, eligible, seeds, fresh=diverse and self._settings.fresh_share > 0
            ),
            k=np.array([job.request.k for job in jobs], np.int64),
            seeds=seeds,
            times_ms=[job.request.timestamp_ms for job in jobs],
            fallbacks=fallbacks,
            routes=self._policies.experiments.routes([self._view(job) for job in jobs]),
            diverse=diverse,
        )

    def _view(self, job: Job) -> UserView:
        profiles, row, user_id = job.shard.profiles, job.user_row, job.request.user_id
        return (
            UserView(user_id, profiles.events(row), profiles.attributes(row))
            if row >= 0
            else UserView(user_id)
        )

    def _liked(self, job: Job) -> NDArray[np.int64]:
        return job.shard.profiles.recent_positives(
            job.user_row, self._action_is_positive, self._settings.history_limit
        )

    def _seed(self, request_id: str) -> int:
        return int(xxhash.xxh3_64_intdigest(request_id.encode(), seed=self._settings.seed))

    def _allow(self, job: Job, out: NDArray[np.bool_]) -> None:
        """Mark the items this request may be given, whether the user has seen them or not."""
        request, index, catalogue = job.request, self._shared.index, self._shared.catalogue
        catalogue.eligible(request.timestamp_ms, out)
        self._items.only_encoded(out)
        if request.candidates is not None:
            wanted = np.zeros_like(out)
            wanted[_within(index.known_rows(request.candidates), len(out))] = True
            out &= wanted
        for relation, values in request.filters.items():
            wanted = np.zeros_like(out)
            wanted[_within(catalogue.rows_with(relation, values), len(out))] = True
            out &= wanted
        out[_within(index.known_rows(request.exclude), len(out))] = False
        if job.user_row >= 0:
            out[_within(job.shard.profiles.blocked(job.user_row), len(out))] = False

    def _take_out_seen(self, job: Job, out: NDArray[np.bool_]) -> str | None:
        """Take out what the user has seen; return why a slate is not as it should be, if it is not."""
        if job.user_row < 0:
            return self._items.fallback
        unrestricted = out.copy()
        job.shard.profiles.seen_mask(job.user_row, self._action_is_seen, out)
        if not out.any() and unrestricted.any():
            out[:] = unrestricted
            return "all_seen"
        return self._items.fallback

    # Inference thread: arrays in, arrays out

    def _run(self, prepared: Prepared) -> list[Chosen]:
        started = time.perf_counter()
        scores = score_all(self._scorer, prepared.batch, prepared.items, prepared.extras)
        scored = time.perf_counter()
        rules: dict[str, Any] = {}
        if prepared.diverse:
            rules = self._rules.of(scores.rows, prepared.items, prepared.times_ms)
        candidates = Candidates(
            scores=scores.scores,
            features=scores.features,
            valid=scores.valid,
            arms=_keys(self._shared.index.keys, scores.rows, scores.valid),
            **rules,
            **columns(prepared.extras, scores),
        )
        selection = choose(candidates, prepared.routes, k=prepared.k, seeds=prepared.seeds)
        selected = time.perf_counter()
        shadows = self._policies.shadows.propensities(candidates, selection.index, seeds=prepared.seeds)
        self._metrics.observe_stage("score", scored - started)
        self._metrics.observe_stage("policy", selected - scored)
        self._metrics.observe_stage("shadow", time.perf_counter() - selected)
        chosen = []
        for b, fallback in enumerate(prepared.fallbacks):
            index = selection.index[b][selection.index[b] >= 0]
            chosen.append(
                Chosen(
                    rows=scores.rows[b, index],
                    scores=scores.scores[b, index],
                    propensities=selection.propensities[b, : len(index)],
                    features=np.ascontiguousarray(scores.features[b, index], np.float32),
                    shadows={name: column[b, : len(index)].tolist() for name, column in shadows.items()},
                    route=prepared.routes[b],
                    teams=selection.teams[b, : len(index)],
                    policy_version=int(selection.versions[b]),
                    fallback=fallback if len(index) else "no_candidates",
                )
            )
        return chosen


def _inside(
    history: NDArray[np.int64], codes: NDArray[np.int64], ages: NDArray[np.float32], n: int
) -> dict[str, Any]:
    """Histories without rows from n on: items that were met before they were described have no vector."""
    if (history >= n).any():
        kept = (history >= 0) & (history < n)
        order = np.argsort(kept, axis=1, kind="stable")  # the rest closes up at the right end
        kept = np.take_along_axis(kept, order, axis=1)
        history = np.where(kept, np.take_along_axis(history, order, axis=1), -1)
        codes = np.take_along_axis(codes, order, axis=1) * kept
        ages = np.take_along_axis(ages, order, axis=1) * kept
    return {"history": history, "history_actions": codes, "history_age_s": ages}


def _keys(keys: NDArray[np.uint64], rows: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Keys of candidates, 0 where there is none: the row there may be of no item."""
    found = np.zeros(rows.shape, np.uint64)
    found[valid] = keys[rows[valid]]
    return found


def _within(rows: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """Rows below n: an item may be newer than the arrays of a batch."""
    return rows[rows < n]
