"""What aiokafka's producer does by itself, and what it does when patched."""

import asyncio
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.producer.sender import Sender

from streams.errors import OwnershipLost
from streams.kafka.producer_patches import look_up_again
from streams.kafka.publisher import Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topic_admin import create_topics
from streams.kafka.topics import topic_name
from streams.settings import Settings, load_settings
from tests.chaos.cluster import Cluster


def cut_off_twice() -> Any:
    """A client whose connection breaks twice while it asks who coordinates."""
    answers: list[Any] = [KafkaConnectionError("closed"), KafkaConnectionError("closed"), 7]

    async def lookup(*_: object) -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    async def ready(*_: object, **__: object) -> bool:
        return True

    return SimpleNamespace(coordinator_lookup=lookup, ready=ready, force_metadata_update=ready)


async def coordinator(client: Any) -> Any:
    manager: Any = SimpleNamespace(transactional_id="t")
    sender = Sender(
        client, acks=-1, txn_manager=manager, message_accumulator=None, retry_backoff_ms=1,
        request_timeout_ms=1_000,
    )  # fmt: skip
    return await sender._find_coordinator(CoordinationType.TRANSACTION, "t")


async def test_a_connection_that_breaks_at_the_wrong_moment_ends_no_producer() -> None:
    with pytest.raises(KafkaError, match="closed"):
        await coordinator(cut_off_twice())
    producer: Any = SimpleNamespace(client=cut_off_twice())
    look_up_again(producer)
    assert await coordinator(producer.client) == 7


async def values(settings: Settings, topic: str, partition: int) -> list[bytes]:
    return [bytes(one.value) async for some in read_partition(settings, topic, partition) for one in some]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_is_taken_back_is_not_sent_again_and_the_rest_goes_out_once() -> None:
    with Cluster(wires=1) as cluster:
        prefix = f"t{uuid.uuid4().hex[:8]}."
        direct = load_settings(
            bootstrap_servers=cluster.broker.bootstrap_servers, topic_prefix=prefix, partitions=2
        )
        create_topics(direct)
        topic, (wire,) = topic_name(direct, "recommendations"), cluster.wires
        through = direct.model_copy(update={"bootstrap_servers": f"127.0.0.1:{wire.port}"})
        writer = Publisher(direct, transactional_id=prefix)
        await writer.start()
        publisher = Publisher(through, identity=lambda _: writer.identity, timeout_s=2)
        await publisher.start()
        on_their_way = publisher.producer._message_accumulator._pending_batches

        def publish(partition: int, value: bytes) -> "asyncio.Task[int]":
            return asyncio.create_task(publisher.publish(topic, partition, [(b"u", value)]))

        try:
            assert [await publish(0, b"a"), await publish(1, b"b")] == [0, 0]
            for answers_only in (False, True):  # the broker never has it; it has it, and nobody is told
                wire.cut(answers_only=answers_only)
                lost, kept = publish(0, b"lost"), publish(1, b"kept")
                await until(lambda: len(on_their_way) == 2)
                publisher.take_back(topic, 0)
                await writer.stop()
                await writer.start()  # whoever has the partition then has a newer epoch
                waiting = publish(0, b"after")
                wire.mend(reset=True)
                with pytest.raises(OwnershipLost):
                    await asyncio.wait_for(lost, 60)
                await asyncio.wait_for(asyncio.gather(kept, waiting), 60)
        finally:
            await publisher.stop()
            await writer.stop()
        assert await values(direct, topic, 1) == [b"b", b"kept", b"kept"]
        assert [one for one in await values(direct, topic, 0) if one != b"lost"] == [b"a", b"after", b"after"]
        assert (await values(direct, topic, 0)).count(b"lost") == 1  # that which the broker had
