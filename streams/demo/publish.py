"""A dataset as records of `content`, `users` and `clicks`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model_core.data.datasets import Dataset, Interactions
from streams.demo.taste import LIKED
from streams.events import Click, Content, UserUpdate, decode_click, encode
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name, topic_partitions
from streams.settings import Settings

POSITIVE = frozenset({"click", "like", "purchase"})
"""Actions of the demo that speak for an item."""


def content_rows(dataset: Dataset) -> Iterator[tuple[str, bytes]]:
    """Key and value of each item."""
    for item in dataset.items:
        content = Content(
            item_id=item.item_id,
            title=item.title,
            text=item.text,
            attributes=item.attributes,
            triples=item.triples,
        )
        yield item.item_id, encode(content)


def user_rows(dataset: Dataset) -> Iterator[tuple[str, bytes]]:
    """Key and value of each user with stated attributes."""
    for user in dataset.users:
        yield user.user_id, encode(UserUpdate(user_id=user.user_id, attributes=user.attributes))


def click_rows(interactions: Interactions) -> Iterator[tuple[str, bytes]]:
    """Key and value of each interaction, in time order: a rating of 4 or 5 is a "like", else a "view"."""
    for n in range(len(interactions)):
        user_id = str(interactions.user_ids[n])
        click = Click(
            event_id=f"rating-{n}",
            user_id=user_id,
            item_id=str(interactions.item_ids[n]),
            action="like" if interactions.ratings[n] >= LIKED else "view",
            timestamp_ms=int(interactions.timestamps_ms[n]),
        )
        yield user_id, encode(click)


@dataclass(frozen=True, slots=True)
class Past:
    """Contents of `clicks`: (user_id, item_id, action) of each event by partition, and the latest time."""

    events: list[tuple[str, str, str]]
    latest_ms: int


async def read_past(settings: Settings) -> Past:
    """Read all of `clicks`; records that are no clicks are passed over."""
    events: list[tuple[str, str, str]] = []
    latest = 0
    for partition in range(topic_partitions(settings, "clicks")):
        async for records in read_partition(settings, topic_name(settings, "clicks"), partition):
            for click in _clicks(records):
                events.append((click.user_id, click.item_id, click.action))
                latest = max(latest, click.timestamp_ms)
    return Past(events, latest)


def _clicks(records: Sequence[object]) -> Iterator[Click]:
    for record in records:
        try:
            yield decode_click(record.value)  # type: ignore[attr-defined]
        except (ValueError, TypeError):  # msgspec's errors are ValueErrors; a null value is a TypeError
            continue
