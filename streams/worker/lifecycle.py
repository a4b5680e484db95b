"""The life of a worker: started in order, kept busy, drained, stopped."""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict
from typing import Any

from streams.api.answers import PartitionState
from streams.durability.digest import digest
from streams.durability.flush import TURNS
from streams.durability.state_rows import FOLDED, Bucket, Kind, StateRow, copy_rows, digest_of
from streams.kafka.lags import Waiting
from streams.kafka.progress import RecentIds
from streams.kafka.startup_check import check_cluster
from streams.learning.learner import LEARN_INTERVAL_S, POSITIONS_INTERVAL_S
from streams.mapping import click_reader
from streams.releases.decider import LOOK_S
from streams.releases.follower import show_release
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard, items_of, users_of
from streams.worker.allocator import give_back
from streams.worker.assembly import Parts
from streams.worker.log_metrics import LogCounter
from streams.worker.log_watch import LOOK_INTERVAL_S
from streams.worker.loop_lag import measure_loop_lag
from streams.worker.ready_log import ReadyLog
from streams.worker.reclaimer import SWEEP_INTERVAL_S
from streams.worker.warm_kernels import compile_missing, warm

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 10.0
LAG_INTERVAL_S = 1.0
SUSPECTS_INTERVAL_S = 10.0
DEAD_ENDS_INTERVAL_S = 10.0
PACE_INTERVAL_S = 0.5
SHARES_INTERVAL_S = 2.0
READY_INTERVAL_S = 0.5
ERASURE_BYTES = 300  # that one mark takes, about


class Lifecycle:
    """Starts and stops the parts of a worker.

    Parameters
    ----------
    crash
        Called with an error that the worker must not survive: it stops without committing.
    """

    def __init__(self, parts: Parts, *, crash: Callable[[BaseException], None]) -> None:
        self._parts = parts
        self._crash = crash
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[tuple[str, int], Waiting] = {}
        self._log_counter = LogCounter(parts.metrics)

    async def start(self) -> None:
        """Check the topics, connect, and begin to follow the shared state."""
        parts, settings = self._parts, self._parts.settings
        logging.getLogger().addHandler(self._log_counter)
        parts.content.start()  # takes a while, beside the rest
        await compile_missing()
        await asyncio.gather(check_cluster(settings), asyncio.to_thread(self._warm))
        lane = parts.lanes.serving
        show_release(parts.metrics, lane)
        log.info("release %s on %s", lane.version, lane.scorer.provider)
        await self.connect()
        # What is loaded now stays for good: keep the collector from walking it again and again.
        gc.freeze()
        gc.enable()
        partitions = parts.partitions
        told = ReadyLog(partitions.is_ready, partitions.readiness, lambda: parts.lanes.serving.items.pending)
        flush_s = settings.flush_interval_ms / 1000
        self._tasks = [
            asyncio.create_task(self._every(flush_s / TURNS, parts.flusher.flush_next)),
            asyncio.create_task(self._every(LEARN_INTERVAL_S, self._learn)),
            asyncio.create_task(self._every(POSITIONS_INTERVAL_S, self._learn_positions)),
            asyncio.create_task(self._every(SWEEP_INTERVAL_S, self._sweep)),
            asyncio.create_task(self._every(SUSPECTS_INTERVAL_S, self._look_for_suspects)),
            asyncio.create_task(self._every(DEAD_ENDS_INTERVAL_S, parts.dead_ends.look)),
            asyncio.create_task(self._every(PACE_INTERVAL_S, self.pace)),
            asyncio.create_task(self._every(SHARES_INTERVAL_S, parts.erased_shares.sweep)),
            asyncio.create_task(self._every(LOOK_INTERVAL_S, parts.watch.look)),
            asyncio.create_task(self._every(LAG_INTERVAL_S, self._measure_lag)),
            asyncio.create_task(self._every(READY_INTERVAL_S, told.look)),
            asyncio.create_task(self._every(LOOK_S, self._decide)),
            asyncio.create_task(measure_loop_lag(parts.metrics.observe_loop_lag)),
        ]

    def _warm(self) -> None:
        warm()
        if self._parts.settings.sources:
            click_reader.warm()
        self._parts.lanes.serving.policies.warm()

    async def connect(self) -> None:
        """Start the parts: the worker does what it is asked, and nothing by the clock."""
        parts = self._parts
        await asyncio.gather(parts.outputs.start(), parts.ends.start())
        parts.partitions.start(self._crash)
        await parts.shared_topics.start(self._crash)
        parts.content.start()
        parts.server.start(self._crash)
        parts.lanes.serving.items.start(self._crash)
        await parts.repartitioner.start(self._crash)
        await parts.content.ready()  # from here on it may own content
        if parts.follower is not None:
            await parts.follower.start(self._crash)

    async def drain(self) -> None:
        """Answer the requests in flight, within a deadline, and flush everything."""
        self._parts.partitions.begin_to_stop()
        self._parts.server.close()
        await self._parts.server.drain(DRAIN_TIMEOUT_S)
        await self._parts.flusher.flush_all()

    async def stop(self) -> None:
        """Disconnect; call `drain` before to lose no work."""
        parts = self._parts
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await parts.partitions.stop()
        await parts.server.stop()
        await parts.repartitioner.stop()
        await parts.shared_topics.stop()
        await parts.outputs.stop()
        await parts.ends.stop()
        if parts.follower is not None:
            await parts.follower.stop()
        if parts.decider is not None:
            await parts.decider.stop()
        for lane in parts.lanes:
            await lane.items.stop()
            lane.abandon()
        parts.folding.shutdown(wait=False, cancel_futures=True)
        parts.content.close()
        logging.getLogger().removeHandler(self._log_counter)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._crash(error)
                return

    async def _sweep(self) -> None:
        # Users first: then nobody needs what only they have met.
        await self._parts.idle_users.sweep()
        await self._parts.reclaimer.sweep()
        await asyncio.to_thread(give_back)

    async def _look_for_suspects(self) -> None:
        # What has been read only now may have been counted before, in what policies have learned.
        if self._parts.partitions.is_ready():
            await self._parts.suspects.sweep()

    async def pace(self) -> None:
        """Let items with a budget take part in as many requests as their spending allows."""
        parts = self._parts
        if (budgets := parts.shared.budgets) is not None:
            budgets.pace(int(parts.clock.time() * 1000), known=not parts.partitions.incomplete())

    async def _decide(self) -> None:
        if self._parts.decider is not None:
            await self._parts.decider.look()

    async def _learn(self) -> None:
        for lane in self._parts.lanes:
            await lane.learner.learn(self._parts.partitions.live())
        serving = self._parts.lanes.serving.policies.learner
        self._parts.metrics.policy_version.set(serving.version)

    def _learn_positions(self) -> Coroutine[Any, Any, None]:
        return self._parts.lanes.serving.learner.learn_positions(self._parts.partitions.live())

    async def _measure_lag(self) -> None:
        self._parts.repartitioner.measure_lag()
        partitions, now = self._parts.partitions, time.monotonic()
        earlier, self._waiting = self._waiting, {}
        for name, partition, end in self._parts.inputs.ends():
            if not partitions.owns(partition):
                continue
            waiting = self._waiting[name, partition] = earlier.get((name, partition)) or Waiting()
            processed = partitions.processed(name, partition)
            self._parts.metrics.set_lag(
                name,
                partition,
                records=max(0, end - processed),
                seconds=waiting.seconds(now, processed=processed, end=end),
            )

    # What HTTP asks for

    def digest(self) -> dict[str, Any]:
        """Digest of the owned shards, that of the offline fold of the same clicks, and the offsets folded."""
        shards = self._parts.partitions.live()
        profiles = {shard.partition: shard.profiles for shard in shards}
        covisits = {shard.partition: shard.covisits for shard in shards}
        with items_of(shards), users_of(shards):
            return {
                "digest": digest(self._parts.shared.index, profiles, covisits),
                "clicks": {shard.partition: shard.clicks.position for shard in shards},
            }

    async def state(self, shard: Shard, kind: Kind, bucket: Bucket, *, tell_rows: bool) -> PartitionState:
        """Return the rows of a bucket of a shard, and up to where they have been applied."""
        index = self._parts.shared.index
        if kind in FOLDED:
            through, pack = await asyncio.to_thread(_copied, shard, index, kind, bucket)
        else:
            shard.learning.count_published()
            through, pack = shard.learning.rewarded_offset, copy_rows(shard, index, kind, bucket)
        # Records that were refused count as folded, too; a piece that is being folded does not yet.
        through, now = max(through, shard.seen_offset), self._parts.lanes.release
        users, shown, watermark = shard.users.position, shard.learning.recommended_offset, shard.watermark.ms
        rows = await asyncio.to_thread(pack)
        return PartitionState(
            partition=shard.partition,
            kind=kind,
            bucket=bucket.number,
            of=bucket.of,
            base=shard.logs.of("clicks"),
            clicks_offset=through,
            users_offset=users,
            recommendations_offset=shown,
            watermark_ms=watermark,
            model_version=now.version,
            feature_dim=now.feature_dim,
            signals=asdict(self._parts.signals),
            n=len(rows),
            digest=digest_of(rows),
            rows=rows if tell_rows else [],
        )

    async def render_metrics(self) -> tuple[bytes, str]:
        """Body and content type of `/metrics`, the gauges of what is held in memory being of now."""
        parts, metrics = self._parts, self._parts.metrics
        shards = parts.partitions.live()
        profiles = [shard.profiles for shard in shards]
        metrics.set_state(
            "users", rows=sum(p.n_live for p in profiles), nbytes=sum(p.nbytes for p in profiles)
        )
        catalogue, covisits, index = parts.shared.catalogue, parts.shared.parts, parts.shared.index
        metrics.set_state("index", rows=len(index), nbytes=index.nbytes)
        erasures, answered = (
            sum(len(p.erasures.marks) for p in profiles),
            sum(len(s.answered) for s in shards),
        )
        metrics.set_state("erasures", rows=erasures, nbytes=ERASURE_BYTES * erasures)
        metrics.erasures_waiting.set(sum(len(p.erasures.unsettled) for p in profiles))
        held = (mark.lasts for p in profiles for mark in p.quarantine.marks.values())
        metrics.users_held.set(sum(held))
        metrics.set_state("answered", rows=answered, nbytes=RecentIds.BYTES * answered)
        metrics.undescribed_items.set(index.n_undescribed)
        metrics.known_items.set(parts.lanes.serving.items.n_known)
        metrics.set_state("items", rows=catalogue.n_live, nbytes=catalogue.nbytes)
        metrics.set_state(
            "covisits",
            rows=sum(part.n_items for part in covisits),
            nbytes=sum(part.nbytes for part in covisits),
        )
        metrics.set_state(
            "vectors", rows=parts.eligibility.n_encoded, nbytes=sum(lane.items.nbytes for lane in parts.lanes)
        )
        metrics.pending_slates.set(sum(len(shard.slates) for shard in shards))
        metrics.pending_slates_bytes.set(sum(shard.slates.nbytes for shard in shards))
        metrics.slates_given_up.set(sum(shard.slates.evicted for shard in shards))
        metrics.waiting_requests.set(parts.server.in_flight)
        if (budgets := parts.shared.budgets) is not None:
            metrics.set_budgets(**budgets.totals(int(parts.clock.time() * 1000))._asdict())
        metrics.broker_reachable.set(parts.inputs.owned)
        parts.partitions.is_ready()  # which sets its gauge
        return await asyncio.to_thread(metrics.render)  # it takes longer than the loop may be held


def _copied(
    shard: Shard, index: ItemIndex, kind: Kind, bucket: Bucket
) -> tuple[int, Callable[[], list[StateRow]]]:
    """Copy a bucket of users or items, and the last click that has been counted into them."""
    with items_of([shard]), users_of([shard]):  # no click is counted meanwhile
        return shard.profiles.position, copy_rows(shard, index, kind, bucket)
