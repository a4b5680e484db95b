"""Reads training data from the topics: interactions, items of `content`, and attributes of `users`."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from model_core.data.datasets import Dataset, Interactions, Item, User
from streams.decoding.records import broker_time
from streams.durability.held_clicks import HeldClicks
from streams.events import UNDECODABLE, decode_click, decode_content, decode_user
from streams.items.media import MediaEncoders
from streams.kafka.columns import Record
from streams.kafka.reader import read_partition
from streams.kafka.topic_admin import check_topics
from streams.kafka.topics import topic_partitions, topics_of_worker
from streams.mapping.intake import as_ours
from streams.settings import Settings

Row = tuple[bytes | None, bytes | None, int]
"""Key, value, and the broker's time in ms."""


def read_topics(
    settings: Settings, *, ends: Mapping[str, Sequence[int]] | None = None
) -> tuple[Dataset, list[str]]:
    """Read all that `clicks`, `content` and `users` hold now: a dataset, and each interaction's action.

    Rows that cannot be decoded, whose action is unknown, whose time lies ahead of the broker's, or that
    repeat an event id are left out, as the worker leaves them out, and so are the clicks of users in
    quarantine that count for nobody else. Items that were deleted keep their clicks, with their id for a
    title.

    Parameters
    ----------
    ends : by topic and partition, the offset to stop before: the same ends give the same dataset for as long
        as the topics keep the records, and nobody else is in quarantine

    Raises
    ------
    SlatestreamError
        If there is no cluster, or topics are missing.
    """
    check_topics(settings)
    clicks, contents, users = (
        asyncio.run(_read(settings, name, (ends or {}).get(name))) for name in ("clicks", "content", "users")
    )
    media = MediaEncoders(settings)
    items: dict[str, Item] = {}
    for key, value, _ in contents:
        if value is None:
            items.pop((key or b"").decode(errors="replace"), None)
            continue
        try:
            content = decode_content(value)
        except UNDECODABLE:
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
    told = ((value, broker_ms) for _, value, broker_ms in clicks if value is not None)
    return as_dataset(settings, told, items, _users(users))


def _users(records: Iterable[Row]) -> list[User]:
    """The latest record of each user; an erased user has none."""
    users: dict[str, User] = {}
    for key, value, _ in records:
        if value is None:
            users.pop((key or b"").decode(errors="replace"), None)
            continue
        try:
            update = decode_user(value)
        except UNDECODABLE:
            continue
        users[update.user_id] = User(update.user_id, update.attributes, update.preferences)
    return list(users.values())


def as_dataset(
    settings: Settings, clicks: Iterable[tuple[bytes, int]], items: dict[str, Item], stated: list[User]
) -> tuple[Dataset, list[str]]:
    """Return the dataset of records of `clicks`, each with its broker's time in ms, and the rows' actions."""
    rows: dict[str, tuple[int, str, str, str, int]] = {}
    for value, broker_ms in clicks:
        try:
            click = decode_click(value)
        except UNDECODABLE:
            continue
        if click.action in settings.actions and click.timestamp_ms <= broker_ms + settings.max_future_ms:
            place = -1 if click.position is None else click.position
            row = (click.timestamp_ms, click.user_id, click.item_id, click.action, place)
            rows.setdefault(click.event_id, row)
    if not rows:
        raise ValueError("clicks must hold at least one valid event, got none")
    ordered = sorted(rows.values(), key=lambda row: row[0])
    times, users, names, actions, places = zip(*ordered, strict=True)
    for name in dict.fromkeys(names):
        items.setdefault(name, Item(name, name))
    interactions = Interactions(
        np.array(users, np.str_),
        np.array(names, np.str_),
        np.full(len(rows), np.nan, np.float32),
        np.array(times, np.int64),
        np.array(places, np.int64),
    )
    return Dataset("topics", interactions, list(items.values()), stated), list(actions)


async def _read(settings: Settings, name: str, ends: Sequence[int] | None) -> list[Row]:
    topic = topics_of_worker(settings)[name]
    rows: list[Row] = []
    for partition in range(topic_partitions(settings, name)):
        held = await read_held(settings, partition) if name == "clicks" else None
        async for records in read_partition(settings, topic, partition):
            if ends is not None:
                records = records[: int(np.searchsorted(records.offsets, ends[partition]))]
            ours = as_ours(settings, name, records)
            rows.extend(
                (record.key, record.value, broker_time(record))
                for record in ours
                if not (held and _is_held(held, record))
            )
    return rows


async def read_held(settings: Settings, partition: int) -> HeldClicks:
    """Return which clicks of a partition count for nobody else, as `user-state` says."""
    held = HeldClicks()
    async for records in read_partition(settings, topics_of_worker(settings)["user-state"], partition):
        held.read(records)
    return held


def _is_held(held: HeldClicks, record: Record) -> bool:
    try:
        click = decode_click(record.value or b"")
    except UNDECODABLE:
        return False
    return held.have(click.user_id, record.offset)
