"""Which topics there are, asked of the real broker by our own bytes."""

from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import IncompatibleBrokerVersion

from streams.kafka.ends import EndOffsets
from streams.kafka.layout import request
from streams.kafka.quick_requests import number, varint
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import topic_name, topic_names


@asynccontextmanager
async def asking(settings):
    ends = EndOffsets(settings)
    await ends.start()
    try:
        yield ends
    finally:
        await ends.stop()


async def test_topics_have_an_id_and_partitions_and_those_that_are_missing_are_left_out(kafka_settings):
    names = topic_names(kafka_settings)
    async with asking(kafka_settings) as ends:
        found = await ends.layout([*names.values(), "no-such-topic"])
        assert found is not None
        assert set(found) == set(names.values())
        assert len({topic.id for topic in found.values()}) == len(names)
        assert found[names["clicks"]].partitions == kafka_settings.partitions
        assert found[names["dead-letters"]].partitions == 1
        assert await ends.layout(list(names.values())) == found


async def test_a_topic_that_is_deleted_and_made_anew_has_another_id(kafka_settings):
    clicks = topic_name(kafka_settings, "clicks")
    async with asking(kafka_settings) as ends:
        before = (await ends.layout([clicks]))[clicks]
        with admin_client(kafka_settings) as admin:
            admin.delete_topics([clicks])
        while clicks in await ends.layout([clicks]):
            pass
        create_topics(kafka_settings)
        while clicks not in (after := await ends.layout([clicks])):
            pass
    assert after[clicks].id != before.id
    assert after[clicks].partitions == before.partitions


def test_a_broker_that_is_too_old_is_not_asked():
    with pytest.raises(IncompatibleBrokerVersion, match="from 0 to 8, got 11"):
        request(["clicks"]).prepare({3: (0, 8)})


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**21])
def test_a_varint_is_read_as_it_was_written(value):
    data = varint(value)
    assert number(memoryview(data), 0) == (value, len(data))
