"""Asks the broker where partitions end, over a connection that nothing else holds up."""

from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.options import aiokafka_client_options
from streams.settings import Settings


class EndOffsets:
    """A client that never fetches.

    A broker answers the requests of one connection one after another, and a fetch waits there for records.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None

    async def start(self) -> None:
        """Connect."""
        self._consumer = AIOKafkaConsumer(
            **aiokafka_client_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def of(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the next offset to be written to each of some partitions, by partition."""
        if self._consumer is None:
            raise RuntimeError("the client is not started")
        ends = await self._consumer.end_offsets([TopicPartition(topic, p) for p in partitions])
        return {tp.partition: offset for tp, offset in ends.items()}
