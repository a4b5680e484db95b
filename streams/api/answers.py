"""Answers of the HTTP API, a msgspec struct a route; a slate is its record and what is asked for with it."""

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


class Contribution(msgspec.Struct, frozen=True):
    """One summand of a score, and its standard error where it was sampled.

    kind is "history" (an item of the user's history, as the model reads it), "entity" (the user is near it),
    "modality" (a part that describes the item), "covisits", "popularity" or "ease". name is the id of the
    user's item for "history", "covisits" and "ease", the entity, or the modality; label says it in words.
    """

    kind: str
    name: str
    label: str
    value: float
    error: float = 0.0


class Path(msgspec.Struct, frozen=True):
    """The strongest way through the knowledge graph from something the user did to the item."""

    item_id: str
    title: str
    action: str
    relation: str
    entity: str


class Explanation(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/explanations/{user_id}/{item_id}`: a score taken apart.

    base and the values of contributions sum to value, but for completeness_error. unit is "logit": value is
    ``log(score / (1 - score))`` and base the same of an item and a user of whom nothing is known; or, where
    no release is served, "level": value is ``score / (1 - score)``. groups has the sum of each kind, of
    modalities one by one. eligible says whether the item could be in a slate of the user now; needs has the
    ids of what it requires and the user has not done, at most 100, and not_yet says so in words. orders is
    how many orders the standard errors come from; 0 when nothing was sampled. runs is how often the model
    ran.
    """

    user_id: str
    item_id: str
    title: str
    model_version: str
    unit: str
    score: float
    value: float
    base: float
    contributions: list[Contribution]  # the largest first, for or against
    groups: dict[str, float]
    completeness_error: float
    orders: int
    runs: int
    eligible: bool
    summary: str
    timestamp_ms: int
    clicks_offset: int
    path: Path | None = None
    reasons: list[str] = []
    fallback: str | None = None
    needs: list[str] = []
    not_yet: str | None = None


class Met(msgspec.Struct, frozen=True):
    """An event of a user, as it is remembered."""

    item_id: str
    title: str
    action: str
    timestamp_ms: int


class Weighed(msgspec.Struct, frozen=True):
    """Something with a weight; for an item, title says what it is called."""

    name: str
    weight: float
    title: str = ""


class UserState(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/users/{user_id}`: what the worker knows of a user.

    events counts all that ever came, actions the same by action; history has the latest of those that are
    kept, the newest first. affinities are entities of the items of the history, each event weighing what its
    action does, and half as much where it is `affinity_half_life_ms` older than the latest. quarantined says
    that what the user does now counts for nobody else; suspicion how much the user looks as if it should not.
    friends counts those whom the user has named as such.
    """

    user_id: str
    events: int
    actions: dict[str, int]
    history: list[Met]
    affinities: list[Weighed]
    attributes: dict[str, str]
    preferences: list[str]
    blocked_items: list[str]
    partition: int
    clicks_offset: int
    quarantined: bool = False
    suspicion: float = 0.0
    friends: int = 0


class ItemState(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/items/{item_id}`: what the worker knows of an item.

    described says whether `content` has it; eligible whether it could be in a slate now, whoever asks.
    popularity counts the events that speak for it; neighbours are what is met together with it, by weight.
    """

    item_id: str
    title: str
    described: bool
    eligible: bool
    edges: list[tuple[str, str]]  # (relation, entity)
    popularity: int
    neighbours: list[Weighed]
    published_ms: int | None = None


class ListedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item of a list; what the score is depends on the list.

    With `fields=ranking` it is told what the release that serves reads of the item, whoever asks: its vector,
    float32, little-endian; the signal of popularity; and of the items that it is met with most, by id, what
    each adds to the signal of co-visits if it is what the user liked last.
    """

    item_id: str
    score: float
    title: str
    vector: bytes = b""  # base64 on the wire
    popularity: float = 0.0
    met_with: list[tuple[str, float]] = []


class ItemList(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/lists/{name}` and `/v1/lists/similar/{item_id}`: items, the best first.

    as_of_ms is the time that was ranked for: that of the newest event. item_id is whose the list is, where it
    is one of similar items, and model_version the release that vectors are of, where there are any.
    """

    name: str
    items: list[ListedItem]
    as_of_ms: int
    item_id: str | None = None
    model_version: str | None = None


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


decode_explanation = msgspec.json.Decoder(Explanation).decode
decode_user_state = msgspec.json.Decoder(UserState).decode
decode_item_state = msgspec.json.Decoder(ItemState).decode
decode_item_list = msgspec.json.Decoder(ItemList).decode


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
