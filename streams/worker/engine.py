"""The engine of a worker: its shards, the shared state, and the flush that makes them durable."""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.sample_signals import SignalConfig
from online_learning.attribution.pending_slates import PendingSlates
from online_learning.attribution.rewards import Shaping
from online_learning.statistics.position_bias import POSITIONS, PositionStatistics, power_law
from online_learning.statistics.posterior import LinearPrior
from streams.decoding import Rejected
from streams.durability.digest import digest
from streams.durability.flush import Flusher
from streams.durability.restore import restore_shard
from streams.durability.rows import COVISIT_PREFIX, restore_covisits
from streams.events import MAX_SLATE, Recommendation, Request
from streams.items.content import ContentEncoder
from streams.items.table import ItemTable, load_scorer
from streams.kafka.ledger import CommitLedger
from streams.kafka.partitioner import partitions_of
from streams.kafka.publisher import Publisher
from streams.kafka.reader import TailReader, read_partition
from streams.kafka.topics import TOPICS, check_topics, topic_name, topic_partitions
from streams.learning.learner import LEARN_INTERVAL_S, POSITIONS_INTERVAL_S, Learner
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.serving.server import Server
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.state.shard import ARM_PREFIX, STATISTICS_PREFIX, Shard
from streams.why.explainer import Explainer
from streams.worker.warm_kernels import warm

log = logging.getLogger(__name__)

SHARED = ("item-state", "policy-state", "experiments")  # read by every worker, from the start
OWNER_PREFIX = b"owner\0"
DRAIN_TIMEOUT_S = 10.0
LAG_INTERVAL_S = 1.0
CATCH_UP_POLL_S = 0.05


class Engine:
    """Holds the state of a worker and everything that acts on it.

    Parameters
    ----------
    settings
    crash
        Called with an error that the worker must not survive: it stops without committing.
    """

    def __init__(self, settings: Settings, *, crash: Callable[[BaseException], None]) -> None:
        self.settings = settings
        self.crash = crash
        self.metrics = Metrics()
        self.action_codes = {name: code for code, name in enumerate(settings.actions)}
        self.positive = frozenset(settings.positive_actions)
        self.index = ItemIndex()
        self.catalogue = Catalogue(self.index)
        self.inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self.scorer = load_scorer(settings)
        self.items = ItemTable(self.index, self.catalogue, self.scorer, self.inference)
        self.content = ContentEncoder(settings, self.scorer)
        release = self.scorer.release
        prior = LinearPrior(
            release.prior_weights.astype(np.float64),
            precision=settings.prior_precision,
            # Sums of responses and sums of rewards must not be added.
            feature_space=release.version + ("/reward" if settings.learn_from == "reward" else ""),
        )
        self.policies = PolicySet(settings, prior, self.metrics)
        self.learner = Learner(self.policies, self.live_shards, self.metrics)
        given = 0.0 if settings.position_bias == "learned" else settings.position_bias
        self.examination = power_law(given, MAX_SLATE)
        self.metrics.set_examination(self.examination[:POSITIONS])
        self.covisits = {p: self._new_covisits() for p in range(settings.partitions)}
        self.shards: dict[int, asyncio.Task[Shard]] = {}
        self.publisher = Publisher(settings)
        self.ledger = CommitLedger()
        self.server = Server(self)
        self.explainer = Explainer(self)
        self.flusher = Flusher(self)
        self._topics = {name: topic_name(settings, name) for name in TOPICS}
        self._consumer: Any = None
        self._owners: dict[int, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._reader = TailReader(
            settings,
            {self.topic(name): topic_partitions(settings, name) for name in SHARED},
            self._on_shared_records,
        )
        self.url: str | None = settings.advertised_url
        self._caught_up = False
        self._catching_up: asyncio.Task[None] | None = None
        self._applying: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()

    def topic(self, name: str) -> str:
        """Full name of a topic."""
        return self._topics[name]

    # Lifecycle

    async def start(self) -> None:
        """Check the topics, connect, and begin to follow the shared state."""
        await asyncio.to_thread(check_topics, self.settings)
        await asyncio.to_thread(self.policies.warm)
        await asyncio.to_thread(warm)  # ten seconds the first time on a machine, one afterwards
        release = self.scorer.release
        self.metrics.set_release(release.version, self.scorer.provider)
        log.info("release %s on %s", release.version, self.scorer.provider)
        await self.publisher.start()
        # Before the first request: a user of a variant must not be served by the live policy in between.
        async for records in read_partition(self.settings, self.topic("experiments"), 0):
            await self.policies.experiments.apply((record.key, record.value) for record in records)
        await self._reader.start()
        self.content.start()
        self.server.start()
        self.items.start(self.crash)
        # What is loaded now stays for good: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        loops = (
            (self.flusher.flush_due, self.settings.flush_interval_ms / 1000),
            (self.learner.learn, LEARN_INTERVAL_S),
            (self.learner.learn_positions, POSITIONS_INTERVAL_S),
            (self._measure_lag, LAG_INTERVAL_S),
        )
        self._tasks = [asyncio.create_task(self._every(seconds, work)) for work, seconds in loops]
        self._reader.task.add_done_callback(self._crash_on_error)

    async def stop(self) -> None:
        """Disconnect; call `drain` before to lose no work."""
        tasks = [*self._tasks, *([self._catching_up] if self._catching_up else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.server.stop()
        await self.items.stop()
        await self._reader.stop()
        await self.publisher.stop()
        self.inference.shutdown(wait=False, cancel_futures=True)
        self.content.close()

    async def drain(self) -> None:
        """Answer the requests in flight, within a deadline, and flush everything."""
        await self.server.drain(DRAIN_TIMEOUT_S)
        await self.flush()

    def attach(self, consumer: Any) -> None:
        """Use the consumer's ledger and offsets."""
        self._consumer = consumer
        self.ledger = consumer.ledger

    async def _every(self, seconds: float, work: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.crash(error)
                return

    def _crash_on_error(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    # Shards

    async def assign(self, partitions: set[int]) -> None:
        """Own exactly these partitions: keep those owned already, restore the new ones, drop the rest."""
        for partition in self.shards.keys() - partitions:
            self._drop(partition)
        for partition in partitions - self.shards.keys():
            task = asyncio.create_task(self._restore(partition))
            task.add_done_callback(self._crash_on_error)
            self.shards[partition] = task
            self._reader.pause(self.topic("policy-state"), partition)  # it would read what it writes
        self.metrics.assigned_partitions.set(len(partitions))
        self._caught_up = not partitions
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._catching_up = asyncio.create_task(self._catch_up(set(partitions)))
        self._catching_up.add_done_callback(self._crash_on_error)
        if self.url is not None:
            await self.publisher.publish_all(
                (
                    self.topic("policy-state"),
                    partition,
                    (OWNER_PREFIX + partition.to_bytes(2, "big"), self.url.encode()),
                )
                for partition in partitions
            )

    def _drop(self, partition: int) -> None:
        task = self.shards.pop(partition)
        task.cancel()
        if task.done() and not task.cancelled() and task.exception() is None:
            self.learner.keep(task.result())
        self._reader.resume(self.topic("policy-state"), partition)
        for name in ("clicks", "users", "requests", "content"):
            self.metrics.drop_lag(name, partition)

    async def _restore(self, partition: int) -> Shard:
        started = time.perf_counter()
        shard = await restore_shard(self, partition)
        self.covisits[partition] = shard.covisits
        self.learner.drop(partition)
        seconds = time.perf_counter() - started
        self.metrics.restore_seconds.set(seconds)
        self.metrics.observe_stage("restore", seconds)
        log.info("partition %d restored in %.2f s", partition, seconds)
        return shard

    async def shard(self, partition: int) -> Shard:
        """Return the shard of an owned partition, once it is restored."""
        return await asyncio.shield(self.shards[partition])

    def live_shards(self) -> list[Shard]:
        """Shards restored and owned."""
        return [
            task.result()
            for _, task in sorted(self.shards.items())
            if task.done() and not task.cancelled() and task.exception() is None
        ]

    def new_shard(self, partition: int) -> Shard:
        """An empty shard."""
        settings = self.settings
        return Shard(
            partition=partition,
            profiles=Profiles(
                partition,
                history_limit=settings.history_limit,
                actions=tuple(settings.actions),
                positive=self.positive,
            ),
            covisits=self._new_covisits(),
            statistics=self.policies.learning.empty(),
            model_version=self.scorer.release.version,
            slates=PendingSlates(
                window_ms=settings.attribution_window_ms,
                shaping=Shaping(settings.actions, settings.dwell_half_ms, settings.attribution_windows_ms),
                lateness_ms=settings.allowed_lateness_ms,
            ),
            learn_from=settings.learn_from,
            cascade=settings.click_model == "cascade",
            positions=PositionStatistics() if settings.position_bias == "learned" else None,
            examination=self.examination,
        )

    def _new_covisits(self) -> CoVisitation:
        """Counts made as the release's training made them."""
        signals = SignalConfig(**self.scorer.release.signals)
        return CoVisitation(
            neighbours=self.settings.covisit_neighbours,
            window=signals.window,
            pair_decay=signals.pair_decay,
            pair_other=signals.pair_other,
        )

    async def positioned(self) -> None:
        """Wait until the consumer knows from where it reads."""
        await self._consumer.positioned.wait()

    def start_offset(self, name: str, partition: int) -> int:
        """Offset from which this worker reads a topic's partition: the committed one."""
        return int(self._consumer.start_offsets.get((self.topic(name), partition), 0))

    # Ownership

    def owns(self, partition: int) -> bool:
        """Whether this worker answers for a partition."""
        return partition in self.shards

    def owner_url(self, partition: int) -> str | None:
        """Where the owner of a partition is reached, as it announced itself."""
        url = self._owners.get(partition)
        return None if url == self.url else url

    def readiness(self) -> dict[str, Any]:
        """Return what readiness consists of."""
        return {
            "catalogue_caught_up": self._reader.caught_up.is_set(),
            "topics_caught_up": self._caught_up,
            "items_encoded": self.items.pending == 0,
            "partitions": len(self.shards),
            "partitions_restored": len(self.live_shards()),
        }

    def is_ready(self) -> bool:
        """Whether state is restored and caught up."""
        state = self.readiness()
        ready = (
            state["catalogue_caught_up"]
            and state["topics_caught_up"]
            and state["items_encoded"]
            and 0 < state["partitions"] == state["partitions_restored"]
        )
        self.metrics.ready.set(ready)
        return bool(ready)

    async def _catch_up(self, partitions: set[int]) -> None:
        """Be ready once everything that the topics held at the assignment has been folded."""
        ends = {
            name: await self._reader.end_offsets(self.topic(name), sorted(partitions))
            for name in ("clicks", "users", "content")
        }
        while not all(
            self._folded(name, partition) >= end
            for name, of_partition in ends.items()
            for partition, end in of_partition.items()
            if partition in self.shards
        ):
            await asyncio.sleep(CATCH_UP_POLL_S)
        # What was folded of content comes back as item-state.
        shown = await self._reader.end_offsets(self.topic("item-state"), sorted(partitions))
        while any(
            self._reader.position(self.topic("item-state"), partition) < end
            for partition, end in shown.items()
        ):
            await asyncio.sleep(CATCH_UP_POLL_S)
        self._caught_up = True

    def _folded(self, name: str, partition: int) -> int:
        """The next offset to fold of an input topic, 0 while its shard is being restored."""
        task = self.shards[partition]
        if not task.done() or task.cancelled() or task.exception() is not None:
            return 0
        shard = task.result()
        if name == "content":
            done = self.ledger.position((self.topic(name), partition))
            return max(done, self.start_offset(name, partition))
        return shard.clicks.position if name == "clicks" else shard.users.position

    # Shared state

    def _on_shared_records(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        if topic == self.topic("item-state"):
            changed = self.catalogue.apply(records)
            self.metrics.count_events("item-state", "accepted", len(records))
            self.items.refresh(changed)
            return
        if topic == self.topic("experiments"):
            task = asyncio.create_task(
                self.policies.experiments.apply([(row.key, row.value) for row in records])
            )
            self._applying.add(task)
            task.add_done_callback(self._applying.discard)
            task.add_done_callback(self._crash_on_error)
            return
        covisits: list[tuple[bytes, bytes | None]] = []
        for record in records:
            if record.key.startswith(OWNER_PREFIX):
                self._owners[partition] = (record.value or b"").decode()
            elif partition in self.shards:
                continue
            elif record.key.startswith(COVISIT_PREFIX):
                covisits.append((record.key, record.value))
            elif record.key.startswith(STATISTICS_PREFIX):
                self.learner.on_statistics(partition, record.value)
            elif record.key.startswith(ARM_PREFIX):
                self.learner.on_arm(partition, record.value)
        if covisits:
            restore_covisits(self.covisits[partition], self.index, covisits)

    async def end_of_clicks(self, partition: int) -> int:
        """The next offset to be written to a click partition, asked of the broker."""
        return (await self._reader.end_offsets(self.topic("clicks"), [partition]))[partition]

    # Entrances and exits

    async def flush(self) -> None:
        """Publish every dirty row and complete the offsets they cover."""
        await self.flusher.flush_all()

    async def dead_letter(self, name: str, rejected: Sequence[Rejected]) -> None:
        """Publish refused records with their reasons; returns once the broker has them."""
        if not rejected:
            return
        await self.publisher.publish(self.topic("dead-letters"), 0, [bad.dead_letter() for bad in rejected])
        for bad in rejected:
            self.metrics.count_dead_letters(name, bad.reason)
        first = rejected[0]
        log.warning(
            "%d record(s) of %s to dead-letters; the first, partition %d offset %d: %s",
            len(rejected), name, first.record.partition, first.record.offset, first.error,
        )  # fmt: skip

    async def serve(self, request: Request, partition: int, *, received: float) -> Recommendation | None:
        """Answer a request; None when its id has been answered before."""
        return await self.server.serve(request, await self.shard(partition), received=received)

    def check_partition(self, name: str, partition: int, user_ids: Sequence[str]) -> None:
        """Count users whose key belongs to another partition, and say once what to set."""
        homes = partitions_of(user_ids, self.settings.partitions)
        wrong = int(np.count_nonzero(homes != partition))
        if not wrong:
            return
        self.metrics.count_wrong_partition(name, wrong)
        if name not in self._warned:
            self._warned.add(name)
            log.warning(
                "%s: users on partitions that their key does not hash to. Set the producer's partitioner to "
                "murmur2 (librdkafka: partitioner=murmur2_random) and keep %d partitions on every user-keyed "
                "topic; until then such a user's profile is split.",
                name, self.settings.partitions,
            )  # fmt: skip

    def digest(self) -> str:
        """Digest of the owned shards: that of the offline fold of the same clicks."""
        shards = self.live_shards()
        return digest(
            self.index,
            {shard.partition: shard.profiles for shard in shards},
            {shard.partition: shard.covisits for shard in shards},
        )

    # Metrics

    async def _measure_lag(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        names = {full: name for name, full in self._topics.items()}
        for tp in consumer.assignment():
            end, read = consumer.highwater(tp), consumer.read_offset(tp)
            if end is not None and tp.topic in names:
                self.metrics.set_lag(names[tp.topic], tp.partition, max(0, end - (read or 0)))

    def observe_state(self) -> None:
        """Refresh the gauges of what is held in memory."""
        shards = self.live_shards()
        profiles = [shard.profiles for shard in shards]
        self.metrics.set_state(
            "users", rows=sum(p.n_live for p in profiles), nbytes=sum(p.nbytes for p in profiles)
        )
        self.metrics.set_state("items", rows=self.catalogue.n_live, nbytes=self.catalogue.nbytes)
        self.metrics.set_state(
            "covisits",
            rows=sum(part.n_items for part in self.covisits.values()),
            nbytes=sum(part.nbytes for part in self.covisits.values()),
        )
        self.metrics.set_state("vectors", rows=self.items.encoded, nbytes=self.items.nbytes)
        self.metrics.pending_slates.set(sum(len(shard.slates) for shard in shards))
        self.metrics.waiting_requests.set(self.server.in_flight)
        self.is_ready()
