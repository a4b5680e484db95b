"""A log in memory: topics of records in partitions, as a broker keeps them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError, ProducerFenced, UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord

from streams.clock import Clock
from streams.kafka.layout import Layout, Topic
from streams.kafka.log import Handler
from streams.kafka.producer_patches import Failed, Identity, IdentityOf, unnoticed
from streams.kafka.publisher import BATCH_BYTES, Row
from streams.kafka.topics import TOPICS, topic_partitions, topics_of_worker
from streams.settings import Settings
from streams.testing.publisher import MemoryPublisher
from streams.testing.source import FETCH_RECORDS, Aborted, Watcher
from streams.testing.tail import MemoryEnds, MemoryTail


@dataclass(slots=True)
class _Partition:
    records: list[Any] = field(default_factory=list)  # offsets increase, with gaps
    begin: int = 0
    end: int = 0
    aborts: list[int] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)  # the newest of each producer id

    def since(self, offset: int) -> int:
        """Place in `records` of the first one at or after an offset."""
        return bisect_left(self.records, offset, key=lambda record: record.offset)


class MemoryLog:
    """A `streams.kafka.log.Log`, and what else a broker does to one.

    Parameters
    ----------
    partitions : number of partitions by full topic name
    limits : the largest record batch taken, in bytes, by full topic name
    batch_bytes : publishers cut what they publish into batches of about this size

    Attributes
    ----------
    committed : next offset to read of the one consumer group, by (topic, partition)
    marks : what was committed with it
    order : (topic, partition, offset) of every record, in the order of arrival
    """

    def __init__(
        self,
        partitions: Mapping[str, int],
        clock: Clock,
        *,
        limits: Mapping[str, int] | None = None,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._partitions = {(t, p): _Partition() for t, n in partitions.items() for p in range(n)}
        self._clock = clock
        self._left: int | None = None
        self._identities: dict[str, Identity] = {}
        self.limits = dict(limits or {})
        self.batch_bytes = batch_bytes
        self.committed: dict[tuple[str, int], int] = {}
        self.marks: dict[tuple[str, int], str] = {}
        self._lives: dict[str, int] = {}
        self.order: list[tuple[str, int, int]] = []
        self.watchers: set[Watcher] = set()

    @classmethod
    def of(cls, settings: Settings, clock: Clock, *, batch_bytes: int = BATCH_BYTES) -> "MemoryLog":
        """Return a log of the topics that a worker with these settings needs, empty."""
        names = topics_of_worker(settings)
        return cls(
            {full: topic_partitions(settings, name) for name, full in names.items()},
            clock,
            limits={full: TOPICS[name].max_message_bytes for name, full in names.items()},
            batch_bytes=batch_bytes,
        )

    # What a worker does: `streams.kafka.log.Log`

    def publisher(
        self,
        *,
        transactional_id: str | None = None,
        identity: IdentityOf | None = None,
        failed: Failed = unnoticed,
    ) -> MemoryPublisher:
        """Return a publisher, to be started; see `streams.kafka.publisher.Publisher`."""
        return MemoryPublisher(self, transactional_id=transactional_id, identity=identity, failed=failed)

    def follow(self, partitions: Mapping[str, int], handler: Handler, *, since_ms: int = 0) -> MemoryTail:
        """Return a reader, to be started, of all the partitions of topics; see `kafka.reader.TailReader`."""
        starts = {
            (topic, partition): self.offset_since(topic, partition, since_ms)
            for topic, n in partitions.items()
            for partition in range(n)
        }
        return MemoryTail(self, starts, handler)

    def ends(self) -> MemoryEnds:
        """Return what knows where partitions end, to be started."""
        return MemoryEnds(self)

    async def read(
        self, topic: str, partition: int, *, start: int = 0, since_ms: int = 0
    ) -> AsyncGenerator[Sequence[Any], None]:
        """Yield the records of a partition to its end at the time of the call."""
        held = self._of(topic, partition)
        end = held.end
        place = held.since(start)
        while place < len(held.records) and held.records[place].timestamp < since_ms:
            place += 1
        records = held.records[place : held.since(end)]
        for first in range(0, len(records), FETCH_RECORDS):
            yield records[first : first + FETCH_RECORDS]

    def write(
        self, topic: str, partition: int, rows: Iterable[Row], nbytes: int, identity: Identity | None, /
    ) -> int:
        """Write a worker's record batch; return the offset of its last record.

        Raises
        ------
        aiokafka.errors.ProducerFenced
            If the partition is fenced against such an epoch.
        aiokafka.errors.MessageSizeTooLargeError
            If the batch has more bytes than the topic's limit.
        Aborted
            If the worker was to die before this.
        """
        self._count_batch()
        self.check_size(topic, nbytes)
        if identity is not None and identity.epoch < self._of(topic, partition).epochs.get(
            identity.producer_id, 0
        ):
            raise ProducerFenced
        return self.append(topic, partition, rows)

    def write_all(
        self, batches: Sequence[tuple[str, int, Iterable[Row], int]], identity: Identity, /
    ) -> None:
        """Write the (topic, partition, rows, bytes) of a transaction; its end takes an offset too.

        Raises
        ------
        aiokafka.errors.ProducerFenced
            If another publisher has the transactional id by now.
        Aborted
            If the worker was to die before the end: the broker then takes all of it back.
        """
        if identity not in self._identities.values():
            raise ProducerFenced
        try:
            for _ in batches:
                self._count_batch()
        except Aborted:
            for topic, partition, rows, _ in batches:
                self.skip(topic, partition, len(list(rows)) + 1)
            raise
        for topic, partition, rows, _ in batches:
            self.append(topic, partition, rows)
        for target in dict.fromkeys((topic, partition) for topic, partition, _, _ in batches):
            self.skip(*target)

    def identify(self, transactional_id: str, /) -> Identity:
        """Let only one publisher of a transactional id write transactions from now on; return who it is."""
        number, epoch = self._identities.get(transactional_id, Identity(len(self._identities), 0))
        self._identities[transactional_id] = Identity(number, epoch + 1)
        return self._identities[transactional_id]

    def fence(self, topic: str, partition: int, identity: Identity, /) -> None:
        """Have a partition refuse rows of older epochs of a producer; its two marks take offsets."""
        if identity not in self._identities.values():
            raise ProducerFenced
        self._of(topic, partition).epochs[identity.producer_id] = identity.epoch
        self.skip(topic, partition, 2)

    def check_size(self, topic: str, nbytes: int, /) -> None:
        """Raise MessageSizeTooLargeError if the topic takes no batch of so many bytes."""
        if nbytes > self.limits.get(topic, nbytes):
            raise MessageSizeTooLargeError(f"{topic}: a batch of {nbytes} bytes, limit {self.limits[topic]}")

    def _count_batch(self) -> None:
        if self._left is not None:
            if not self._left:
                raise Aborted("the worker has died while it published")
            self._left -= 1

    # What a producer does

    def append(self, topic: str, partition: int, rows: Iterable[Row]) -> int:
        """Write records; return the offset of the last one."""
        held = self._of(topic, partition)
        now_ms = int(self._clock.time() * 1000)
        for key, value in rows:
            sizes = len(key or b""), len(value or b"")
            held.records.append(
                ConsumerRecord(topic, partition, held.end, now_ms, 1, key, value, None, *sizes, ())
            )
            self.order.append((topic, partition, held.end))
            held.end += 1
        for watcher in self.watchers:
            watcher.wake()
        return held.end - 1

    def abort(self, topic: str, partition: int) -> int:
        """Write an ABORT, which takes an offset and is no record; return its offset.

        The worker that comes to it loses everything it holds in memory.
        """
        held = self._of(topic, partition)
        held.aborts.append(held.end)
        return self.skip(topic, partition)

    def skip(self, topic: str, partition: int, offsets: int = 1) -> int:
        """Use up offsets for which there is no record, as a transaction's end does, or one taken back."""
        held = self._of(topic, partition)
        held.end += offsets
        for watcher in self.watchers:
            watcher.wake()
        return held.end - 1

    # What a broker does

    def compact(self, topic: str, *, tombstones: bool = False) -> None:
        """Keep the last record of each key; with `tombstones`, no null records either."""
        for (name, _), held in self._partitions.items():
            if name == topic:
                last = {record.key: record.offset for record in held.records}
                held.records = [
                    record
                    for record in held.records
                    if last[record.key] == record.offset and not (tombstones and record.value is None)
                ]

    def expire(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, as retention does."""
        held = self._of(topic, partition)
        held.begin = max(held.begin, before)
        held.records = held.records[held.since(before) :]

    def recreate(self, topic: str) -> None:
        """Delete a topic and make it anew; what a group has committed is forgotten later, or never."""
        for place in [place for place in self._partitions if place[0] == topic]:
            self._partitions[place] = _Partition()
        self._lives[topic] = self._lives.get(topic, 0) + 1

    def add_partitions(self, topic: str, n: int) -> None:
        """Let a topic have n partitions."""
        for partition in range(n):
            self._partitions.setdefault((topic, partition), _Partition())

    def die_after(self, batches: int) -> None:
        """Let the worker die when its publishers have written so many batches more."""
        self._left = batches

    def revive(self) -> None:
        """Take what is written again."""
        self._left = None

    # What is there

    def offset_since(self, topic: str, partition: int, since_ms: int) -> int:
        """Offset of the first record that is not from before a time; the end where there is none."""
        held = self._of(topic, partition)
        later = (record.offset for record in held.records if record.timestamp >= since_ms)
        return next(later, held.end) if since_ms else 0

    def begin_offset(self, topic: str, partition: int) -> int:
        """Offset from which there may be records."""
        return self._of(topic, partition).begin

    def end_offset(self, topic: str, partition: int) -> int:
        """Next offset to be written."""
        return self._of(topic, partition).end

    def records(self, topic: str, partition: int | None = None) -> list[Any]:
        """Records of a topic, or of one of its partitions, by partition and offset."""
        return [
            record
            for (name, number), held in sorted(self._partitions.items())
            if name == topic and partition in (None, number)
            for record in held.records
        ]

    def layout(self, topics: Collection[str]) -> Layout:
        """Return those of some topics that exist."""
        counts = Counter(topic for topic, _ in self._partitions)
        return {
            topic: Topic(f"{topic}/{self._lives.get(topic, 0)}", counts[topic])
            for topic in topics
            if topic in counts
        }

    def fetch(self, topic: str, partition: int, offset: int, most: int) -> tuple[list[Any], int]:
        """Return at most so many records from an offset on, and the offset to go on from.

        Raises
        ------
        Aborted
            If an ABORT is next. It is taken away: the worker after this one reads past it.
        """
        held = self._of(topic, partition)
        end = min((at for at in held.aborts if at >= offset), default=held.end)
        place, stop = held.since(offset), held.since(end)
        records = held.records[place : min(stop, place + most)]
        if len(records) < stop - place:
            return records, records[-1].offset + 1
        if not records and end in held.aborts:
            held.aborts.remove(end)
            raise Aborted(f"ABORT at offset {end} of {topic} [{partition}]")
        return records, end

    def _of(self, topic: str, partition: int) -> _Partition:
        try:
            return self._partitions[topic, partition]
        except KeyError:
            raise UnknownTopicOrPartitionError(f"there is no {topic} [{partition}]") from None
