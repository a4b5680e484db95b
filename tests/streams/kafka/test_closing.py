import asyncio
import contextlib

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.closing import closed
from streams.kafka.options import aiokafka_client_options
from streams.kafka.topics import topic_name
from streams.settings import Settings


async def test_who_is_cancelled_while_a_client_closes_ends_and_the_client_closes() -> None:
    begun, shut = asyncio.Event(), asyncio.Event()

    async def close() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):  # as aiokafka's clients wait for their own tasks
            await shut.wait()
        gone.set()

    gone = asyncio.Event()
    work = asyncio.create_task(closed(close()))
    await begun.wait()
    work.cancel()

    with pytest.raises(asyncio.CancelledError):
        await work
    assert not gone.is_set()
    shut.set()
    await asyncio.wait_for(gone.wait(), 10)


async def test_what_a_client_raises_while_it_closes_is_raised() -> None:
    async def close() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await closed(close())


async def test_a_fetch_that_waits_to_be_tried_again_cancels_nobody_and_leaves_nothing_open(
    kafka_settings: Settings,
) -> None:
    options = aiokafka_client_options(kafka_settings)
    consumer = AIOKafkaConsumer(**options, group_id=None, fetch_max_wait_ms=30_000)
    await consumer.start()
    clicks = TopicPartition(topic_name(kafka_settings, "clicks"), 0)
    consumer.assign([clicks])
    await consumer.seek_to_beginning()
    await consumer.position(clicks)
    consumer._fetcher._retry_backoff = 600

    def waits(task: "asyncio.Task[object]") -> bool:
        """Whether a fetch has failed: it is in its pause then, a sleep."""
        inner = task.get_coro()
        while getattr(inner, "cr_await", None) is not None:
            inner = inner.cr_await
            if getattr(inner, "__name__", "") == "sleep":
                return True
        return False

    async with asyncio.timeout(60):
        while not any(map(waits, consumer._fetcher._pending_tasks)):
            for connection in list(consumer._client._conns.values()):
                connection.close()  # as a broker's end does
            await asyncio.sleep(0.05)
        await closed(consumer.stop())
    assert not any(connection.connected() for connection in consumer._client._conns.values())
