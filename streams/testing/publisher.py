"""A publisher to a log in memory."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.errors import Fenced, OwnershipLost
from streams.kafka.producer_patches import NOT_OURS, Failed, Identity, IdentityOf, unnoticed
from streams.kafka.publisher import Row
from streams.testing.source import Source


class MemoryPublisher:
    """As `streams.kafka.publisher.Publisher`: the same batches, so the same are refused."""

    def __init__(
        self,
        log: Source,
        *,
        transactional_id: str | None = None,
        identity: IdentityOf | None = None,
        failed: Failed = unnoticed,
    ) -> None:
        self._log = log
        self._failed = failed
        self._identity_of = identity
        self._id = transactional_id
        self.identity = Identity(-1, -1)
        self._held: list[tuple[str, int, Sequence[Row], int]] | None = None  # of the open transaction
        self._started = False

    async def start(self) -> None:
        """Begin to take rows; a publisher of the same transactional id is fenced from now on."""
        self._started = True
        if self._id is not None:
            self.identity = self._log.identify(self._id)

    async def fence(self, topic: str, partition: int, /) -> None:
        """Have a partition refuse rows of this transactional id's former identities."""
        self._log.fence(topic, partition, self.identity)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Publish what the body publishes as a whole, or nothing of it when the body fails."""
        self._held = []
        try:
            yield
            self._log.write_all(self._held, self.identity)
        finally:
            self._held = None

    async def stop(self) -> None:
        """Take no more rows."""
        self._started = False

    async def publish(self, topic: str, partition: int, rows: Collection[Row], /) -> int:
        """Publish rows in order; return the offset of the last one, -1 of none.

        Raises
        ------
        aiokafka.errors.KafkaError
            If a batch is refused; batches before and after it may have been written all the same.
        """
        refused: KafkaError | None = None
        last = -1
        for batch, nbytes in self._batches(rows):
            await asyncio.sleep(0)
            try:
                last = self._write(topic, partition, batch, nbytes)
            except KafkaError as error:
                self._failed(topic)
                refused = refused or error
        await asyncio.sleep(0)
        if refused is not None:
            raise refused
        return last

    def take_back(self, topic: str, partition: int) -> None:
        """Nothing waits in memory: what was published is on the log."""

    async def send(self, topic: str, partition: int, key: bytes | None, value: bytes, /) -> int:
        """Publish one row; return its offset."""
        return await self.publish(topic, partition, [(key, value)])

    async def publish_all(self, rows: Iterable[tuple[str, int, Row]], /) -> None:
        """Publish rows of several (topic, partition) pairs at once."""
        grouped: dict[tuple[str, int], list[Row]] = defaultdict(list)
        for topic, partition, row in rows:
            grouped[topic, partition].append(row)
        await asyncio.gather(*(self.publish(*target, group) for target, group in grouped.items()))

    def _write(self, topic: str, partition: int, batch: Sequence[Row], nbytes: int) -> int:
        if not self._started:
            raise RuntimeError("the publisher is not started")
        identity = None
        if self._identity_of is not None and (identity := self._identity_of(partition)) is None:
            raise OwnershipLost(NOT_OURS)
        if self._held is not None:
            self._log.check_size(topic, nbytes)
            self._held.append((topic, partition, batch, nbytes))
            return -1
        try:
            return self._log.write(topic, partition, batch, nbytes, identity)
        except ProducerFenced as error:
            raise Fenced(f"{topic}: another worker publishes to the partition now") from error

    def _batches(self, rows: Collection[Row]) -> list[tuple[list[Row], int]]:
        """Cut rows into batches, each with its bytes on the wire."""
        batches: list[tuple[list[Row], int]] = []
        builder, held = BatchBuilder(self._log.batch_bytes, 0), list[Row]()
        for key, value in rows:
            if builder.append(timestamp=0, key=key, value=value) is None:
                batches.append((held, builder.size()))
                builder, held = BatchBuilder(self._log.batch_bytes, 0), []
                builder.append(timestamp=0, key=key, value=value)
            held.append((key, value))
        if held:
            batches.append((held, builder.size()))
        return batches
