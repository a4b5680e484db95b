"""Rows of a table as records of a topic: what each field becomes is settled once, from the first rows."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import xxhash

from streams.events import MAX_ID_LENGTH, Click, Content, UserUpdate, encode
from streams.importing.columns import Plan
from streams.importing.faults import FileError, Refused, RowFault
from streams.importing.values import (
    MAX_TEXT,
    UNIT_NAMES,
    are_float_ids,
    as_text,
    list_separator,
    make_id,
    make_list,
    make_number,
    make_time,
    numbers,
    time_unit,
)

LIKE_SHARE = 0.8  # of the highest rating: 4 of 5 stars, 8 of 10
RECENT = 65_536
ALIASES = {
    "views": "view", "pv": "view", "pageview": "view", "impression": "view", "clicks": "click",
    "addtocart": "click", "cart": "click", "play": "click", "listen": "click", "buy": "purchase",
    "order": "purchase", "transaction": "purchase", "purchased": "purchase", "favourite": "like",
    "favorite": "like", "fav": "like", "skip": "dislike",
}  # fmt: skip

Record: TypeAlias = tuple[int, str, bytes]
"""Event time in ms (0 where the topic has none), key, value."""
Maker: TypeAlias = Callable[[int, Sequence[Any]], Record]


@dataclass(frozen=True, slots=True)
class Choices:
    """What somebody said of all files; None leaves it to what the values look like.

    Attributes
    ----------
    action : of every interaction
    actions : what the file calls an action -> what we call it
    like_from : the lowest rating that is a like
    known_actions : those of the settings
    latest_ms : no event may be later
    """

    known_actions: Sequence[str]
    latest_ms: int
    action: str | None = None
    actions: Mapping[str, str] = field(default_factory=dict)
    like_from: float | None = None
    time_unit: str | None = None
    time_format: str | None = None
    separator: str | None = None


def make_maker(plan: Plan, choices: Choices) -> tuple[Maker, dict[str, str]]:
    """Return what makes records of a plan's rows, and in words what becomes of its fields."""
    return {"clicks": _clicks, "content": _content, "users": _users}[plan.kind](plan, choices)


def records(plan: Plan, make: Maker, refused: Refused) -> Iterator[Record]:
    """Yield the records of a file; what gives none goes to `refused`."""
    for row in plan.table.rows():
        if len(row) == 3:
            refused.add(row[1], row[0], row[2])
            continue
        line, values = row
        try:
            record = make(line, values)
        except RowFault as fault:
            refused.add(fault, line, dict(zip(plan.table.columns, values, strict=True)))
        except UnicodeEncodeError as error:
            odd = RowFault("encoding", f"a text cannot be written as UTF-8: {error.reason}")
            refused.add(odd, line, [ascii(value) for value in values])
        else:
            yield record


def _repeats() -> Callable[[str], None]:
    """Return what refuses an event id that it has been asked about in its last `RECENT` questions."""
    recent: set[str] = set()
    order: deque[str] = deque()

    def check(event_id: str) -> None:
        if event_id in recent:
            text = "the same event, or user, item, action and time, as in a row before"
            raise RowFault("repeat", text, left_out=True)
        recent.add(event_id)
        order.append(event_id)
        if len(order) > RECENT:
            recent.remove(order.popleft())

    return check


def _clicks(plan: Plan, choices: Choices) -> tuple[Maker, dict[str, str]]:
    place = {name: plan.table.columns.index(column) for name, column in plan.fields.items()}
    told: dict[str, str] = {}
    user, item = (_id(plan, name, told) for name in ("user_id", "item_id"))
    time = _time(plan, choices, told)
    action = _action(plan, choices, told)
    at_user, at_item, at_time = place["user_id"], place["item_id"], place.get("timestamp")
    more = _more(plan, place)
    at_event = place.get("event_id")
    check_new = _repeats()
    digest, latest = xxhash.xxh3_128_hexdigest, choices.latest_ms

    def make(line: int, values: Sequence[Any]) -> Record:
        user_id, item_id = user(values[at_user]), item(values[at_item])
        name = action(values)
        ms = time(line) if at_time is None else time(values[at_time])
        if ms > latest:
            raise RowFault("future", f"the time lies ahead of now, {as_text(values[at_time or 0])[:40]!r}")
        # What is the same in all that counts has the same id: who publishes it again adds nothing.
        event_id = "" if at_event is None else as_text(values[at_event])[:MAX_ID_LENGTH]
        event_id = event_id or digest(f"{user_id}\0{item_id}\0{name}\0{ms}".encode())
        check_new(event_id)
        fields = {name: make_one(values[at]) for name, at, make_one in more}
        click = Click(
            event_id=event_id, user_id=user_id, item_id=item_id, action=name, timestamp_ms=ms, **fields
        )
        return ms, user_id, encode(click)

    return make, told


def _more(plan: Plan, place: Mapping[str, int]) -> list[tuple[str, int, Callable[[Any], Any]]]:
    makers: dict[str, Callable[[Any], Any]] = {
        "value": make_number("value", empty=True),
        "dwell_ms": make_number("dwell_ms", empty=True, least=0.0),
        "position": _position,
        "request_id": lambda value: as_text(value) or None,
    }
    return [(name, place[name], make) for name, make in makers.items() if name in place]


def _position(value: Any) -> int | None:
    number = make_number("position", empty=True, least=0.0)(value)
    return None if number is None else int(number)


def _id(plan: Plan, name: str, told: dict[str, str]) -> Callable[[Any], str]:
    floats = are_float_ids(plan.column(name))
    if floats:
        told[name] = "whole numbers written as 42.0 are read as 42"
    return make_id(name, floats=floats)


def _time(plan: Plan, choices: Choices, told: dict[str, str]) -> Callable[[Any], int]:
    if "timestamp" not in plan.fields:
        told["timestamp"] = "no column of times: the file's order is the order of the events"
        file = plan.table.path.stat()
        # A row has a byte at least, and where it is packed a hundredth: none is later than the file.
        begin = min(int(file.st_mtime * 1000), choices.latest_ms) - 100 * file.st_size
        return lambda line: begin + int(line)
    unit = choices.time_unit or (None if choices.time_format else time_unit(plan.column("timestamp")))
    if unit is None and choices.time_format is None:
        column = plan.fields["timestamp"]
        first = next((as_text(value) for value in plan.column("timestamp") if value not in (None, "")), "")
        raise FileError(
            f"{plan.table.path} column {column!r} must hold times, got such as {first[:40]!r}: what is read "
            "is seconds, milliseconds or finer since 1970, ISO 8601 and YYYYMMDD; say --time-format "
            "'%d/%m/%Y %H:%M', or --map timestamp=COLUMN for another"
        )
    told["timestamp"] = f"as {choices.time_format}" if choices.time_format else UNIT_NAMES[unit or "iso"]
    return make_time("timestamp", unit or "iso", choices.time_format)


def _action(plan: Plan, choices: Choices, told: dict[str, str]) -> Callable[[Sequence[Any]], str]:
    for name in {*choices.actions.values(), *([choices.action] if choices.action else [])}:
        if name not in choices.known_actions:
            raise FileError(f"the settings know no action {name!r}, but {', '.join(choices.known_actions)}")
    if choices.action is not None:
        told["action"] = f"{choices.action}, every one, as told"
        only = choices.action
        return lambda _: only
    columns = plan.table.columns
    if "action" in plan.fields:
        told["action"] = "what the file says" + "".join(f", {a} is {b}" for a, b in choices.actions.items())
        return _named_action(columns.index(plan.fields["action"]), choices)
    if "label" in plan.fields:
        told["label"] = "1 is a click; 0 is none and left out"
        return _labelled(columns.index(plan.fields["label"]), plan.fields["label"])
    ratings = numbers(plan.column("rating"))
    if ratings and (len(set(ratings)) > 1 or choices.like_from is not None):
        highest = next((top for top in (5.0, 10.0, 100.0) if max(ratings) <= top), max(ratings))
        if set(ratings) <= {0.0, 1.0} and choices.like_from is None:
            told["rating"] = "1 is a click; 0 is none and left out"
            return _labelled(columns.index(plan.fields["rating"]), plan.fields["rating"])
        least = LIKE_SHARE * highest if choices.like_from is None else choices.like_from
        told["rating"] = f"{least:g} and more is a like, less a view"
        return _rated(columns.index(plan.fields["rating"]), plan.fields["rating"], least)
    only = (
        "purchase"
        if plan.fields.get("value", "").lower() in ("price", "amount", "revenue", "quantity")
        else "click"
    )
    only = only if only in choices.known_actions else choices.known_actions[0]
    same = f": every rating is {ratings[0]:g}" if ratings else ""
    told["action"] = f"{only}, every one{same}; --action says another"
    return lambda _: only


def _named_action(place: int, choices: Choices) -> Callable[[Sequence[Any]], str]:
    known = {name: name for name in choices.known_actions}
    names = ", ".join(known)
    aliases = {name: ours for name, ours in ALIASES.items() if ours in known}

    def make(values: Sequence[Any]) -> str:
        text = as_text(values[place])
        short = text.lower().replace("_", "").replace("-", "").replace(" ", "")
        found = choices.actions.get(text) or known.get(text) or known.get(short) or aliases.get(short)
        if found is None:
            raise RowFault(
                "unknown_action",
                f"the settings know no action {text[:40]!r}, but {names}: say --actions THEIRS=OURS",
            )
        return found

    return make


def _labelled(place: int, column: str) -> Callable[[Sequence[Any]], str]:
    number = make_number(column)

    def make(values: Sequence[Any]) -> str:
        if not number(values[place]):
            raise RowFault("label_0", f"{column} is 0: shown, and not clicked", left_out=True)
        return "click"

    return make


def _rated(place: int, column: str, least: float) -> Callable[[Sequence[Any]], str]:
    number = make_number(column, empty=True)

    def make(values: Sequence[Any]) -> str:
        rating = number(values[place])
        return "like" if rating is not None and rating >= least else "view"

    return make


def _lists(plan: Plan, choices: Choices) -> list[tuple[str, int, Callable[[Any], list[str]]]]:
    types = getattr(plan.table, "types", {})
    found = []
    for name, column in plan.attributes.items():
        separator = choices.separator or list_separator(
            plan.of(column), blanks=types.get(column) == "token_seq"
        )
        found.append((name, plan.table.columns.index(column), make_list(separator)))
    return found


def _content(plan: Plan, choices: Choices) -> tuple[Maker, dict[str, str]]:
    told: dict[str, str] = {}
    item = _id(plan, "item_id", told)
    columns = plan.table.columns
    at_item = columns.index(plan.fields["item_id"])
    at_title, at_text, at_year = (
        columns.index(plan.fields[name]) if name in plan.fields else None
        for name in ("title", "text", "year")
    )
    lists = _lists(plan, choices)
    flags = [(columns.index(name), name) for name in plan.flags]
    if at_title is None:
        told["title"] = "no column of titles: the id is shown instead"

    def make(_line: int, values: Sequence[Any]) -> Record:
        item_id = item(values[at_item])
        title = item_id if at_title is None else as_text(values[at_title])[:MAX_TEXT] or item_id
        year = "" if at_year is None else as_text(values[at_year])[:4]
        if year.isdigit() and year not in title:
            title = f"{title} ({year})"
        attributes = {name: parts for name, at, split in lists if (parts := split(values[at]))}
        if flags:
            attributes["genre"] = [name for at, name in flags if as_text(values[at]) == "1"]
        text = None if at_text is None else as_text(values[at_text])[:MAX_TEXT] or None
        return 0, item_id, encode(Content(item_id=item_id, title=title, text=text, attributes=attributes))

    return make, told


def _users(plan: Plan, choices: Choices) -> tuple[Maker, dict[str, str]]:
    told: dict[str, str] = {}
    user = _id(plan, "user_id", told)
    columns = plan.table.columns
    at_user = columns.index(plan.fields["user_id"])
    several = {
        name: (columns.index(plan.fields[name]), make_list(list_separator(plan.column(name), blanks=False)))
        for name in ("preferences", "blocked_items")
        if name in plan.fields
    }
    single = [(name, columns.index(column)) for name, column in plan.attributes.items()]

    def make(_line: int, values: Sequence[Any]) -> Record:
        user_id = user(values[at_user])
        stated = {name: text[:MAX_TEXT] for name, at in single if (text := as_text(values[at]))}
        named = {name: split(values[at]) for name, (at, split) in several.items()}
        update = UserUpdate(user_id=user_id, attributes=stated, **named)
        return 0, user_id, encode(update)

    return make, told
