"""From what is asked over HTTP to a request: parameters of a GET, the body of a POST, ids in a path."""

import asyncio
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from multidict import MultiMapping

from streams.api.problems import Problem
from streams.events import MAX_ID_LENGTH, MAX_SLATE, Boost, Id, Request

BODY_S = 10.0
"""Seconds in which a body must have come."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a URL: name, JSON Schema of a value, what it means, and whether it may come often."""

    name: str
    schema: dict[str, Any]
    about: str
    many: bool = False


ID = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}
PARAMETERS = (
    Parameter("k", {"type": "integer", "minimum": 1, "maximum": MAX_SLATE}, "Length of the slate."),
    Parameter("exclude", ID, "Items to leave out.", many=True),
    Parameter("pinned", ID, "Items at the top, in this order.", many=True),
    Parameter(
        "boosts",
        {"type": "string", "pattern": r"^[^,]+:-?[0-9]{1,6}(\.[0-9]{1,9})?$"},
        "item:number: what is added to an item's utility, in units of reward.",
        many=True,
    ),
    Parameter("request_id", ID, "Makes a retry safe: the same id has the same slate again."),
    Parameter("fields", {"type": "string", "enum": ["title"]}, "What else is told of the items.", many=True),
)
OF_LISTS = (
    *(one for one in PARAMETERS if one.name in ("k", "exclude")),
    Parameter(
        "filter",
        {"type": "string", "pattern": "^[^,:]+:[^,]+$"},
        "relation:value: only items that have it; of several values of a relation one is enough.",
        many=True,
    ),
    Parameter(
        "fields",
        {"type": "string", "enum": ["ranking"]},
        "What else is told of the items: what ranking reads of them.",
        many=True,
    ),
)
MAX_BUCKETS = 4096
OF_STATE = (
    Parameter("bucket", {"type": "integer", "minimum": 0, "maximum": MAX_BUCKETS - 1}, "Which bucket; 0."),
    Parameter("of", {"type": "integer", "minimum": 1, "maximum": MAX_BUCKETS}, "How many there are; 1."),
    Parameter("rows", {"type": "string", "enum": ["true", "false"]}, "Whether the rows are told, too."),
)


# 10.0 is as good as 10: to JSON they are the same number.
WholeNumber = Annotated[
    float, msgspec.Meta(ge=1, le=MAX_SLATE, multiple_of=1, extra_json_schema={"type": "integer"})
]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a POST for a slate: a `Request` without the user, who is in the path, and without its time.

    k is the length of the slate, `k_default` of the worker's settings when left out. request_id makes a retry
    safe. candidates restricts the slate to the named items; exclude takes items out; filters keeps the items
    whose attribute has one of the values. pinned items come first, boosts are added to an item's utility.
    context is kept with the slate, for evaluation. fields names what else is told of the items: title.
    """

    k: WholeNumber | None = None
    request_id: Id | None = None
    context: dict[str, Any] | None = None
    candidates: list[Id] | None = None
    exclude: list[Id] = []
    filters: dict[str, list[str]] = {}
    pinned: Annotated[list[Id], msgspec.Meta(max_length=MAX_SLATE)] = []
    boosts: Annotated[dict[Id, Boost], msgspec.Meta(max_length=MAX_SLATE)] = {}
    fields: list[Literal["title"]] = []


class Holding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a POST that puts a user into quarantine, or releases one; `why` is stored with it."""

    held: bool
    why: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Wanted(NamedTuple):
    """A request, and whether the titles of its items are told."""

    request: Request
    titles: bool


_decode = msgspec.json.Decoder(Asked).decode


def ids_of_path(http: web.Request) -> dict[str, str]:
    """Return the ids that a path names.

    Raises
    ------
    Problem
        If one is empty or too long, or the URL is no UTF-8.
    """
    check_text(http.raw_path)
    ids = dict(http.match_info)
    for name, value in ids.items():
        if not 1 <= len(value) <= MAX_ID_LENGTH:
            raise Problem(400, f"{name} must have 1 to {MAX_ID_LENGTH} characters, got {len(value)}")
    return ids


def check_text(url: str) -> None:
    """Raise Problem for a URL whose bytes are no UTF-8: another id would be read from it than was meant."""
    if "%" in url or not url.isascii():
        try:
            unquote_to_bytes(url).decode()
        except UnicodeError:
            raise Problem(400, "the URL must be UTF-8, percent-encoded; it has bytes that are not") from None


def request_of_query(user_id: str, query: MultiMapping[str], *, k_default: int) -> Wanted:
    """Return what the parameters of a GET ask for.

    exclude, pinned and boosts may be given several times, with several values a time. An id with a comma in
    it cannot be named here, but in the body of a POST.

    Raises
    ------
    Problem
        Naming the parameter at fault.
    """
    if not query:
        return Wanted(_request(user_id, k_default, None), titles=False)
    check_parameters(query, PARAMETERS)
    titles = is_told(query, "title")
    request = _request(
        user_id,
        length_of(query, k_default),
        query.get("request_id"),
        exclude=values_of(query, "exclude"),
        pinned=values_of(query, "pinned"),
        boosts=dict(_boost(pair) for pair in values_of(query, "boosts")),
    )
    return Wanted(request, titles)


def is_told(query: MultiMapping[str], field: str) -> bool:
    """Return whether `fields` names the one field that there is; raise Problem if it names another."""
    fields = [name for given in query.getall("fields", []) for name in given.split(",")]
    if other := set(fields) - {field}:
        raise Problem(400, f"fields must be {field}, got {min(other)[:40]!r}")
    return bool(fields)


def check_parameters(query: MultiMapping[str], parameters: Sequence[Parameter]) -> None:
    """Raise Problem for a parameter that is none of these, or comes too often."""
    unknown = query.keys() - {one.name for one in parameters}
    if unknown:
        known = ", ".join(one.name for one in parameters) or "none"
        raise Problem(400, f"unknown parameter {sorted(unknown)[0]!r}; known: {known}")
    for one in parameters:
        if not one.many and len(query.getall(one.name, [])) > 1:
            raise Problem(400, f"{one.name} must be given once")


def length_of(query: MultiMapping[str], k_default: int) -> int:
    """Return k; raise Problem if it is none."""
    return whole_number(query, "k", k_default, least=1, most=MAX_SLATE)


def whole_number(query: MultiMapping[str], name: str, default: int, *, least: int, most: int) -> int:
    """Return a parameter's number; raise Problem if it is none within the bounds."""
    text = query.get(name, str(default))
    # Of more digits a number need not be one to `int`, nor are its first ones its value.
    if len(text) > 9 or not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise Problem(400, f"{name} must be a whole number from {least} to {most}, got {text[:20]!r}")
    return int(text)


def values_of(query: MultiMapping[str], name: str) -> list[str]:
    """Return the values of a parameter that may come often, or with commas."""
    return [value for given in query.getall(name, []) for value in given.split(",") if value]


def filters_of(query: MultiMapping[str]) -> dict[str, list[str]]:
    """Return the values that are wanted of each relation; raise Problem for what is no pair."""
    filters: dict[str, list[str]] = {}
    for pair in values_of(query, "filter"):
        relation, _, value = pair.partition(":")
        if not relation or not value:
            raise Problem(400, f"filter must be relation:value pairs, got {pair[:40]!r}")
        filters.setdefault(relation, []).append(value)
    return filters


def request_of_body(user_id: str, body: bytes, *, k_default: int) -> Wanted:
    """Return what the body of a POST asks for, JSON in the shape of `Asked`.

    Raises
    ------
    Problem
        Naming the field at fault.
    """
    try:
        asked = _decode(body)
    except UnicodeDecodeError:
        raise Problem(400, "the body must be UTF-8") from None
    except msgspec.ValidationError as error:
        known = f"; fields are {', '.join(Asked.__struct_fields__)}" if "unknown field" in str(error) else ""
        raise Problem(400, f"{error}{known}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, f"the body is no JSON: {error}") from None
    values = msgspec.structs.asdict(asked)
    k, request_id, fields = values.pop("k"), values.pop("request_id"), values.pop("fields")
    try:
        request = Request(
            request_id=request_id or _new_id(),
            user_id=user_id,
            timestamp_ms=int(time.time() * 1000),
            k=k_default if k is None else int(k),
            **values,
        )
    except ValueError as error:
        raise Problem(400, str(error)) from None
    return Wanted(request, bool(fields))


async def body_of(http: web.Request) -> bytes:
    """Read the body of a POST.

    Raises
    ------
    Problem
        If it says that it is no JSON, cannot be unpacked, or does not come in time; what is too large is
        aiohttp's to refuse.
    """
    if http.content_type != "application/json":
        raise Problem(415, f"Content-Type must be application/json, got {http.content_type[:100]!r}")
    try:
        async with asyncio.timeout(BODY_S):
            return await http.read()
    except web.RequestPayloadError:
        said = "the body is not encoded as Content-Encoding and the other headers say"
        raise Problem(400, said, headers={"Connection": "close"}) from None  # what comes next is of no use
    except TimeoutError:
        raise Problem(408, f"the body has not come within {BODY_S:.0f} s") from None


def _request(user_id: str, k: int, request_id: str | None, **others: Any) -> Request:
    values = {
        "request_id": _new_id() if request_id is None else request_id,
        "user_id": user_id,
        "timestamp_ms": int(time.time() * 1000),
        "k": k,
        **others,
    }
    try:
        return msgspec.convert(values, Request)
    except msgspec.ValidationError as error:
        raise Problem(400, str(error)) from None


def _new_id() -> str:
    return f"http-{secrets.token_hex(8)}"


def _boost(pair: str) -> tuple[str, float]:
    item, _, text = pair.rpartition(":")
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan  # as JSON has numbers
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Problem(400, f"boosts must be item:number pairs, got {pair[:40]!r}")
    return item, value
