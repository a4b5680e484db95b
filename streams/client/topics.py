"""A client of slatestream over Kafka: asks for slates and reports what users do, many at a time."""

import asyncio
import time
from dataclasses import dataclass
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.events import (
    Click,
    Recommendation,
    Request,
    UserUpdate,
    decode_dead_letter,
    decode_recommendation,
    encode,
)
from streams.kafka.options import aiokafka_client_options
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import topic_name, topic_partitions
from streams.settings import Settings

POLL_MS = 200
ANSWER_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A slate, and the seconds from before the request was sent until the slate was read."""

    recommendation: Recommendation
    latency_s: float


class SlateClient:
    """Sends `requests`, `clicks` and `users`, and matches `recommendations` to who asked.

    Only slates and dead letters published after `start` are seen. Use one client per event loop.

    Attributes
    ----------
    dead_letters : dict of str to int
        How many records were refused since the start, by reason, whoever sent them.
    sent : int
        Records that the broker has confirmed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[str, tuple[bytes, float, asyncio.Future[Answer]]] = {}
        self._answers = topic_name(settings, "recommendations")
        self.dead_letters: dict[str, int] = {}
        self.sent = 0

    async def start(self) -> None:
        """Connect, and stand at the end of the topics that are read."""
        options = aiokafka_client_options(self._settings)
        self._producer = AIOKafkaProducer(**options, enable_idempotence=True)
        await self._producer.start()
        self._consumer = AIOKafkaConsumer(**options, group_id=None, enable_auto_commit=False)
        await self._consumer.start()
        partitions = [
            TopicPartition(topic_name(self._settings, name), p)
            for name in ("recommendations", "dead-letters")
            for p in range(topic_partitions(self._settings, name))
        ]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        # Seeking is lazy: without asking for the positions, what comes right after could be missed.
        for partition in partitions:
            await self._consumer.position(partition)
        self._reader = asyncio.create_task(self._read(self._consumer))

    async def stop(self) -> None:
        """Send what is buffered and disconnect; whoever still waits for a slate is cancelled."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for _, _, future in self._waiting.values():
            future.cancel()
        if self._consumer is not None:
            await self._consumer.stop()
        if self._producer is not None:
            await self._producer.stop()

    async def failed(self) -> None:
        """Wait until nothing can be read any more, and raise why."""
        if self._reader is None:
            raise RuntimeError("the client is not started")
        await self._reader

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def click(self, click: Click) -> int:
        """Publish an interaction; it has been acknowledged on return, so the next request sees it.

        Returns
        -------
        its offset in the user's partition
        """
        return await self._send("clicks", click.user_id, encode(click))

    async def user(self, update: UserUpdate) -> None:
        """Publish what a user states."""
        await self._send("users", update.user_id, encode(update))

    async def ask(self, request: Request, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
        """Ask for a slate and wait for it.

        Raises
        ------
        TimeoutError
            If no slate has come in time.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = (request.user_id.encode(), time.perf_counter(), future)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send("requests", request.user_id, encode(request))
                return await future
        finally:
            del self._waiting[request.request_id]

    async def _send(self, name: str, key: str, value: bytes) -> int:
        if self._producer is None:
            raise RuntimeError("the client is not started")
        partition = partition_of(key, topic_partitions(self._settings, name))
        topic = topic_name(self._settings, name)
        sent = await self._producer.send_and_wait(topic, value, key.encode(), partition=partition)
        self.sent += 1
        return int(sent.offset)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for partition, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                now = time.perf_counter()
                users = {user for user, _, _ in self._waiting.values()}
                for record in records:
                    if partition.topic == self._answers:
                        if record.key in users:  # others' slates need not be read
                            self._deliver(record.value, now)
                    else:
                        reason = decode_dead_letter(record.value).reason
                        self.dead_letters[reason] = self.dead_letters.get(reason, 0) + 1

    def _deliver(self, value: bytes, now: float) -> None:
        recommendation = decode_recommendation(value)
        _, asked, future = self._waiting.get(recommendation.request_id, (b"", 0.0, None))
        if future is not None and not future.done():
            future.set_result(Answer(recommendation, now - asked))
