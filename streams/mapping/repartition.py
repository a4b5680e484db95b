"""Copies what topics say into our own, where it cannot be read from where it is.

A topic whose producers choose partitions by another rule than ours, that has another number of them, or whose
records hold several events each, is read by a group of its own (`<group_id>.mapping`), in whichever workers
there are. What its records become is written to our topic, by our keys. A record is committed when the broker
has its events: one that is read again after a crash is written again, with the same ids, and counts once.
With the offset goes the id of the topic: one that was made anew is copied from its beginning.
While the broker takes none of them, for want of a right or of room, they are tried again: serving goes on,
and the lag grows.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from streams.decoding.dead_letters import DeadLetters
from streams.decoding.records import NULL_KEY, TOO_LARGE, Rejected
from streams.kafka.closing import stop_reading
from streams.kafka.column_fetch import fetch_columns
from streams.kafka.columns import Record, RecordColumns
from streams.kafka.consumer_patches import commit_without_deleted
from streams.kafka.damage import Damage
from streams.kafka.group_offsets import GroupOffsets, ask_group_offsets
from streams.kafka.lags import Waiting
from streams.kafka.layout import ask_layout
from streams.kafka.log import RowPublisher
from streams.kafka.options import aiokafka_client_options
from streams.kafka.partitioner import partition_of
from streams.kafka.publisher import Row
from streams.kafka.topics import topic_name, topic_partitions
from streams.mapping.schemas import schemas_of
from streams.mapping.translate import Event, Translator
from streams.mapping.values import Fault
from streams.metrics import Metrics
from streams.pseudonyms import pseudonyms_of
from streams.settings import Settings

log = logging.getLogger(__name__)

GROUP_SUFFIX = ".mapping"
POLL_MS = 500
LOOK_INTERVAL_S = 2.0  # at which topics there are
METADATA_AGE_MS = 5_000
FETCH_BYTES = 1024 * 1024
RETRY_S = 5.0
LOOK_AGAIN_S = 0.2  # how often a start looks how far the group has copied
REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError, ValueError)
"""What is said of a row that is never going to be taken."""

SLICE = 64  # records translated between two looks at the event loop: about a millisecond

Made = tuple[Record, str, int, Row]
"""A record, and the topic, the partition and the row of an event that it became."""


class Repartitioner:
    """Follows the sources that are to be repartitioned.

    Parameters
    ----------
    publisher : a started one
    retry_s : between two tries of what the broker does not take
    """

    def __init__(
        self,
        settings: Settings,
        *,
        publisher: RowPublisher,
        dead_letters: DeadLetters,
        metrics: Metrics,
        retry_s: float = RETRY_S,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._retry_s = retry_s
        self._translators: dict[str, list[Translator]] = defaultdict(list)
        pseudonyms = pseudonyms_of(settings.pseudonym_key_file)
        for source in settings.sources:
            if source.repartition:
                translator = Translator(source, schemas=schemas_of(settings, source), pseudonyms=pseudonyms)
                self._translators[source.topic].append(translator)
        self._copied: dict[TopicPartition, int] = {}  # the next offset to copy
        self._committed: dict[TopicPartition, int] = {}
        self._wanted: dict[TopicPartition, int] | None = None  # offsets up to which a start waits
        self._waiting: dict[TopicPartition, Waiting] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._group_offsets: GroupOffsets | None = None  # None until it is known where to read on
        self._assignments = 0
        self._looked_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self, crash: Callable[[BaseException], None]) -> None:
        """Begin to read, if there is anything to be read; an error goes to `crash`."""
        if not self._translators:
            return
        settings = self._settings
        self._consumer = AIOKafkaConsumer(
            **aiokafka_client_options(settings),
            group_id=settings.group_id + GROUP_SUFFIX,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.session_timeout_ms // 4,
            isolation_level="read_committed",
            metadata_max_age_ms=METADATA_AGE_MS,
        )
        self._consumer.subscribe(list(self._translators), listener=_Listener(self._rebalanced))
        await self._consumer.start()
        fetch_columns(self._consumer, Damage())
        commit_without_deleted(self._consumer)
        self._task = asyncio.create_task(self._follow(self._consumer))
        self._task.add_done_callback(lambda task: _crash_on_error(task, crash))

    async def stop(self) -> None:
        """Stop to read."""
        await stop_reading(self._task, self._consumer)

    async def caught_up(self) -> None:
        """Wait until the group has copied what the topics held when this was first asked, in any worker."""
        if (consumer := self._consumer) is None:
            return
        while self._wanted is None or self._wanted:
            try:
                if self._wanted is None:
                    self._wanted = await consumer.end_offsets(_partitions(consumer, self._translators))
                copied = await consumer._coordinator.fetch_committed_offsets(list(self._wanted))
            except KafkaError as error:
                log.debug("how far the topics are copied is not known: %r", error)
            else:
                for tp in [tp for tp, end in self._wanted.items() if _offset(copied.get(tp)) >= end]:
                    del self._wanted[tp]
            if self._wanted or self._wanted is None:
                await asyncio.sleep(LOOK_AGAIN_S)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            if self._group_offsets is None and consumer.assignment():
                await self._go_on(consumer)
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            if (offsets := self._group_offsets) is None:
                continue  # it is yet to be found out where to read on: these come again
            for tp, (records,) in fetched.items():
                self._copied[tp] = records[0].offset
                for translator in self._translators[tp.topic]:
                    await self._copy_at_last(translator, records)
                if self._group_offsets is not offsets:
                    break  # it is read from elsewhere by now, or by another worker
                self._copied[tp] = records[-1].offset + 1
            else:
                await self._pass_markers(consumer)
                await self._commit(consumer, offsets)
            await self._look(consumer)

    async def _go_on(self, consumer: AIOKafkaConsumer) -> None:
        """Find out where to read on, and go there; without an answer, or after a rebalance, the next time."""
        assignment = self._assignments
        try:
            offsets = await ask_group_offsets(consumer, {topic: (topic,) for topic in self._translators})
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("it is not known yet where to read on: %r", error)
            return
        if self._assignments == assignment:
            for tp, offset in offsets.starts(self._trimmed).items():
                consumer.seek(TopicPartition(*tp), offset)
                self._copied[TopicPartition(*tp)] = offset
                self._committed[TopicPartition(*tp)] = offsets.committed.get(tp, (0, ""))[0]
            self._group_offsets = offsets

    def _rebalanced(self) -> None:
        self._group_offsets = None
        self._assignments += 1
        self._copied.clear()
        self._committed.clear()

    def _trimmed(self, topic: str, partition: int, records: int) -> None:
        log.error(
            "%s [%d]: %d records were deleted before they were copied: their effect is lost",
            topic, partition, records,
        )  # fmt: skip
        for translator in self._translators[topic]:
            self._metrics.count_trimmed(translator.source.feeds, records)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Read topics from their beginning that were made anew; look for them every `LOOK_INTERVAL_S`."""
        now, offsets = time.monotonic(), self._group_offsets
        if offsets is None or now - self._looked_at < LOOK_INTERVAL_S:
            return
        self._looked_at = now
        try:
            layout = await ask_layout(consumer._client, self._translators) or {}
        except KafkaError as error:
            log.debug("the topics cannot be looked at: %r", error)
            return
        ids = {name: topic.id for name, topic in layout.items()}
        if any(ids.get(name, "") not in ("", offsets.ids.get(name)) for name in self._translators):
            self._rebalanced()

    async def _pass_markers(self, consumer: AIOKafkaConsumer) -> None:
        """Go on past what no record stands for, such as the ends of transactions."""
        for tp in self._copied.keys() & consumer.assignment():
            try:
                self._copied[tp] = max(self._copied[tp], await consumer.position(tp))
            except IllegalStateError:  # it went to another worker just now
                continue

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: GroupOffsets) -> None:
        """Commit what has been copied, or leave it to the next time: what is read again is copied again."""
        new = {tp: offset for tp, offset in self._copied.items() if offset != self._committed.get(tp)}
        if not new:
            return
        marks = offsets.marks
        try:
            await consumer.commit(
                {tp: OffsetAndMetadata(offset, marks.get(tp.topic, "")) for tp, offset in new.items()}
            )
        except (CommitFailedError, IllegalStateError):  # another worker has the partition by now
            pass
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("what was copied is not committed yet: %r", error)
        else:
            if self._group_offsets is offsets:
                self._committed |= new

    def measure_lag(self) -> None:
        """Tell how far the copying is behind; to be called every second or so."""
        if self._consumer is None:
            return
        now, owned = time.monotonic(), self._consumer.assignment()
        earlier, self._waiting = self._waiting, {}
        behind: dict[str, tuple[int, float]] = dict.fromkeys(self._translators, (0, 0.0))
        for tp in owned:
            end = self._consumer.highwater(tp)
            if end is None or tp not in self._copied:
                continue
            waiting = self._waiting[tp] = earlier.get(tp) or Waiting()
            seconds = waiting.seconds(now, processed=self._copied[tp], end=end)
            records, longest = behind[tp.topic]
            behind[tp.topic] = records + max(0, end - self._copied[tp]), max(longest, seconds)
        for topic, (records, seconds) in behind.items():
            for translator in self._translators[topic]:
                self._metrics.set_mapping_lag(translator.source.feeds, records=records, seconds=seconds)

    async def _copy_at_last(self, translator: Translator, records: RecordColumns) -> None:
        """Copy records, however long the broker does not take what they become: nothing passes them by."""
        while True:
            try:
                return await self._copy(translator, records)
            except KafkaError as error:
                log.error(
                    "%s partition %d: what its records become is not taken: %r; trying again in %.0f s",
                    records.topic, records.partition, error, self._retry_s,
                )  # fmt: skip
            await asyncio.sleep(self._retry_s)

    async def _copy(self, translator: Translator, records: RecordColumns) -> None:
        name = translator.source.feeds
        made: list[Made] = []
        rejected: list[Rejected] = []
        left_out = 0
        await translator.ready(records)
        for row, record in enumerate(records):
            if row % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            try:
                events = translator.events(record, lambda row=row: records.headers(row))  # type: ignore[misc]
                placed = [self._placed(name, record, event) for event in events]
            except Fault as fault:
                rejected.append(translator.rejection(record, fault))
                continue
            made += placed
            left_out += not events
        rejected += await self._publish(translator, made)
        if left_out:
            self._metrics.count_events(name, "left_out", left_out)
        await self._dead_letters.publish(name, rejected)

    def _placed(self, name: str, record: Record, event: Event) -> Made:
        if not event.key:
            raise Fault("a deletion names its item or user by `key`", NULL_KEY)
        partition = partition_of(event.key.decode(errors="replace"), topic_partitions(self._settings, name))
        return record, topic_name(self._settings, name), partition, (event.key, event.value)

    async def _publish(self, translator: Translator, made: Sequence[Made]) -> list[Rejected]:
        """Publish events; return the records of those that our topic takes no row of."""
        try:
            await self._publisher.publish_all(place[1:] for place in made)
            return []
        except REFUSED:
            if len(made) == 1:
                record, topic, _, (_, value) = made[0]
                fault = Fault(f"{topic} takes no record of {len(value or b'')} bytes", TOO_LARGE)
                return [translator.rejection(record, fault)]
        alone = [await self._publish(translator, [one]) for one in made]
        return [bad for found in alone for bad in found]


class _Listener(ConsumerRebalanceListener):
    """Tells of partitions that come and go."""

    def __init__(self, rebalanced: Callable[[], None]) -> None:
        self._rebalanced = rebalanced

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._rebalanced()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._rebalanced()


def _partitions(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> list[TopicPartition]:
    found = {topic: consumer.partitions_for_topic(topic) or () for topic in topics}
    return [TopicPartition(topic, partition) for topic, those in found.items() for partition in those]


def _offset(committed: OffsetAndMetadata | None) -> int:
    return 0 if committed is None else int(committed.offset)


def _crash_on_error(task: "asyncio.Task[None]", crash: Callable[[BaseException], None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the topics of the mapping are not followed any more: %r", error)
        crash(error)
