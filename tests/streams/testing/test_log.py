"""The log in memory keeps the contract of the real one, and does to a worker what a broker can do."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from faust.types import TP

from streams.kafka.log import KafkaLog, Log
from streams.kafka.topic_admin import admin_client
from streams.testing.clock import HandClock
from streams.testing.consumer import MemoryConsumer
from streams.testing.log import MemoryLog
from streams.testing.source import Aborted
from tests.conftest import SettingsFactory

LIMIT = 1_000
DEADLINE_S = 120.0


@pytest.fixture(params=["memory", "kafka"])
async def log_and_topic(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Log, str]]:
    """A log with a topic of two partitions that takes batches of up to LIMIT bytes."""
    if request.param == "memory":
        yield MemoryLog({"t": 2}, HandClock(), limits={"t": LIMIT}), "t"
        return
    make_settings: SettingsFactory = request.getfixturevalue("make_settings")
    settings = make_settings()
    topic = f"{settings.topic_prefix}t"
    wanted = {"num_partitions": 2, "replication_factor": 1, "configs": {"max.message.bytes": str(LIMIT)}}
    with admin_client(settings) as admin:
        admin.create_topics({topic: wanted})
        admin.wait_for_topics([topic])
        yield KafkaLog(settings), topic
        admin.delete_topics([topic])


async def rows_of(log: Log, topic: str, start: int = 0) -> list[tuple[int, bytes | None, bytes | None]]:
    return [
        (record.offset, record.key, record.value)
        async for records in log.read(topic, 0, start=start)
        for record in records
    ]


async def test_rows_are_read_back_in_order_from_any_offset(log_and_topic: tuple[Log, str]) -> None:
    log, topic = log_and_topic
    publisher = log.publisher()
    await publisher.start()
    assert await publisher.publish(topic, 0, []) == -1
    assert await publisher.publish(topic, 0, [(b"a", b"1"), (b"b", None), (None, b"3")]) == 2
    assert await publisher.send(topic, 0, b"c", b"4") == 3
    await publisher.publish_all([(topic, 0, (b"d", b"5")), (topic, 1, (b"e", b"6"))])
    await publisher.stop()

    rows = [(0, b"a", b"1"), (1, b"b", None), (2, None, b"3"), (3, b"c", b"4"), (4, b"d", b"5")]
    assert await rows_of(log, topic) == rows
    assert await rows_of(log, topic, start=3) == rows[3:]
    assert await rows_of(log, topic, start=9) == []


async def test_a_batch_above_the_topics_limit_is_refused_whole(log_and_topic: tuple[Log, str]) -> None:
    log, topic = log_and_topic
    publisher = log.publisher()
    await publisher.start()
    with pytest.raises(MessageSizeTooLargeError):
        await publisher.publish(topic, 0, [(b"small", b"1"), (b"large", b"x" * LIMIT)])
    with pytest.raises(MessageSizeTooLargeError):
        await publisher.send(topic, 0, b"large", b"x" * LIMIT)
    await publisher.publish(topic, 0, [(b"small", b"2")])
    await publisher.stop()

    assert [value for _, _, value in await rows_of(log, topic)] == [b"2"]


async def test_a_tail_hands_on_what_is_written_and_a_paused_partition_waits(
    log_and_topic: tuple[Log, str],
) -> None:
    log, topic = log_and_topic
    seen: list[tuple[int, bytes]] = []

    def handle(_: str, partition: int, records: Sequence[Any]) -> None:
        seen.extend((partition, record.value) for record in records)

    async def until_seen(n: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(seen) < n:
                await asyncio.sleep(0.01)

    publisher, tail = log.publisher(), log.follow({topic: 2}, handle)
    await publisher.start()
    await publisher.publish(topic, 0, [(None, b"before")])
    await tail.start()
    await asyncio.wait_for(tail.caught_up.wait(), DEADLINE_S)
    assert seen == [(0, b"before")]
    tail.pause(topic, 0)
    await publisher.publish(topic, 0, [(None, b"while paused")])
    await publisher.publish(topic, 1, [(None, b"other")])
    await until_seen(2)
    assert seen[1:] == [(1, b"other")]
    assert tail.position(topic, 0) == 1
    tail.resume(topic, 0)
    await until_seen(3)
    assert seen[2:] == [(0, b"while paused")]
    assert tail.position(topic, 0) == 2
    await tail.stop()
    await publisher.stop()


def a_log() -> MemoryLog:
    return MemoryLog({"t": 1}, HandClock())


def test_compaction_keeps_the_last_record_of_a_key_and_the_offsets() -> None:
    log = a_log()
    log.append("t", 0, [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"b", None)])
    log.compact("t")
    assert [(r.offset, r.value) for r in log.records("t")] == [(2, b"3"), (3, None)]
    log.compact("t", tombstones=True)
    assert [(r.offset, r.value) for r in log.records("t")] == [(2, b"3")]
    assert log.end_offset("t", 0) == 4


def consumer_of(log: MemoryLog) -> MemoryConsumer:
    consumer = MemoryConsumer(log)
    consumer.assign([TP("t", 0)])
    return consumer


def test_a_batch_reaches_to_the_end_of_a_transaction_behind_its_last_record() -> None:
    log = a_log()
    log.append("t", 0, [(None, b"1")])
    log.skip("t", 0)
    batch = consumer_of(log).poll("t")
    assert batch is not None
    assert ([r.value for r in batch.records], batch.last_offset) == ([b"1"], 1)


def test_what_a_transaction_took_back_is_a_batch_without_records() -> None:
    log = a_log()
    log.skip("t", 0, 3)
    consumer = consumer_of(log)
    batch = consumer.poll("t")
    assert batch is not None
    assert (batch.records, batch.last_offset) == ([], 2)
    consumer.ledger.complete(batch.tp, batch.last_offset, batch.epoch)
    assert consumer.commit(["t"]) == {("t", 0): 3}
    assert consumer.commit(["t"]) == {}


def test_a_consumer_goes_on_where_the_group_has_committed() -> None:
    log = a_log()
    log.append("t", 0, [(None, b"%d" % n) for n in range(5)])
    first = consumer_of(log)
    done = first.poll("t", 2)
    first.poll("t", 1)
    assert done is not None
    first.ledger.complete(done.tp, done.last_offset, done.epoch)
    first.commit(["t"])
    second = consumer_of(log)
    batch = second.poll("t")
    assert batch is not None
    assert [record.offset for record in batch.records] == [2, 3, 4]


def test_an_abort_ends_one_worker_and_the_next_reads_past_it() -> None:
    log = a_log()
    log.append("t", 0, [(None, b"1")])
    assert log.abort("t", 0) == 1
    log.append("t", 0, [(None, b"2")])
    first = consumer_of(log)
    batch = first.poll("t")
    assert batch is not None
    assert batch.last_offset == 0
    with pytest.raises(Aborted, match=r"ABORT at offset 1 of t \[0\]"):
        first.poll("t")
    batch = consumer_of(log).poll("t")
    assert batch is not None
    assert ([r.value for r in batch.records], batch.last_offset) == ([b"1", b"2"], 2)


async def test_a_worker_that_is_to_die_writes_so_many_batches_and_no_more() -> None:
    log = a_log()
    publisher = log.publisher()
    await publisher.start()
    log.die_after(1)
    await publisher.publish("t", 0, [(None, b"1")])
    for _ in range(2):
        with pytest.raises(Aborted, match="died while it published"):
            await publisher.publish("t", 0, [(None, b"2")])
    log.revive()
    await publisher.publish("t", 0, [(None, b"3")])
    assert [record.value for record in log.records("t")] == [b"1", b"3"]
