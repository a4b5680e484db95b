"""Rows of a table as records of a topic: what each field becomes is settled once, from the first rows."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import xxhash

from streams.events import MAX_FRIENDS, MAX_ID_LENGTH, Click, Content, UserUpdate, encode
from streams.importing.actions import make_action
from streams.importing.columns import ColumnPlan
from streams.importing.faults import AmbiguousDates, FileError, Refused, RowFault
from streams.importing.moments import day_or_month, in_words, make_time, time_unit
from streams.importing.options import Choices
from streams.importing.values import (
    MAX_TEXT,
    are_float_ids,
    as_text,
    list_separator,
    make_id,
    make_list,
    make_number,
    numbers,
)

RECENT = 65_536
DAY_MS = 86_400_000
MAX_ORDERED = 1e8
"""The largest number that is only an order: above it, numbers are seconds since 1970."""

Record: TypeAlias = tuple[int, str, bytes]
"""Event time in ms (0 where the topic has none), key, value."""
Maker: TypeAlias = Callable[[int, Sequence[Any]], Record]
Value: TypeAlias = Click | Content | UserUpdate
ValueMaker: TypeAlias = Callable[[int, Sequence[Any]], Value]
T = TypeVar("T")


def make_values(plan: ColumnPlan, choices: Choices) -> tuple[ValueMaker, dict[str, str]]:
    """Return what makes values of a plan's rows, and in words what becomes of its fields."""
    return {"clicks": _clicks, "content": _content, "users": _users}[plan.kind](plan, choices)


def make_maker(plan: ColumnPlan, choices: Choices) -> tuple[Maker, dict[str, str]]:
    """The same with values as records."""
    make, told = make_values(plan, choices)

    def make_record(line: int, values: Sequence[Any]) -> Record:
        value = make(line, values)
        if isinstance(value, Click):
            return value.timestamp_ms, value.user_id, encode(value)
        return 0, value.item_id if isinstance(value, Content) else value.user_id, encode(value)

    return make_record, told


def records(plan: ColumnPlan, make: Callable[[int, Sequence[Any]], T], refused: Refused) -> Iterator[T]:
    """Yield what a file's rows give; what gives nothing goes to `refused`."""
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


def _recent() -> Callable[[str], bool]:
    """Return what says whether it has been asked the same in its last `RECENT` questions."""
    recent: set[str] = set()
    order: deque[str] = deque()

    def is_known(name: str) -> bool:
        if name in recent:
            return True
        recent.add(name)
        order.append(name)
        if len(order) > RECENT:
            recent.remove(order.popleft())
        return False

    return is_known


def _naming(choices: Choices, at_event: int | None) -> Callable[[int, Sequence[Any], str, int], str]:
    """Return what gives an event its id, and refuses a row that repeats one.

    What is the same in all that counts has the same id: who publishes it again adds nothing. Where the file
    names no events, a row is a repeat if it is the same in all its columns, with a time of day in it; what a
    user did twice on a day may well be two events, whose second is told apart by its line.
    """
    is_known, is_whole = _recent(), _recent()
    digest = xxhash.xxh3_128_hexdigest

    def name(line: int, values: Sequence[Any], what: str, ms: int) -> str:
        told = "" if at_event is None else as_text(values[at_event])[:MAX_ID_LENGTH]
        if told:
            if is_known(told):
                raise RowFault("repeat", "the same event as in a row before", left_out=True)
            return told
        event_id = digest(f"{what}\0{ms}".encode())
        again = is_known(event_id)
        same = is_whole(digest(repr(values).encode()))
        if again and same and ms % DAY_MS and not choices.repeats:
            raise RowFault("repeat", "the same in all its columns as a row before", left_out=True)
        return digest(f"{what}\0{ms}\0{line}".encode()) if again else event_id

    return name


def _clicks(plan: ColumnPlan, choices: Choices) -> tuple[ValueMaker, dict[str, str]]:
    place = {name: plan.table.columns.index(column) for name, column in plan.fields.items()}
    told: dict[str, str] = {}
    user, item = _user(plan, choices, told), _id(plan, "item_id", told)
    time = _time(plan, choices, told)
    action = make_action(plan, choices, told)
    at_user, at_item, at_time = place["user_id"], place["item_id"], place.get("timestamp")
    more = _more(plan, place)
    event_id = _naming(choices, place.get("event_id"))
    latest = choices.latest_ms

    def make(line: int, values: Sequence[Any]) -> Click:
        user_id, item_id = user(values[at_user]), item(values[at_item])
        name = action(values)
        ms = time(line) if at_time is None else time(values[at_time])
        if ms > latest:
            raise RowFault("future", f"the time lies ahead of now, {as_text(values[at_time or 0])[:40]!r}")
        one = event_id(line, values, f"{user_id}\0{item_id}\0{name}", ms)
        fields = {name: make_one(values[at]) for name, at, make_one in more}
        return Click(event_id=one, user_id=user_id, item_id=item_id, action=name, timestamp_ms=ms, **fields)

    return make, told


def _more(plan: ColumnPlan, place: Mapping[str, int]) -> list[tuple[str, int, Callable[[Any], Any]]]:
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


def _id(plan: ColumnPlan, name: str, told: dict[str, str]) -> Callable[[Any], str]:
    floats = are_float_ids(plan.column(name))
    if floats:
        told[name] = "whole numbers written as 42.0 are read as 42"
    return make_id(name, floats=floats)


def _user(plan: ColumnPlan, choices: Choices, told: dict[str, str]) -> Callable[[Any], str]:
    user, pseudonyms = _id(plan, "user_id", told), choices.pseudonyms
    if pseudonyms is None:
        return user
    told["user_id"] = "; ".join([*([told["user_id"]] if "user_id" in told else []), "written as pseudonyms"])
    return lambda value: pseudonyms.of(user(value))


def _time(plan: ColumnPlan, choices: Choices, told: dict[str, str]) -> Callable[[Any], int]:
    if "timestamp" not in plan.fields:
        told["timestamp"] = "no column of times: the file's order is the order of the events"
        if choices.order_from_ms is not None:
            start = choices.order_from_ms
            return lambda line: start + 1000 * int(line)
        file = plan.table.path.stat()
        # A row has a byte at least, and where it is packed a hundredth: none is later than the file.
        begin = min(int(file.st_mtime * 1000), choices.latest_ms) - 100 * file.st_size
        return lambda line: begin + int(line)
    unit = choices.time_unit or (None if choices.time_format else time_unit(plan.column("timestamp")))
    if unit is None and choices.time_format is None:
        if choices.order_from_ms is not None and (order := _order(plan, choices.order_from_ms)):
            told["timestamp"] = "numbers that are no times: their order is the order of the events"
            return order
        column = plan.fields["timestamp"]
        first = next((as_text(value) for value in plan.column("timestamp") if value not in (None, "")), "")
        if both := day_or_month(plan.column("timestamp")):
            raise AmbiguousDates(
                both,
                f"{plan.table.path} column {column!r} has dates such as {first[:40]!r}, and none that tells "
                f"the day from the month: say --time-format '{both[0]}', or '{both[1]}'",
            )
        raise FileError(
            f"{plan.table.path} column {column!r} must hold times, got such as {first[:40]!r}: what is read "
            "is seconds, milliseconds or finer since 1970, ISO 8601, YYYYMMDD, and dates with the year last; "
            "say --time-format '%d/%m/%Y %H:%M', or --map timestamp=COLUMN for another"
        )
    told["timestamp"] = f"as {choices.time_format}" if choices.time_format else in_words(unit or "iso")
    make = make_time("timestamp", unit or "iso", choices.time_format)
    if _are_days(make, plan.column("timestamp")):
        told["timestamp"] += ", to the day: rows that are the same are as many events"
    return make


def _are_days(make: Callable[[Any], int], values: Sequence[Any]) -> bool:
    try:
        return not any(make(value) % DAY_MS for value in values if value not in (None, ""))
    except RowFault:
        return False


def _order(plan: ColumnPlan, first_ms: int) -> Callable[[Any], int] | None:
    """Return what makes times of numbers that only say what comes after what; None where they are none."""
    number = make_number("timestamp")
    if not (found := numbers(plan.column("timestamp"))) or max(map(abs, found)) > MAX_ORDERED:
        return None

    def make(value: Any) -> int:
        place = number(value)
        if place is None or abs(place) > MAX_ORDERED:
            raise RowFault("time", f"timestamp must be a number up to {MAX_ORDERED:g}, got {place}")
        return first_ms + round(1000 * place)

    return make


def _lists(plan: ColumnPlan, choices: Choices) -> list[tuple[str, int, Callable[[Any], list[str]]]]:
    types = getattr(plan.table, "types", {})
    found = []
    for name, column in plan.attributes.items():
        separator = choices.separator or list_separator(
            plan.of(column), blanks=types.get(column) == "token_seq"
        )
        found.append((name, plan.table.columns.index(column), make_list(separator)))
    return found


def _content(plan: ColumnPlan, choices: Choices) -> tuple[ValueMaker, dict[str, str]]:
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

    def make(_line: int, values: Sequence[Any]) -> Content:
        item_id = item(values[at_item])
        title = item_id if at_title is None else as_text(values[at_title])[:MAX_TEXT] or item_id
        year = "" if at_year is None else as_text(values[at_year])[:4]
        if year.isdigit() and f"({year})" not in title:
            title = f"{title} ({year})"
        attributes = {name: parts for name, at, split in lists if (parts := split(values[at]))}
        if flags:
            attributes["genre"] = [name for at, name in flags if as_text(values[at]) == "1"]
        text = None if at_text is None else as_text(values[at_text])[:MAX_TEXT] or None
        return Content(item_id=item_id, title=title, text=text, attributes=attributes)

    return make, told


def _users(plan: ColumnPlan, choices: Choices) -> tuple[ValueMaker, dict[str, str]]:
    told: dict[str, str] = {}
    user = _user(plan, choices, told)
    columns = plan.table.columns
    at_user = columns.index(plan.fields["user_id"])
    several = {
        name: (columns.index(plan.fields[name]), make_list(list_separator(plan.column(name), blanks=False)))
        for name in ("preferences", "blocked_items", "friends")
        if name in plan.fields
    }
    single = [(name, columns.index(column)) for name, column in plan.attributes.items()]

    def make(_line: int, values: Sequence[Any]) -> UserUpdate:
        user_id = user(values[at_user])
        stated = {name: text[:MAX_TEXT] for name, at in single if (text := as_text(values[at]))}
        named = {name: split(values[at]) for name, (at, split) in several.items()}
        if len(friends := named.get("friends", ())) > MAX_FRIENDS:
            raise RowFault("many_friends", f"friends has {len(friends):,} names; at most {MAX_FRIENDS:,}")
        if friends and choices.pseudonyms is not None:
            named["friends"] = [choices.pseudonyms.of(friend) for friend in friends]
        return UserUpdate(user_id=user_id, attributes=stated, **named)

    return make, told
