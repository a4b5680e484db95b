"""A Faust transport whose stream items are whole partition batches.

Registered under the entry-point group `faust.transports` for URLs `kafka-batch://host:port`. Faust keeps
the consumer group, the assignment, agents, timers and the web server; an item of a stream is a
`RecordBatch`: every record fetched of one partition, undecoded. Batches are acknowledged through the
consumer's `CommitLedger`, never by the stream (use `stream.noack()`).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import aiokafka
import faust
from aiokafka import OffsetAndMetadata
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.utils.futures import maybe_set_exception, maybe_set_result

from streams.errors import BrokerError
from streams.kafka.column_fetch import fetch_columns, fetch_in_turn, read_last, wait_longer
from streams.kafka.columns import RecordColumns
from streams.kafka.consumer_mends import commit_without_deleted
from streams.kafka.fetch_codec import ReadEnds
from streams.kafka.lease import Lease
from streams.kafka.ledger import CommitLedger
from streams.kafka.pace import Pace
from streams.kafka.standing import Standing, ask_standing

log = logging.getLogger(__name__)
SERVICES = logging.getLogger("faust.services")
"""Tells that parts of Faust start and stop, which is nothing to an operator."""

# A fetch asks for the partitions that are drained at that moment and stays open up to this long when
# they are empty, while those that fill meanwhile wait for it: so it must be short.
FETCH_MAX_WAIT_MS = 50
# One that asks for all of them holds nothing up but a rebalance, which asks over the same connection.
DRAINED_MAX_WAIT_MS = 200
POLL_TIMEOUT_S = 1.0
# A poll does not notice that a full buffer has room again: while one is full, polls are short.
FULL_POLL_S = 0.01
SEEK_TIMEOUT_S = 60.0  # less than Faust waits
# How often a poll without records looks whether the position has moved all the same.
SILENCE_S = 0.05


class Membership(NamedTuple):
    """Who this worker is to its group, and in which generation; -1 once the group has forgotten it."""

    member_id: str
    generation: int

    def follows(self, earlier: "Membership | None") -> bool:
        """Whether nobody else can have owned anything between the earlier membership and this one."""
        return (
            earlier is not None
            and self.member_id == earlier.member_id
            and self.generation == earlier.generation + 1
        )


class RecordBatch:
    """Records of one partition in offset order, and how far they reach.

    Attributes
    ----------
    tp : TP
    records : RecordColumns, or any sequence of records
        Empty where the log holds nothing but the end of a transaction, or what one took back.
    last_offset : int
        Last offset covered: that of the last record, or of what follows it and stands for no record.
    epoch : int
        The ledger's epoch: a batch of an older one must be dropped, its records are read again.
    """

    __slots__ = ("epoch", "last_offset", "records", "tp")

    def __init__(self, tp: TP, records: Sequence[Any], last_offset: int, epoch: int) -> None:
        self.tp = tp
        self.records = records
        self.last_offset = last_offset
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.records)


_NOTHING = RecordColumns.of([])


class BatchSchema(faust.Schema[Any, Any]):
    """Hands a `RecordBatch` through Faust's decoding untouched."""

    def loads_key(self, app: Any, message: Message, **options: Any) -> Any:
        """Return nothing: keys belong to the records."""
        return None

    def loads_value(self, app: Any, message: Message, **options: Any) -> Any:
        """Return the batch itself."""
        return message.value


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer, set up for batches and co-partitioning.

    Attributes
    ----------
    positions : dict of TP to int
        Where the consumer stood when the last fetch returned: the next offset of each partition.
    """

    logger = SERVICES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._close_thread_loop_on_stop = True  # nobody else has it
        self.positions: dict[TP, int] = {}
        self._states: list[tuple[TP, Any]] = []
        self._states_of: Any = None
        self._fetches: set[asyncio.Task[None]] = set()
        self._marks: dict[str, str] = {}

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        # Range assignment gives partition p of every topic to the same worker: a shard needs them all.
        self._assignor = RangePartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=None,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            check_crcs=conf.broker_check_crcs,
            isolation_level="read_committed",  # what a producer takes back was never said
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:
        """Ask the thread for what it has fetched: without the queue that other calls to it go through."""
        promise: asyncio.Future[RecordMap] = self.parent_loop.create_future()
        self.thread_loop.call_soon_threadsafe(self._begin_fetch, promise, active_partitions, timeout)
        return await promise

    def _begin_fetch(
        self, promise: "asyncio.Future[RecordMap]", active_partitions: set[TP] | None, timeout: float
    ) -> None:
        async def fetch() -> None:
            try:
                found = await self._fetch_records(self._ensure_consumer(), active_partitions, timeout)
            except BaseException as error:
                self.parent_loop.call_soon_threadsafe(maybe_set_exception, promise, error)
            else:
                self.parent_loop.call_soon_threadsafe(maybe_set_result, promise, found)

        task = asyncio.ensure_future(fetch())
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> RecordMap:
        """Return what has been fetched; also when nothing has but a position has moved.

        The end of a transaction takes an offset and is no record: aiokafka passes it in silence, and whoever
        waits for the end of the log would wait for ever.
        """
        deadline = time.monotonic() + (timeout or 0.0)
        while True:
            left = max(0.0, deadline - time.monotonic())
            records: RecordMap = await super()._fetch_records(
                consumer, cast(Any, active_partitions), timeout=min(left, SILENCE_S), max_records=max_records
            )
            before, self.positions = self.positions, self._positions_of(consumer)
            if records:
                self._pace.found(sum(len(fetched) for (fetched,) in records.values()))
            if records or self.positions != before or left <= SILENCE_S:
                return records

    def _positions_of(self, consumer: aiokafka.AIOKafkaConsumer) -> dict[TP, int]:
        """Next offset to fetch of each assigned partition, of those that have one."""
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is not self._states_of:
            self._states_of, self._states = assignment, []
            if assignment is not None:
                states = ((tp, assignment.state_value(tp)) for tp in assignment.tps)
                self._states = [(TP(tp.topic, tp.partition), state) for tp, state in states]
        return {tp: state.position for tp, state in self._states if state.has_valid_position}

    @property
    def _pace(self) -> Pace:
        return cast(Consumer, self.consumer).pace

    async def on_start(self) -> None:
        """Start to consume, in columns; every answer of the group renews the lease."""
        await super().on_start()
        fetch_columns(self._ensure_consumer())
        wait_longer(self._ensure_consumer(), DRAINED_MAX_WAIT_MS)
        fetch_in_turn(self._ensure_consumer(), self._pace.turn)
        if (last := getattr(self.app, "read_last", None)) is not None:
            read_last(self._ensure_consumer(), last)
        self._mark_commits()
        commit_without_deleted(self._ensure_consumer())
        lease = cast(Consumer, self.consumer).lease
        coordinator = self._ensure_consumer()._coordinator
        heartbeat, rejoin = coordinator._do_heartbeat, coordinator._do_rejoin_group

        async def renewing_heartbeat() -> bool:
            asked = lease.now()
            answered: bool = await heartbeat()
            if answered:
                lease.renew(asked)
            elif coordinator.generation < 0:
                lease.end()
            return answered

        async def renewing_rejoin(subscription: Any) -> bool:
            asked = lease.now()
            joined: bool = await rejoin(subscription)
            if joined:
                lease.renew(asked)
            return joined

        def crash(error: BaseException) -> Any:
            log.critical("the group refuses this worker: %r", error)
            self.app.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self.app.crash(error)))
            return push_error(error)

        push_error = coordinator._push_error_to_user
        # aiokafka tells nobody when the group has last answered, and of what the group refuses for good it
        # tells only who polls, which nobody does without partitions.
        coordinator._do_heartbeat, coordinator._do_rejoin_group = renewing_heartbeat, renewing_rejoin
        coordinator._push_error_to_user = crash

    def _mark_commits(self) -> None:
        """Say with each committed offset of which log it is."""
        consumer = self._ensure_consumer()
        commit = consumer.commit

        async def marked(offsets: Mapping[Any, OffsetAndMetadata]) -> None:
            await commit(
                {
                    tp: OffsetAndMetadata(at.offset, self._marks.get(tp.topic, ""))
                    for tp, at in offsets.items()
                }
            )

        consumer.commit = marked

    async def standing(self, depends: Mapping[str, Sequence[str]], also: Sequence[str]) -> Standing:
        """Ask where the assigned partitions stand.

        Parameters
        ----------
        depends : by topic, those that a committed offset of it depends on
        also : topics whose ids are wanted, too
        """
        found: Standing = await self.call_thread(ask_standing, self._ensure_consumer(), depends, also)
        self._marks = found.marks
        return found

    async def seek_to(self, positions: Mapping[TP, int]) -> None:
        """Read from these offsets on."""
        await self.call_thread(self._seek_to, positions)

    async def _seek_to(self, positions: Mapping[TP, int]) -> None:
        for tp, offset in positions.items():
            self._ensure_consumer().seek(driver.ensure_aiokafka_TP(tp), offset)

    def rejoin(self) -> None:
        """Join the group again; the present assignment ends as at any rebalance."""
        coordinator = self._ensure_consumer()._coordinator
        self.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    def knows(self, topic: str) -> bool:
        """See `Consumer.knows`."""
        return self._ensure_consumer()._client.cluster.partitions_for_topic(topic) is not None

    @property
    def membership(self) -> Membership:
        """See `Consumer.membership`."""
        coordinator = self._ensure_consumer()._coordinator
        return Membership(coordinator.member_id, coordinator.generation)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's stall detector counts messages, ours are batches (see the lag metric)."""


class Topics(Protocol):
    """What the application says of the topics, and is told of them.

    Attributes
    ----------
    depends : by input topic, those that its committed offsets depend on: they say of which logs they are
    located : topics whose ids are asked for, beside
    """

    depends: Mapping[str, Sequence[str]]
    located: Sequence[str]

    def trimmed(self, topic: str, partition: int, records: int) -> None:
        """Tell that records were gone before they were read."""

    def cut(self, topic: str, partition: int) -> None:
        """Tell that a log ends before where it has been read to; everything is to be taken up again."""


class Consumer(driver.Consumer):
    """Faust's aiokafka consumer, delivering `RecordBatch`es and committing by ledger."""

    logger = SERVICES
    ledger: CommitLedger
    #: Offsets from which each assigned partition is read: the committed ones. Known once `positioned`.
    start_offsets: dict[TP, int]
    #: Those of which none was committed.
    unread: set[TP]
    #: Where each ended then: the next offset to be written.
    end_offsets: dict[TP, int]
    positioned: asyncio.Event
    #: Ids of the topics, as of then; empty until then.
    log_ids: dict[str, str]
    #: Valid as long as the group has answered within its session.
    lease: Lease
    pace: Pace
    #: Told where partitions ended, once for each response with records.
    told_ends: Callable[[ReadEnds], object]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ledger = CommitLedger()
        self.start_offsets = {}
        self.unread = set()
        self.end_offsets = {}
        self.positioned = asyncio.Event()
        self.log_ids = {}
        self.lease = Lease(self.app.conf.broker_session_timeout)
        self.pace = Pace()
        self.told_ends = lambda ends: None

    @property
    def membership(self) -> Membership:
        """Who this worker is to its group now."""
        return cast(BatchConsumerThread, self._thread).membership

    def knows(self, topic: str) -> bool:
        """Whether brokers have told the consumer of a topic: what was made just now it sees a while later."""
        return cast(BatchConsumerThread, self._thread).knows(topic)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        of_its_kind = type(self.loop)()  # as quick as ours
        return BatchConsumerThread(self, loop=self.loop, thread_loop=of_its_kind, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Deliver batches until the fetcher stops: one queue item per fetched partition."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if self._buffered_partitions and not self._get_active_partitions():
                    await asyncio.sleep(FULL_POLL_S)
                    continue
                timeout = FULL_POLL_S if self._buffered_partitions else POLL_TIMEOUT_S
                generation = self.app.consumer_generation_id
                records, active = await self._wait_next_records(timeout)
                if records is not None and not self.should_stop:
                    await self._deliver(records, active, generation)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _deliver(self, records: RecordMap, active: set[TP] | None, fetched_in: int) -> None:
        generation = self.app.consumer_generation_id
        if not self.flow_active:
            # Fetched just before a rebalance stopped the flow: nobody will process these records.
            if records:
                with contextlib.suppress(KafkaError):  # taken away meanwhile: the rebalance seeks itself
                    await self.perform_seek()
            return
        # A rebalance since the fetch has moved the positions: then only records count.
        positions = cast(BatchConsumerThread, self._thread).positions if fetched_in == generation else {}
        by_partition = {TP(tp.topic, tp.partition): fetched for tp, (fetched,) in records.items()}
        for ends in {id(fetched.ends): fetched.ends for fetched in by_partition.values()}.values():
            self.told_ends(cast(ReadEnds, ends))
        for tp in by_partition.keys() | positions.keys():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            fetched = by_partition.get(tp, _NOTHING)
            # A seek may deliver records a second time: keep what lies at or after the read position.
            position = self._read_offset[tp] or 0
            if len(fetched) and fetched.offsets[0] < position:
                if (self.highwater(tp) or 0) < position and self.positioned.is_set():
                    # Where it read on there is nothing any more, so aiokafka has gone to the beginning.
                    self._topics.cut(tp.topic, tp.partition)
                    return
                fetched = fetched.since(position)
            last = max(int(fetched.offsets[-1]) if len(fetched) else -1, positions.get(tp, 0) - 1)
            if last < position:
                continue
            if len(fetched) and fetched.offsets[0] > position:
                self.add_future(self._look_for_trimming(tp, position, int(fetched.offsets[0])))
            epoch = self.ledger.open(tp, last)
            self._read_offset[tp] = last + 1
            await self.callback(self._batch_message(RecordBatch(tp, fetched, last, epoch), generation))

    @staticmethod
    def _batch_message(batch: RecordBatch, generation: int) -> ConsumerMessage:
        newest = batch.records[-1] if len(batch) else None
        return ConsumerMessage(
            topic=batch.tp.topic,
            partition=batch.tp.partition,
            offset=batch.last_offset,
            timestamp=newest.timestamp / 1000 if newest else time.time(),
            timestamp_type=newest.timestamp_type if newest else 0,
            headers=None,
            key=None,
            value=cast(Any, batch),
            checksum=None,
            tp=batch.tp,
            generation_id=generation,
        )

    def ack(self, message: Message) -> bool:
        """Do nothing: batches are completed through the ledger."""
        return False

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return (tp for tp in self.ledger if topics is None or tp in topics or tp[0] in topics)

    async def _commit_tps(self, tps: Iterable[TP], start_new_transaction: bool) -> bool:
        processed = {tp: offset for tp in tps if (offset := self.ledger.committable(tp)) is not None}
        if not processed:  # as when it stops before it has begun: then there is no consumer to ask, either
            return False
        assignment = self.assignment()
        offsets = {tp: offset for tp, offset in processed.items() if tp in assignment}
        if not offsets:
            return False
        committed = await self._commit(cast(Mapping[TP, int], offsets))
        if committed:
            self.ledger.mark_committed(cast(Any, offsets))
            self._committed_offset.update(offsets)
        return bool(committed)

    async def perform_seek(self) -> None:
        """Go back to the committed offsets; what is open beyond them will be read again.

        The worker ends where the brokers do not say in time how far the partitions go: Faust would give up to
        assign anything then, without a word.

        Raises
        ------
        BrokerError
            In that case.
        """
        thread = cast(BatchConsumerThread, self._thread)
        try:
            async with asyncio.timeout(SEEK_TIMEOUT_S):
                standing = await thread.standing(self._topics.depends, self._topics.located)
        except TimeoutError:
            error = BrokerError(
                f"the brokers have not said within {SEEK_TIMEOUT_S:.0f} s where this worker's partitions "
                "begin and end: one without a leader? (`kafka-topics.sh --describe --unavailable-partitions`)"
            )
            await self.app.crash(error)
            raise error from None
        starts = standing.starts(self._topics.trimmed)
        await thread.seek_to(starts)
        self.ledger.forget(list(self.ledger))
        for tp, offset in starts.items():
            self.start_offsets[tp] = offset
            self._read_offset[tp] = self._committed_offset[tp] = offset or None
        self.log_ids, self.unread, self.end_offsets = standing.ids, standing.unread(), standing.ends
        self.positioned.set()

    @property
    def _topics(self) -> "Topics":
        return cast(Topics, self.app)

    def rejoin(self) -> None:
        """Take up everything again, as a member does that has just joined."""
        self.log_ids = {}
        self.positioned.clear()
        cast(BatchConsumerThread, self._thread).rejoin()

    async def _look_for_trimming(self, tp: TP, expected: int, found: int) -> None:
        """Tell what was trimmed away before it was read; other gaps are of compaction and transactions."""
        with contextlib.suppress(KafkaError, IllegalStateError):
            earliest = await self._thread.earliest_offsets(driver.ensure_aiokafka_TP(tp))
            begin = min(found, *(int(offset) for offset in earliest.values()))
            if begin > expected:
                self._topics.trimmed(tp.topic, tp.partition, begin - expected)

    def read_offset(self, tp: TP) -> int | None:
        """The next offset to be delivered, once known."""
        return self._read_offset[tp]

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the application flush and commit, then forget what is open."""
        await super().on_partitions_revoked(revoked)
        self.ledger.forget(revoked)
        self.log_ids = {}
        self.positioned.clear()


class Transport(driver.Transport):
    """`kafka-batch://`: see the module."""

    Consumer: ClassVar[type[Consumer]] = Consumer
