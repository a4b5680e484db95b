"""The wide topic that every engine reads, and what is known of an engine by what it has written."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.bench.wide import wide_clicks
from streams.kafka.partitioner import partitions_of
from streams.kafka.publisher import Publisher, Row
from streams.settings import Settings

PARTITIONS = 4
EVERY = 10
TIMEOUT_S = 10.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Wide:
    """A topic of clicks, and how many outputs a right job makes of it, and of the first half of it."""

    name: str
    events: int
    outputs: int
    outputs_of_half: int


def make_topic(servers: str, name: str, **config: str) -> None:
    """Create a topic of `PARTITIONS` partitions, and return once each has a leader."""
    admin = AdminClient({"bootstrap.servers": servers})
    wanted = NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, config=config)
    for future in admin.create_topics([wanted]).values():
        future.result(TIMEOUT_S)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "none"})
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while True:
            try:
                records_in(consumer, name)
                return
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_S)
    finally:
        consumer.close()


def outputs_of(counts: Counter[str]) -> int:
    """One output for every ten events of a user."""
    return sum(count // EVERY for count in counts.values())


def fill(settings: Settings, name: str, events: int) -> Wide:
    """Write the first `events` wide clicks to a topic, and count what a right job makes of them."""
    counts: Counter[str] = Counter()
    half, seen = 0, 0

    async def publish() -> None:
        nonlocal half, seen
        publisher = Publisher(settings)
        await publisher.start()
        try:
            for chunk in wide_clicks(events):
                users = [user for user, _ in chunk]
                if seen < events // 2 <= seen + len(users):
                    half = outputs_of(counts + Counter(users[: events // 2 - seen]))
                counts.update(users)
                seen += len(users)
                rows: list[tuple[str, int, Row]] = [
                    (name, partition, (user.encode(), value))
                    for partition, (user, value) in zip(
                        partitions_of(users, PARTITIONS).tolist(), chunk, strict=True
                    )
                ]
                await publisher.publish_all(rows)
        finally:
            await publisher.stop()

    asyncio.run(publish())
    return Wide(name, events, outputs_of(counts), half)


def records_in(consumer: Consumer, topic: str) -> int:
    """Count the records written to a topic, by its ends."""
    return sum(
        consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=TIMEOUT_S)[1]
        for p in range(PARTITIONS)
    )


@dataclass(frozen=True, slots=True)
class Span:
    """When an engine wrote, in milliseconds of the broker's clock: its outputs in order of time."""

    written_ms: list[int]

    def seconds(self, since: int = 0) -> float:
        """Seconds from one output, by its number, to the last."""
        return (self.written_ms[-1] - self.written_ms[since]) / 1000


def await_outputs(
    servers: str, topic: str, wanted: int, *, check: Callable[[], None], timeout_s: float
) -> None:
    """Wait until a topic has so many records; `check` raises when who writes them has ended."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "none"})
    deadline = time.monotonic() + timeout_s
    try:
        while (written := records_in(consumer, topic)) < wanted:
            check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{written:,} of {wanted:,} outputs after {timeout_s:.0f} s")
            time.sleep(LOOK_S)
    finally:
        consumer.close()


def read_span(servers: str, topic: str) -> Span:
    """Read when the records of a topic were written, by the broker's clock."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "none", "enable.auto.commit": "false"})
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        left, times = records_in(consumer, topic), []
        while left > 0:
            records = consumer.consume(num_messages=min(left, 10_000), timeout=TIMEOUT_S)
            if not records:
                raise TimeoutError(f"{left:,} records of {topic} were not read in {TIMEOUT_S:.0f} s")
            times += [record.timestamp()[1] for record in records]
            left -= len(records)
        return Span(sorted(times))
    finally:
        consumer.close()
