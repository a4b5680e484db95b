"""A slate as HTTP tells it: its record, and what is told of its items on demand."""

from collections.abc import Callable

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
