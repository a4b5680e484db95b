import asyncio

import pytest

from streams.client import SlateClient
from streams.events import Click, Recommendation, Request, SlateItem, decode_click, decode_request, encode
from streams.kafka.partitioner import partition_of
from streams.kafka.publisher import Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name


def slate(request: Request) -> bytes:
    return encode(
        Recommendation(
            request.request_id, request.user_id, [SlateItem("i1", 0, 1.0, 1.0)], "greedy", 3, "exact", "v1",
            b"", 0, request.timestamp_ms, 0.1,
        )
    )  # fmt: skip


async def answer_one(settings, publisher: Publisher) -> Request:
    """Play the worker for one request."""
    topic = topic_name(settings, "requests")
    while True:
        for partition in range(settings.partitions):
            async for records in read_partition(settings, topic, partition):
                request = decode_request(records[0].value)
                row = (request.user_id.encode(), slate(request))
                await publisher.publish(topic_name(settings, "recommendations"), partition, [row])
                return request


async def test_an_answer_finds_who_asked(kafka_settings):
    publisher = Publisher(kafka_settings)
    await publisher.start()
    try:
        async with SlateClient(kafka_settings) as client, asyncio.timeout(120):
            asked = Request("r1", "u1", 1_700_000_000_000, k=1)
            answer, seen = await asyncio.gather(client.ask(asked), answer_one(kafka_settings, publisher))
            assert seen == asked
            assert answer.recommendation.slate[0].item_id == "i1"
            assert 0 < answer.latency_s < 30
            assert client.sent == 1
    finally:
        await publisher.stop()


async def test_a_lost_answer_is_a_timeout_and_no_hang(kafka_settings):
    async with SlateClient(kafka_settings) as client, asyncio.timeout(120):
        with pytest.raises(TimeoutError):
            await client.ask(Request("r1", "u1", 1_700_000_000_000), timeout_s=0.2)


async def test_a_click_has_been_acknowledged_when_it_returns(kafka_settings):
    click = Click("e1", "u1", "i1", "click", 1_700_000_000_000)
    async with SlateClient(kafka_settings) as client, asyncio.timeout(120):
        await client.click(click)
        topic = topic_name(kafka_settings, "clicks")
        partition = partition_of("u1", kafka_settings.partitions)
        found = [
            record async for batch in read_partition(kafka_settings, topic, partition) for record in batch
        ]
    assert [decode_click(record.value) for record in found] == [click]
    assert found[0].key == b"u1"
