"""A slate as HTTP tells it: its record, and what is told of its items on demand."""

from collections.abc import Callable
from typing import Any

import msgspec

from streams.events import Recommendation, Request, SlateItem, encode

Title = Callable[[str], str | None]
"""Title of an item, None if nobody has described it."""


class TitledItem(SlateItem, frozen=True):
    """One position of a slate; the item's title is told with `fields=title`."""

    title: str | None = None


class Slate(Recommendation, frozen=True, kw_only=True):
    """A slate as served, as its record on `recommendations` has it.

    unknown_items are those that the request named in pinned, boosts or candidates and that nobody has
    described: they can be in no slate. Left out where all are known.
    """

    slate: list[TitledItem]  # type: ignore[assignment]  # nobody appends to it
    unknown_items: list[str] = []


class PartitionState(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/state/{partition}/{kind}`: a bucket of the rows of a partition, as they are now.

    The rows have all clicks up to clicks_offset, as rows count offsets (`base` is what is added to those of
    the topic), and all slates up to recommendations_offset; users_offset is the next record of `users`.
    signals is how co-visits are counted. rows are left out unless asked for; `digest` is of them in any case.
    """

    partition: int
    kind: str
    bucket: int
    of: int
    base: int
    clicks_offset: int
    users_offset: int
    recommendations_offset: int
    watermark_ms: int
    model_version: str
    feature_dim: int
    signals: dict[str, Any]
    n: int
    digest: str
    rows: list[tuple[bytes, bytes]] = []  # base64 on the wire


class Span(msgspec.Struct, frozen=True):
    """Offsets of a partition's clicks, from `begin` on and up to `end`, excluded, or to any."""

    begin: int
    end: int | None = None


class Held(msgspec.Struct, frozen=True):
    """A user who is, or was, in quarantine: whose clicks count for nobody else.

    spans has the clicks of which that holds, and since_ms and why are of the last of these. Clicks before
    `forgotten` do not count for items either. user_id is empty of one who was erased.
    """

    user_id: str
    held: bool
    spans: list[Span]
    since_ms: int
    why: str
    forgotten: int


class Suspect(msgspec.Struct, frozen=True):
    """A user whose likes look like those of one who pushes items together with others.

    surges is how many items' worth of likes beyond what was to be expected the user has part in, repetition
    how far from each being another the user's items are, from 0 to 1; score is ``surges * (1 + repetition)``.
    """

    user_id: str
    score: float
    surges: float
    repetition: float


class Quarantined(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/quarantined/{partition}`: who is or was in quarantine, the latest first.

    suspects are some more of whom it may be thought of, the most suspect first.
    """

    partition: int
    users: list[Held]
    suspects: list[Suspect] = []


def slate_body(record: Recommendation, request: Request, title: Title, *, titles: bool) -> bytes:
    """Return what is answered: the record, with what else is to be told."""
    unknown = unknown_items(request, title)
    if not titles and not unknown:
        return encode(record)
    values = msgspec.structs.asdict(record)
    if titles:
        values["slate"] = [
            msgspec.structs.asdict(item) | {"title": title(item.item_id)} for item in record.slate
        ]
    if unknown:
        values["unknown_items"] = unknown
    return encode(values)


def unknown_items(request: Request, title: Title) -> list[str]:
    """Return the items that a request names to have them in its slate, and that nobody has described."""
    if not (request.pinned or request.boosts or request.candidates):
        return []
    named = dict.fromkeys([*request.pinned, *request.boosts, *(request.candidates or ())])
    return [item for item in named if title(item) is None]
