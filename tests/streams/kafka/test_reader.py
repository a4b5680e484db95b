"""Reading a partition to an end that is there no more, or by a consumer that fetches no more."""

import asyncio
from typing import Any, ClassVar

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaTimeoutError

from streams.kafka import reader
from streams.kafka.ends import EndOffsets
from streams.kafka.publisher import Publisher
from streams.kafka.reader import TailReader, read_partition
from streams.kafka.topics import topic_name
from streams.settings import Settings

TP = TopicPartition("t", 0)


class Cut:
    """Consumers of a partition that is cut from 5 records to 3 once it is read; first nobody answers."""

    ends: ClassVar[list[int | None]]

    def __init__(self, *_: object) -> None:
        self.at = 0

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    def assign(self, tps: list[TopicPartition]) -> None:
        """Read a partition."""

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.at = offset

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {TP: 0}

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        if (end := self.ends.pop(0)) is None:
            raise KafkaTimeoutError
        return {TP: end}

    async def position(self, tp: TopicPartition) -> int:
        return self.at

    async def getmany(self, *_: object, **__: object) -> dict[TopicPartition, Any]:
        await asyncio.sleep(0)
        read, self.at = list(range(self.at, 3)), 3
        return {TP: (read,)} if read else {}


async def test_a_partition_that_was_cut_is_read_to_where_it_ends_now(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Cut.ends = [5, None, 3]
    monkeypatch.setattr(reader, "_consumer", Cut)
    monkeypatch.setattr(reader, "fetch_columns", lambda consumer, damage: None)
    monkeypatch.setattr(reader, "SILENCE_S", 0.0)
    monkeypatch.setattr(reader, "AGAIN_S", 0.0)
    async with asyncio.timeout(30):
        found = [records async for records in read_partition(Settings(), "t", 0, patient=True)]
    assert found == [[0, 1, 2]]
    assert "t [0] is read up to 3 of 5: nothing comes" in caplog.text
    assert Cut.ends == []


class Deaf:
    """A fetch that never returns, as often as there are any left; all others are as they are."""

    def __init__(self, left: int) -> None:
        self.left = left
        self._fetch = Fetcher._proc_fetch_request

    async def __call__(self, fetcher: Fetcher, *request: object) -> object:
        if self.left:
            self.left -= 1
            await asyncio.Event().wait()
        return await self._fetch(fetcher, *request)


class Ended(Deaf):
    """A fetch that ends the task that fetches."""

    async def __call__(self, fetcher: Fetcher, *request: object) -> object:
        if self.left:
            self.left -= 1
            raise ValueError("as no fetch ends")
        return await self._fetch(fetcher, *request)


@pytest.mark.parametrize("fault", [Deaf(2), Ended(2)], ids=["a fetch that hangs", "a fetch that ends all"])
async def test_a_consumer_that_fetches_no_more_is_followed_by_another(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: Deaf
) -> None:
    topic = topic_name(kafka_settings, "clicks")
    publisher = Publisher(kafka_settings)
    await publisher.start()
    await publisher.publish(topic, 0, [(b"k", b"%d" % n) for n in range(5)])
    await publisher.stop()
    monkeypatch.setattr(reader, "SILENCE_S", 0.3)

    async def fetch(fetcher: Fetcher, *request: object) -> object:
        return await fault(fetcher, *request)

    monkeypatch.setattr(Fetcher, "_proc_fetch_request", fetch)
    async with asyncio.timeout(60):
        found = [
            row.value async for some in read_partition(kafka_settings, topic, 0, patient=True) for row in some
        ]
    assert found == [b"0", b"1", b"2", b"3", b"4"]
    assert fault.left == 0


async def test_who_follows_a_topic_passes_what_is_taken_back_at_its_end(kafka_settings: Settings) -> None:
    topic = topic_name(kafka_settings, "clicks")
    publisher = Publisher(kafka_settings, transactional_id=f"{kafka_settings.group_id}-taken-back")
    await publisher.start()
    async with publisher.transaction():
        await publisher.publish(topic, 0, [(b"k", b"kept")])
    await publisher.fence(topic, 0)  # by transactions without a record
    await publisher.stop()
    ends = EndOffsets(kafka_settings)
    await ends.start()
    found: list[Any] = []
    follower = TailReader(kafka_settings, {topic: 1}, lambda topic, partition, rows: found.extend(rows))
    await follower.start()
    try:
        end = (await ends.of(topic, [0]))[0]
        async with asyncio.timeout(60):
            while follower.position(topic, 0) < end:
                await asyncio.sleep(0.01)
    finally:
        await follower.stop()
        await ends.stop()
    assert [row.value for row in found] == [b"kept"]
    assert end > 2
