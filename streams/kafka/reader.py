"""Reading topics without a consumer group: whole partitions for a restore, tails for shared state."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.kafka.closing import closed, stop_reading
from streams.kafka.column_fetch import fetch_columns
from streams.kafka.columns import RecordColumns
from streams.kafka.damage import Damage
from streams.kafka.options import aiokafka_client_options
from streams.settings import Settings

FETCH_BYTES = 4 * 1024 * 1024
POLL_MS = 200
# The broker answers as soon as there is something: a long wait costs nobody anything.
FETCH_MAX_WAIT_MS = 500
AGAIN_S = 0.5
SAY_EVERY_S = 30.0
SILENCE_S = 10.0  # without records, after which it is looked whether there are any
SLICE = 128  # records handled between two looks at the event loop: a few milliseconds

log = logging.getLogger(__name__)


def _consumer(settings: Settings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **aiokafka_client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        isolation_level="read_committed",
    )


async def read_partition(
    settings: Settings,
    topic: str,
    partition: int,
    *,
    start: int = 0,
    since_ms: int = 0,
    last: int | None = None,
    patient: bool = False,
    damage: Damage | None = None,
) -> AsyncGenerator[RecordColumns, None]:
    """Yield the records of a partition to its end at the time of the call.

    It begins at the latest of offset `start`, the first record that is not from before `since_ms`, and, where
    `last` is given, so many offsets before the end.

    Parameters
    ----------
    patient : wait for brokers that do not answer, and say so, rather than fail
    damage : says which damaged batches are left out; without, they are an error
    """
    tp = TopicPartition(topic, partition)
    how: dict[str, Any] = {"patient": patient, "damage": damage}
    consumer, end = await _connected(settings, tp, start=start, since_ms=since_ms, last=last, **how)
    try:
        # The position passes compacted holes and transaction markers that no record stands for.
        heard_s = time.monotonic()
        while (position := await consumer.position(tp)) < end:
            try:
                found = await consumer.getmany(tp, timeout_ms=POLL_MS)
            except KafkaError as error:
                if not (patient and may_pass(error)):
                    raise
                found, heard_s = {}, -math.inf
            for (records,) in found.values():
                yield records
            if found:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s >= SILENCE_S:
                log.warning("%s [%d] is read up to %d of %d: nothing comes", topic, partition, position, end)
                await closed(consumer.stop())
                # A leader that had less, as after an unclean election, has cut the end.
                consumer, ends_now = await _connected(settings, tp, start=position, **how)
                end, heard_s = min(end, ends_now), time.monotonic()
    finally:
        await closed(consumer.stop())


async def _connected(
    settings: Settings,
    tp: TopicPartition,
    *,
    start: int,
    since_ms: int = 0,
    last: int | None = None,
    patient: bool,
    damage: Damage | None = None,
) -> tuple[AIOKafkaConsumer, int]:
    """Return a consumer that stands where reading begins, and where it ends."""
    said_s = -math.inf
    while True:
        consumer = _consumer(settings)
        try:
            end = await _begin(consumer, tp, damage, start=start, since_ms=since_ms, last=last)
            return consumer, end
        except BaseException as error:
            await closed(consumer.stop())
            if not (patient and may_pass(error)):
                raise
            if time.monotonic() - said_s >= SAY_EVERY_S:
                said_s = time.monotonic()
                log.warning("%s [%d] waits to be read: no broker answers: %r", *tp, error)
        await asyncio.sleep(AGAIN_S)


async def _begin(
    consumer: AIOKafkaConsumer,
    tp: TopicPartition,
    damage: Damage | None,
    *,
    start: int,
    since_ms: int,
    last: int | None,
) -> int:
    """Connect, and stand where reading begins; return where it ends."""
    await consumer.start()
    fetch_columns(consumer, damage)
    consumer.assign([tp])
    first = (await consumer.beginning_offsets([tp]))[tp]
    end = (await consumer.end_offsets([tp]))[tp]
    if since_ms:
        found = (await consumer.offsets_for_times({tp: since_ms}))[tp]
        start = max(start, end if found is None else found.offset)
    if last is not None:
        start = max(start, end - last)
    consumer.seek(tp, max(first, start))
    return int(end)


def may_pass(error: BaseException) -> bool:
    """Whether brokers may answer later."""
    # The assertion is aiokafka's, where a cluster that has just woken names no broker.
    return isinstance(error, AssertionError | KafkaTimeoutError) or bool(getattr(error, "retriable", False))


class TailReader:
    """Follows every partition of some topics from the start, for as long as it runs.

    `handler(topic, partition, records)` is called in the event loop with `SLICE` records of a fetched batch
    at a time. With `last`, it begins so many offsets before a partition's end instead, and with `since_ms` at
    the first record that is not from before.

    Attributes
    ----------
    caught_up : what there was at the start has been handled; not while a topic is read from its beginning
    """

    def __init__(
        self,
        settings: Settings,
        partitions: Mapping[str, int],
        handler: Callable[[str, int, Sequence[Any]], None],
        *,
        last: int | None = None,
        since_ms: int = 0,
    ) -> None:
        self._settings = settings
        self._tps = [TopicPartition(topic, p) for topic, n in partitions.items() for p in range(n)]
        self._handler = handler
        self._last = last
        self._since_ms = since_ms
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._positions: dict[tuple[str, int], int] = {}
        self._paused: set[TopicPartition] = set()
        self._behind: dict[TopicPartition, float] = {}  # by partition, where it has caught up
        self.caught_up = asyncio.Event()

    async def start(self) -> None:
        """Connect and begin to read."""
        self._consumer = _consumer(self._settings)
        await self._consumer.start()
        fetch_columns(self._consumer, Damage())
        # Before the first fetch, which keeps the connection for as long as it waits for records.
        ends = await self._consumer.end_offsets(self._tps)
        self._consumer.assign(self._tps)
        await self._consumer.seek_to_beginning(*self._tps)
        if self._last is not None:
            for tp, first in (await self._consumer.beginning_offsets(self._tps)).items():
                self._consumer.seek(tp, max(first, ends[tp] - self._last))
        if self._since_ms:
            times = dict.fromkeys(self._tps, self._since_ms)
            for tp, found in (await self._consumer.offsets_for_times(times)).items():
                self._consumer.seek(tp, ends[tp] if found is None else found.offset)
        self._behind = {tp: end for tp, end in ends.items() if end > 0}
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop reading and disconnect."""
        await stop_reading(self._task, self._consumer)

    @property
    def task(self) -> asyncio.Task[None]:
        """The reading task; it ends only with an error or by `stop`."""
        if self._task is None:
            raise RuntimeError("the reader is not started")
        return self._task

    def position(self, topic: str, partition: int) -> int:
        """The next offset to read; everything before it has been handled."""
        return self._positions.get((topic, partition), 0)

    def pause(self, topic: str, partition: int) -> None:
        """Read no more of a partition, until `resume` goes on where this stopped."""
        tp = TopicPartition(topic, partition)
        self._paused.add(tp)
        if self._consumer is not None:
            self._consumer.pause(tp)

    def resume(self, topic: str, partition: int) -> None:
        """Read a paused partition again."""
        tp = TopicPartition(topic, partition)
        self._paused.discard(tp)
        if self._consumer is not None:
            self._consumer.resume(tp)

    async def start_over(self, topic: str) -> None:
        """Read a topic from its beginning: it is another one by now."""
        if self._consumer is not None:
            tps = [tp for tp in self._tps if tp.topic == topic]
            self._behind.update(dict.fromkeys(tps, math.inf))  # until it is known where it ends
            self.caught_up.clear()
            for tp in tps:
                self._positions.pop((tp.topic, tp.partition), None)
            await self._consumer.seek_to_beginning(*tps)
            self._behind.update(await self._consumer.end_offsets(tps))

    async def _follow(self) -> None:
        consumer, behind = self._consumer, self._behind
        assert consumer is not None
        while True:
            for tp, (records,) in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                for start in range(0, len(records), SLICE):
                    part = records[start : start + SLICE]
                    self._handler(tp.topic, tp.partition, part)
                    self._positions[tp.topic, tp.partition] = part[-1].offset + 1
                    await asyncio.sleep(0)
            self._pass_what_is_no_record(consumer)
            for tp in list(behind):
                if tp in self._paused or await consumer.position(tp) >= behind[tp]:
                    behind.pop(tp)
            if not behind:
                self.caught_up.set()

    def _pass_what_is_no_record(self, consumer: AIOKafkaConsumer) -> None:
        """Stand where the consumer does: behind marks of transactions, too, and behind what is damaged."""
        assignment = consumer._subscription.subscription.assignment
        for tp in self._tps:
            state = assignment.state_value(tp)
            if state.has_valid_position and tp not in self._paused and self._behind.get(tp) != math.inf:
                self._positions[tp.topic, tp.partition] = state.position
