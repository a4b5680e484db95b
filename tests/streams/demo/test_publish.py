import numpy as np

from model_core.data.datasets import Dataset, Interactions, Item, User
from streams.demo.publish import click_rows, content_rows, read_past, user_rows
from streams.events import decode_click, decode_content, decode_user
from streams.kafka.partitioner import partition_of
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name

DATASET = Dataset(
    "films",
    Interactions(
        np.array(["1", "2", "1"]),
        np.array(["7", "7", "8"]),
        np.array([5.0, 3.0, 4.0], np.float32),
        np.array([880_000_000_000, 880_000_001_000, 880_000_002_000]),
    ),
    [Item("7", "Alien (1979)", {"genre": ["Horror"]}, [("directed_by", "m.1")]), Item("8", "Heat (1995)")],
    [User("1", {"occupation": "writer"})],
)


def test_an_item_becomes_content_with_its_edges():
    rows = [(key, decode_content(value)) for key, value in content_rows(DATASET)]
    assert [key for key, _ in rows] == ["7", "8"]
    content = rows[0][1]
    assert (content.item_id, content.title) == ("7", "Alien (1979)")
    assert content.attributes == {"genre": ["Horror"]}
    assert content.triples == [("directed_by", "m.1")]


def test_a_user_becomes_an_update_with_their_attributes():
    [(key, value)] = user_rows(DATASET)
    assert (key, decode_user(value).attributes) == ("1", {"occupation": "writer"})


def test_ratings_of_four_and_five_are_likes_and_others_views():
    clicks = [decode_click(value) for _, value in click_rows(DATASET.interactions)]
    assert [click.action for click in clicks] == ["like", "view", "like"]
    assert [click.timestamp_ms for click in clicks] == [880_000_000_000, 880_000_001_000, 880_000_002_000]
    assert len({click.event_id for click in clicks}) == 3


async def test_what_was_published_is_the_past(kafka_settings):
    publisher = Publisher(kafka_settings)
    await publisher.start()
    try:
        rows = [*click_rows(DATASET.interactions), ("9", b"not a click")]
        assert await publish_rows(kafka_settings, publisher, "clicks", iter(rows)) == 4
    finally:
        await publisher.stop()
    past = await read_past(kafka_settings)
    assert sorted(past.events) == [("1", "7", "like"), ("1", "8", "like"), ("2", "7", "view")]
    assert past.latest_ms == 880_000_002_000
    partition = partition_of("1", kafka_settings.partitions)
    topic = topic_name(kafka_settings, "clicks")
    keys = [r.key async for batch in read_partition(kafka_settings, topic, partition) for r in batch]
    assert keys.count(b"1") == 2
