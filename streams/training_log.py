"""What training reads from the topics: interactions from `clicks`, items from `content`."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from model_core.datasets import Dataset, Interactions, Item
from streams.events import decode_click, decode_content
from streams.media import MediaEncoders
from streams.settings import Settings
from streams.topic_reader import read_partition
from streams.topics import topic_name, topic_partitions


def read_topics(settings: Settings) -> tuple[Dataset, list[str]]:
    """Read everything that `clicks` and `content` hold now: a dataset, and the action of each interaction.

    Rows that cannot be decoded, whose action is unknown, or that repeat an event id are left out, as the
    worker leaves them out. Items that were deleted keep their clicks, with their id for a title.
    """
    clicks = asyncio.run(_read(settings, "clicks"))
    contents = asyncio.run(_read(settings, "content"))
    media = MediaEncoders(settings)
    items: dict[str, Item] = {}
    for key, value in contents:
        if value is None:
            items.pop((key or b"").decode(errors="replace"), None)
            continue
        try:
            content = decode_content(value)
        except msgspec.MsgspecError:
            continue
        try:
            image, audio = media.image(content.image), media.audio(content.audio)
        except ValueError:
            continue
        items[content.item_id] = Item(
            content.item_id,
            content.title,
            content.attributes,
            list(content.triples),
            content.text,
            image,
            audio,
        )
    return _dataset(settings, (value for _, value in clicks if value is not None), items)


def _dataset(
    settings: Settings, clicks: Iterable[bytes], items: dict[str, Item]
) -> tuple[Dataset, list[str]]:
    rows: dict[str, tuple[int, str, str, str]] = {}
    for value in clicks:
        try:
            click = decode_click(value)
        except msgspec.MsgspecError:
            continue
        if click.action in settings.actions:
            rows.setdefault(click.event_id, (click.timestamp_ms, click.user_id, click.item_id, click.action))
    if not rows:
        raise ValueError("clicks must hold at least one valid event, got none")
    ordered = sorted(rows.values(), key=lambda row: row[0])
    times, users, names, actions = zip(*ordered, strict=True)
    for name in dict.fromkeys(names):
        items.setdefault(name, Item(name, name))
    interactions = Interactions(
        np.array(users, np.str_),
        np.array(names, np.str_),
        np.full(len(rows), np.nan, np.float32),
        np.array(times, np.int64),
    )
    return Dataset("topics", interactions, list(items.values()), []), list(actions)


async def _read(settings: Settings, name: str) -> list[tuple[bytes | None, bytes | None]]:
    topic = topic_name(settings, name)
    rows: list[tuple[Any, Any]] = []
    for partition in range(topic_partitions(settings, name)):
        async for records in read_partition(settings, topic, partition):
            rows.extend((record.key, record.value) for record in records)
    return rows
