"""Replaying: a record that was refused goes to its topic again, as it was or mended."""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from streams.dead_letters.log import Held
from streams.decoding.records import NULL_KEY, NULL_VALUE
from streams.decoding.refusals import refused
from streams.events import UNDECODABLE
from streams.kafka.columns import Record
from streams.kafka.partitioner import partition_of
from streams.kafka.publisher import MAX_REQUEST_BYTES, Publisher, Row
from streams.kafka.topics import topic_name, topic_partitions
from streams.mapping.intake import refused_of_source, source_of
from streams.settings import Settings

INPUTS = ("clicks", "content", "users", "requests")


def input_of(settings: Settings, topic: str) -> str | None:
    """Return which input a topic of the broker is, or feeds; None when it is none of these settings."""
    ours = (name for name in INPUTS if topic_name(settings, name) == topic)
    source = source_of(settings, topic)
    return next(ours, None if source is None else source.feeds)


def why_not(settings: Settings, held: Held) -> str | None:
    """Say why a letter cannot be replayed as it is; None when it can."""
    letter = held.letter
    if input_of(settings, letter.topic) is None:
        return f"{letter.topic} is no input topic of these settings"
    if letter.truncated:
        return "only the beginning of its value was kept: give the whole with --value"
    if letter.reason in (NULL_VALUE, NULL_KEY):
        return "its value was null, so there is nothing to replay: give a value with --value"
    return None


def refusal(
    settings: Settings, topic: str, value: bytes, now_ms: int, *, key: bytes | None = None
) -> str | None:
    """Say why a worker would refuse a value on a topic of the broker now; None when it would take it.

    What only shows when a record is used (an image that cannot be decoded, a row too large) is not seen here.
    """
    name = input_of(settings, topic)
    if name is None:
        raise ValueError(f"topic must be an input topic of these settings, got {topic!r}")
    if len(value) > MAX_REQUEST_BYTES:
        return f"too_large: a record has at most {MAX_REQUEST_BYTES:,} bytes, got {len(value):,}"
    source = source_of(settings, topic)
    if source is None:
        return refused(settings, name, value, now_ms)
    return refused_of_source(settings, source, Record(topic, 0, 0, now_ms, key, value))


def key_of(name: str, held: Held, value: bytes) -> bytes | None:
    """Return the key that a record of an input should have: the id in its value, where it says one."""
    try:
        said = msgspec.json.decode(value)
        named = said.get("item_id" if name == "content" else "user_id") if isinstance(said, dict) else None
    except UNDECODABLE:
        named = None
    return named.encode() if isinstance(named, str) and named else held.key


async def replay(settings: Settings, chosen: Iterable[tuple[Held, bytes]]) -> int:
    """Publish values in the place of their letters' records; return how many the broker has confirmed.

    A record goes to the partition of its key; one that has none, or whose topic others write by rules of
    their own, goes to where it was.
    """
    rows: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for held, value in chosen:
        letter = held.letter
        name = input_of(settings, letter.topic)
        if name is None:
            raise ValueError(f"letter {held.number} must be of an input topic, got {letter.topic!r}")
        if source_of(settings, letter.topic) is not None:
            rows[letter.topic, letter.partition].append((held.key, value))
            continue
        key = key_of(name, held, value)
        rows[letter.topic, _partition(settings, name, key, letter.partition)].append((key, value))
    publisher = Publisher(settings)
    await publisher.start()
    try:
        for (topic, partition), group in rows.items():
            await publisher.publish(topic, partition, group)
    finally:
        await publisher.stop()
    return sum(map(len, rows.values()))


def _partition(settings: Settings, name: str, key: bytes | None, was: int) -> int:
    count = topic_partitions(settings, name)
    try:
        return partition_of(key.decode(), count) if key else min(was, count - 1)
    except UnicodeDecodeError:
        return min(was, count - 1)
