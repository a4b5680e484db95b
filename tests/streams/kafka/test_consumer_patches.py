"""Offsets of topics that are no more, committed on a real broker."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from streams.kafka.consumer_patches import commit_without_deleted, tell_when_coordination_ends
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import topic_name
from streams.settings import Settings


async def gone(settings: Settings, topic: str) -> None:
    with admin_client(settings) as admin:
        admin.delete_topics([topic])
        async with asyncio.timeout(60):
            while topic in admin.list_topics():
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("patched", [False, True], ids=["as aiokafka does it", "patched"])
async def test_a_commit_with_a_deleted_topic_is_repeated_for_ever_unless_patched(
    kafka_settings: Settings, patched: bool
) -> None:
    deleted, kept = (TopicPartition(topic_name(kafka_settings, name), 0) for name in ("content", "clicks"))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_settings.bootstrap_servers,
        group_id=kafka_settings.group_id,
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([deleted, kept])
        tried, commit = [], consumer._coordinator._do_commit_offsets

        async def counted(*arguments: object) -> None:
            try:
                await commit(*arguments)
            except UnknownTopicOrPartitionError:
                tried.append(arguments)
                raise

        consumer._coordinator._do_commit_offsets = counted
        if patched:
            commit_without_deleted(consumer)
        await gone(kafka_settings, deleted.topic)
        at = OffsetAndMetadata(0, "")
        committing = asyncio.create_task(consumer.commit({deleted: at, kept: at}))
        async with asyncio.timeout(60):
            while not (committing.done() if patched else len(tried) > 2):
                await asyncio.sleep(0.01)
        assert committing.done() == patched
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        assert await consumer.committed(kept) == 0
    finally:
        await consumer.stop()
        create_topics(kafka_settings)  # the fixture deletes them all


async def test_what_ends_the_task_that_keeps_a_consumer_in_its_group_is_told() -> None:
    async def coordinates(error: Exception) -> None:
        raise error

    told: list[BaseException] = []
    error = ValueError("what no answer says")
    for work in (coordinates(error), asyncio.sleep(0), asyncio.sleep(60)):
        task = asyncio.ensure_future(work)
        consumer = SimpleNamespace(_coordinator=SimpleNamespace(_coordination_task=task))
        tell_when_coordination_ends(consumer, told.append)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    await asyncio.sleep(0)
    assert told == [error]
