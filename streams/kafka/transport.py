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
from typing import Any, ClassVar, Protocol, cast

from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message

from streams.errors import BrokerError
from streams.kafka.columns import RecordColumns
from streams.kafka.consumer_thread import SERVICES, BatchConsumerThread, Membership
from streams.kafka.fetch_codec import ReadEnds
from streams.kafka.group_offsets import GroupOffsets
from streams.kafka.lease import Lease
from streams.kafka.ledger import CommitLedger
from streams.kafka.pace import Pace
from streams.kafka.record_batch import RecordBatch

log = logging.getLogger(__name__)

POLL_TIMEOUT_S = 1.0
# A poll does not notice that a full buffer has room again: while one is full, polls are short.
FULL_POLL_S = 0.01
OFFSETS_TIMEOUT_S = 30.0  # of a broker that answers, twice

_NOTHING = RecordColumns.of([])


class Topics(Protocol):
    """The application's side of topics: callbacks and facts about them.

    Attributes
    ----------
    depends : by input topic, those that its committed offsets depend on: they say of which logs they are
    located : topics whose ids are asked for, beside
    """

    depends: Mapping[str, Sequence[str]]
    located: Sequence[str]

    def trimmed(self, topic: str, partition: int, records: int) -> None:
        """Tell that records were gone before they were read."""

    def damaged(self, topic: str, partition: int, first: int, after: int) -> None:
        """Tell that records from an offset to before another cannot be read; called in another thread."""

    def cut(self, topic: str, partition: int) -> None:
        """Tell that a log ends before where it has been read to; everything is to be taken up again."""

    async def brokers_answer(self) -> bool:
        """Tell whether a broker answers at all."""


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

    def __init__(self, transport: "Transport", *args: Any, **kwargs: Any) -> None:
        self.lease = Lease(transport.app.conf.broker_session_timeout)
        self.pace = Pace()
        super().__init__(transport, *args, **kwargs)  # which makes the thread
        self.ledger = CommitLedger()
        self.start_offsets = {}
        self.unread = set()
        self.end_offsets = {}
        self.positioned = asyncio.Event()
        self.log_ids = {}
        self.told_ends = lambda ends: None
        self._rebalances = 0  # begun

    @property
    def membership(self) -> Membership:
        """Membership of this worker in its group."""
        return cast(BatchConsumerThread, self._thread).membership

    def knows(self, topic: str) -> bool:
        """Whether brokers have told the consumer of a topic: what was made just now it sees a while later."""
        return cast(BatchConsumerThread, self._thread).knows(topic)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        of_its_kind = type(self.loop)()  # as quick as ours
        return BatchConsumerThread(
            self,
            loop=self.loop,
            thread_loop=of_its_kind,
            beacon=self.beacon,
            lease=self.lease,
            pace=self.pace,
        )

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
            return  # fetched just before a rebalance stopped the flow, which seeks before it goes on
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

        Brokers that do not answer are waited for.

        Raises
        ------
        BrokerError
            If they answer, and do not say how far the partitions go. The worker ends then: Faust would give
            up to assign anything, without a word.
        aiokafka.errors.IllegalStateError
            If another rebalance has begun meanwhile: what was asked is of the former assignment. Faust waits
            for the next one then.
        """
        thread, rebalances = cast(BatchConsumerThread, self._thread), self._rebalances
        try:
            offsets = await self._group_offsets()
        except BrokerError as error:
            await self.app.crash(error)
            raise
        starts = offsets.starts(self._topics.trimmed)
        await thread.seek_to(starts)
        if self._rebalances != rebalances:
            raise IllegalStateError("another rebalance has begun")
        self.ledger.forget(list(self.ledger))
        for tp, offset in starts.items():
            self.start_offsets[tp] = offset
            self._read_offset[tp] = self._committed_offset[tp] = offset or None
        self.log_ids, self.unread, self.end_offsets = offsets.ids, offsets.unread(), offsets.ends
        self.positioned.set()

    async def _group_offsets(self) -> GroupOffsets:
        thread, silent = cast(BatchConsumerThread, self._thread), 0
        while silent < 2:  # a broker that has woken just now is given its time
            try:
                async with asyncio.timeout(OFFSETS_TIMEOUT_S):
                    return await thread.group_offsets(self._topics.depends, self._topics.located)
            except TimeoutError:
                silent = silent + 1 if await self._topics.brokers_answer() else 0
        raise BrokerError(
            f"the brokers have not said within {2 * OFFSETS_TIMEOUT_S:.0f} s where this worker's partitions "
            "begin and end: one without a leader? (`kafka-topics.sh --describe --unavailable-partitions`)"
        )

    @property
    def _topics(self) -> "Topics":
        return cast(Topics, self.app)

    def rejoin(self) -> None:
        """Take up everything again, as a member does that has just joined."""
        self._forget_positions()
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
        self._forget_positions()

    def _forget_positions(self) -> None:
        self._rebalances += 1
        self.log_ids = {}
        self.positioned.clear()


class Transport(driver.Transport):
    """`kafka-batch://`: see the module."""

    Consumer: ClassVar[type[Consumer]] = Consumer
