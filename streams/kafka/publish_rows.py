"""Publishes keyed rows in bulk, each to the partition of its key."""

from collections.abc import Callable, Iterator
from itertools import islice

from streams.kafka.partitioner import partitions_of
from streams.kafka.publisher import Publisher, Row
from streams.kafka.topics import topic_name, topic_partitions
from streams.settings import Settings

CHUNK = 5_000
"""Rows that are made and sent together."""


async def publish_rows(
    settings: Settings,
    publisher: Publisher,
    name: str,
    rows: Iterator[tuple[str, bytes | None]],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Publish keyed rows to the topic called `name` in order and return how many there were."""
    topic, partitions = topic_name(settings, name), topic_partitions(settings, name)
    total = 0
    while chunk := list(islice(rows, CHUNK)):
        where = partitions_of([key for key, _ in chunk], partitions).tolist()
        placed: list[tuple[str, int, Row]] = [
            (topic, partition, (key.encode(), value))
            for partition, (key, value) in zip(where, chunk, strict=True)
        ]
        await publisher.publish_all(placed)
        total += len(chunk)
        progress(total)
    return total
