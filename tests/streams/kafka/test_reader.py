"""Reading a partition to an end that is there no more."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from streams.kafka import reader
from streams.kafka.reader import read_partition
from streams.settings import Settings

TP = TopicPartition("t", 0)


class Cut:
    """A consumer of a partition that is cut from 5 records to 3 once it is read; first nobody answers."""

    def __init__(self, *_: object) -> None:
        self.at = 0
        self.ends: list[int | None] = [5, None, 3]

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
    monkeypatch.setattr(reader, "_consumer", Cut)
    monkeypatch.setattr(reader, "fetch_columns", lambda consumer: None)
    monkeypatch.setattr(reader, "SILENCE_S", 0.0)
    async with asyncio.timeout(30):
        found = [records async for records in read_partition(Settings(), "t", 0)]
    assert found == [[0, 1, 2]]
    assert "t [0] is read up to 3 of 5: nothing comes" in caplog.text
