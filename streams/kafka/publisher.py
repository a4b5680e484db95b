"""Publishing: rows for one partition go out as whole record batches and come back confirmed."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    ProducerFenced,
    UnknownError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.errors import Fenced, OwnershipLost
from streams.kafka.closing import closed
from streams.kafka.options import aiokafka_client_options
from streams.kafka.packed_rows import PackedBatch, PackedRows, Row
from streams.kafka.produce_codec import QuickProduceRequest
from streams.kafka.producer_patches import (
    NOT_OURS,
    Failed,
    Identity,
    IdentityOf,
    Unconfirmed,
    look_up_again,
    patch,
    unnoticed,
)
from streams.settings import Settings

__all__ = ["BATCH_BYTES", "MAX_REQUEST_BYTES", "Publisher", "Row"]

BATCH_BYTES = 512 * 1024
# What one request may weigh: a single row above BATCH_BYTES still travels, in a batch of its own.
MAX_REQUEST_BYTES = 2 * 1024 * 1024

REQUEST_TIMEOUT_S = 40.0

Batch: TypeAlias = BatchBuilder | PackedBatch

log = logging.getLogger(__name__)

sender.ProduceRequest = QuickProduceRequest  # for every producer of the process: it does what aiokafka's does


class Publisher:
    """An idempotent producer (acks=all) that works in batches.

    Rows published to one partition by successive calls keep their order.

    Parameters
    ----------
    transactional_id : given, everything is published within `transaction`
    identity : as whom rows of a partition are published, asked right before they go out; while it is None,
        they fail with OwnershipLost. By default the publisher is somebody of its own.
    failed : called with the topic each time that the broker does not take rows: what can be tried again is,
        for as long as it takes
    timeout_s : how long one try waits for the broker
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transactional_id: str | None = None,
        identity: IdentityOf | None = None,
        failed: Failed = unnoticed,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._transactional_id = transactional_id
        self._identity_of = identity
        self._failed = failed
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._unconfirmed: Unconfirmed | None = None

    async def start(self) -> None:
        """Connect, or leave nothing open."""
        self._producer = AIOKafkaProducer(
            **aiokafka_client_options(self._settings),
            enable_idempotence=True,
            transactional_id=self._transactional_id,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=int(1000 * self._timeout_s),
        )
        look_up_again(self._producer)
        try:
            await self._producer.start()
        except BaseException:
            await self.stop()
            raise
        self._unconfirmed = patch(self._producer, identity=self._identity_of, failed=self._failed)

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            await closed(producer.stop())
        except ProducerFenced:  # a transaction on its way has been refused; nobody waits for it any more
            await closed(producer.client.close())

    @property
    def producer(self) -> AIOKafkaProducer:
        """The connected producer."""
        if self._producer is None:
            raise RuntimeError("the publisher is not started")
        return self._producer

    @property
    def identity(self) -> Identity:
        """Identity of the producer; each start under a transactional id gives it a newer epoch."""
        manager = self.producer._txn_manager
        return Identity(manager.producer_id, manager.producer_epoch)

    async def fence(self, topic: str, partition: int) -> None:
        """Have a partition refuse rows of this transactional id's former identities.

        A partition knows the newest epoch of what has been written to it. So an empty transaction is taken
        back, which leaves a mark there that no reader sees. The next can begin only when the mark is written.

        Raises
        ------
        aiokafka.errors.ProducerFenced
            If another publisher has the transactional id by now.
        """
        for _ in ("the mark", "and that it is written"):
            await self.producer.begin_transaction()
            self.producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, partition))
            await self.producer.abort_transaction()

    def take_back(self, topic: str, partition: int) -> None:
        """Send nothing more of what was published to a partition until now; it fails with OwnershipLost.

        What a broker confirms all the same is not taken back. Later rows need another identity.
        """
        if self._unconfirmed is not None:
            self._unconfirmed.take_back(topic, partition)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Publish what the body publishes as a whole, or nothing of it when the body fails."""
        async with self.producer.transaction():
            yield

    async def publish(self, topic: str, partition: int, rows: Collection[Row]) -> int:
        """Publish rows in order; return the offset of the last one once the broker has confirmed all.

        A broker that does not answer is waited for.

        Raises
        ------
        Fenced
            If another worker has fenced the partition, or a broker has failed in a way that it cannot name:
            what is written of it is then known only from the log.
        OwnershipLost
            If another worker may have fenced it.
        aiokafka.errors.KafkaError
            If the broker refuses a row: nothing may be committed then.
        """
        futures: list[asyncio.Future[Any]] = []
        count = 0
        now_ms = int(time.time() * 1000)
        for batch in self._batches(topic, rows, now_ms):
            if futures:
                await asyncio.sleep(0)  # a batch of thousands of rows is enough for one turn of the loop
            futures.append(await self._taken(topic, partition, partial(self._send, batch, topic, partition)))
            count = batch.record_count()
        if not futures:
            return -1
        with self._told(topic):
            sent = [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)
        return int(sent[-1].offset + count - 1)

    def _batches(self, topic: str, rows: Iterable[Row], now_ms: int) -> Iterator[Batch]:
        if not isinstance(rows, PackedRows):
            yield from self._built(topic, rows, now_ms)
            return
        yield from self._built(topic, rows.before, now_ms)
        yield from rows.batches(BATCH_BYTES, now_ms, transactional=self._transactional_id is not None)
        yield from self._built(topic, rows.after, now_ms)

    def _built(self, topic: str, rows: Iterable[Row], now_ms: int) -> Iterator[BatchBuilder]:
        batch = self.producer.create_batch()
        for key, value in rows:
            if batch.append(timestamp=now_ms, key=key, value=value) is None:
                yield batch
                batch = self.producer.create_batch()
                if batch.append(timestamp=now_ms, key=key, value=value) is None:
                    raise ValueError(f"a row of {len(value or b'')} bytes for {topic} exceeds {BATCH_BYTES}")
        if batch.record_count():
            yield batch

    async def send(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Publish one row together with others sent at the same time; return its confirmed offset."""
        hand_over = partial(self.producer.send, topic, value, key, partition=partition)
        future = await self._taken(topic, partition, hand_over)
        with self._told(topic):
            return int((await future).offset)

    async def _send(self, batch: Batch, topic: str, partition: int) -> "asyncio.Future[Any]":
        batch.close()
        sent: asyncio.Future[Any] = await self.producer.send_batch(batch, topic, partition=partition)
        if isinstance(batch, PackedBatch):
            sent.add_done_callback(partial(_let_go, batch))
        return sent

    async def _taken(
        self, topic: str, partition: int, hand_over: Callable[[], Awaitable["asyncio.Future[Any]"]]
    ) -> "asyncio.Future[Any]":
        """Hand rows to the producer, which has room for one batch of a partition that is not on its way."""
        while True:
            if self._identity_of is not None and self._identity_of(partition) is None:
                raise OwnershipLost(NOT_OURS)
            try:
                with self._told(topic):
                    return await hand_over()
            # Nothing of it is with the producer, so it may be handed over again. A broker that has just
            # started knows no topics for a while.
            except (KafkaTimeoutError, UnknownTopicOrPartitionError):
                log.warning("%s: the broker has taken nothing for %.0f s; waiting", topic, self._timeout_s)

    @contextmanager
    def _told(self, topic: str) -> Iterator[None]:
        """Tell of an error of the broker's; that a publisher with an identity is fenced is none.

        One with an identity loses the partition by an error without a name as well: it is restored.
        """
        try:
            yield
        except ProducerFenced as error:
            if self._identity_of is None:
                raise
            raise Fenced(f"{topic}: another worker publishes to the partition now") from error
        except KafkaError as error:
            self._failed(topic)
            error.args = error.args or (topic,)  # brokers' errors do not say what they are about
            if self._identity_of is not None and type(error) is UnknownError:
                raise Fenced(f"{topic}: a fault of the broker; the log says what is written") from error
            raise

    async def publish_all(self, rows: Iterable[tuple[str, int, Row]]) -> None:
        """Publish rows of several (topic, partition) pairs at once."""
        grouped: dict[tuple[str, int], list[Row]] = defaultdict(list)
        for topic, partition, row in rows:
            grouped[topic, partition].append(row)
        await asyncio.gather(*(self.publish(*target, group) for target, group in grouped.items()))


def _let_go(batch: PackedBatch, sent: "asyncio.Future[Any]") -> None:
    # Where nobody waits any more, or it has failed, it may still be on its way.
    if not sent.cancelled() and sent.exception() is None:
        batch.let_go()
