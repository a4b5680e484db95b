"""Maps columns of a table to fields: by name, by values, or as given on the command line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from streams.field_names import IDS, NAMES, OF_PEOPLE, RELATIONS, folded, without_id
from streams.importing.delimited import ATOMIC, GENRES
from streams.importing.faults import FileError
from streams.importing.moments import time_unit
from streams.importing.tables import JsonLines, Table, sample
from streams.importing.values import are_verdicts, as_text, numbers

FIELDS: Mapping[str, tuple[str, ...]] = {
    "clicks": (
        "user_id", "item_id", "timestamp", "action", "rating", "label", "value", "event_id", "request_id",
        "position", "dwell_ms",
    ),
    "content": ("item_id", "title", "text", "year"),
    "users": ("user_id", "preferences", "blocked_items", "friends"),
}  # fmt: skip
NEEDED = {"clicks": ("user_id", "item_id"), "content": ("item_id",), "users": ("user_id",)}
KINDS = ("content", "users", "clicks")
"""Topics that are imported to, in the order that suits a worker: items before those who click on them."""

ID_VALUE = re.compile(r"[A-Za-z]{1,8}[-_:]?\d+|[0-9a-fA-F-]{16,36}")
"""A value that names something, such as u17, and is no amount, no word and no time."""
MAX_DISTINCT = 0.9
"""The largest share of rows with an id of their own in which ids count as repeated."""
MAX_ENTITY = 80
MAX_TITLE = 120
"""The mean length of titles: what is longer is a text."""
WORD = re.compile(r"[^\W\d_]{3}")
NO_TITLE = re.compile(r"https?:|www\.|\[|\{|[A-Za-z]{1,8}[-_:]?\d+$|[0-9a-fA-F-]{16,36}$")


Told: TypeAlias = Sequence[tuple[str, str]]
"""Fields and the columns that somebody said they are; of several for one field, a table has one."""


class MissingColumn(FileError):
    """A table has no column that is known to be a field which is needed.

    Attributes
    ----------
    fields : that are needed
    examples : its columns, each with its first value
    """

    def __init__(
        self, table: Table, fields: Sequence[str], examples: Mapping[str, str], message: str
    ) -> None:
        super().__init__(message)
        self.table = table
        self.fields = fields
        self.examples = examples


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How the columns of a file become the fields of records.

    Attributes
    ----------
    kind : topic, of `KINDS`
    fields : column of each field that has one
    attributes : column of each attribute or relation
    flags : columns of 0 and 1 that are genres, as MovieLens' u.item has them
    why : what led to a field's column: "by name", "by its values", "as told"
    unread : columns that nothing is made of
    values : the first rows, which speak for the rest
    """

    table: Table
    kind: str
    fields: dict[str, str]
    attributes: dict[str, str]
    flags: list[str]
    why: dict[str, str]
    unread: list[str]
    values: list[Sequence[Any]] = field(repr=False)

    def column(self, name: str) -> list[Any]:
        """Return the first values of the field's column; an empty list where it has none."""
        if name not in self.fields:
            return []
        return self.of(self.fields[name])

    def of(self, column: str) -> list[Any]:
        """Return the first values of a column."""
        place = self.table.columns.index(column)
        return [row[place] for row in self.values]

    def examples(self) -> dict[str, str]:
        """Return the first value of each column, cut short."""
        return _examples(self.table, self.values)


def told_of(table: Table, told: Told) -> dict[str, str]:
    """Return field to column of what somebody said, as far as the table has the columns.

    Raises
    ------
    FileError
        If it has two columns of one field.
    """
    found: dict[str, str] = {}
    for name, column in told:
        if column in table.columns and found.setdefault(name, column) != column:
            raise FileError(f"{table.path} has both {found[name]!r} and {column!r}: --map {name} must be one")
    return found


def make_plan(table: Table, *, told: Told, kind: str | None = None) -> ColumnPlan:
    """Find each field's column.

    Parameters
    ----------
    told
        What somebody said of columns; one that the table does not have is passed over.
    kind
        Topic; found when None.

    Raises
    ------
    FileError
        If a needed field has no column.
    """
    values = sample(table)
    if not values:
        if isinstance(table, JsonLines):
            raise FileError(f"{table.path} has no line that is a JSON object")
        raise FileError(f"{table.path} has a header and no row that can be read")
    said = told_of(table, told)
    plain = {folded(column): column for column in reversed(table.columns)}
    named = said | {
        name: column
        for name, choices in NAMES.items()
        if name not in said and (column := _called(choices, plain, is_id=name in ("user_id", "item_id")))
    }
    _guess_plain_id(named, plain)
    _guess_ids(table, named, plain)
    guessed = {} if kind in ("content", "users") else _guess_by_repeats(table, values, named)
    named |= guessed
    kind = kind or _kind(table, named, values)
    fields = {name: named[name] for name in FIELDS[kind] if name in named}
    why = {name: "as told" if name in said else "by name" for name in fields}
    why |= dict.fromkeys(guessed, "by its values")
    if kind == "clicks":
        _read_values(table, values, fields, why)
    elif kind == "content" and "title" not in fields and (title := _guess_title(table, values, fields)):
        fields["title"], why["title"] = title, "by its values"
    _check_needed(table, kind, fields, values)
    if kind == "clicks" and "label" in fields and "rating" in fields:
        fields.pop("label")
    used = set(fields.values())
    left = [column for column in table.columns if column and column not in used]
    attributes = {name: column for name, column in said.items() if name not in NAMES}
    flags: list[str] = []
    if kind != "clicks":
        flags = _flags(table, values, left) if kind == "content" else []
        found = _attributes(table, values, [one for one in left if one not in flags], kind)
        attributes = found | attributes
    taken = {*used, *attributes.values(), *flags}
    unread = [column for column in table.columns if column not in taken]
    return ColumnPlan(table, kind, fields, attributes, flags, why, unread, values)


def _called(choices: Sequence[str], plain: Mapping[str, str], *, is_id: bool) -> str | None:
    """Return the column of the first of these names that there is, of an id with or without a word for it."""
    bare = {without_id(name): column for name, column in plain.items()} if is_id else {}
    return next((found for name in choices if (found := bare.get(name) or plain.get(name))), None)


def _guess_plain_id(named: dict[str, str], plain: Mapping[str, str]) -> None:
    """Take a column that is called `id` beside what only people have, or beside a title or a text."""
    if "id" not in plain or {"user_id", "item_id"} & named.keys():
        return
    if OF_PEOPLE & plain.keys():
        named["user_id"] = plain["id"]
    elif {"title", "text"} & named.keys():
        named["item_id"] = plain["id"]


def _guess_ids(table: Table, named: dict[str, str], plain: Mapping[str, str]) -> None:
    """Take a column whose name has the word in it; or the only other id beside one that is known."""
    for name, words in (("user_id", ("user", "customer")), ("item_id", ("item", "product", "article"))):
        close = [
            column
            for short, column in plain.items()
            if IDS.search(short) and any(word in short for word in words) and column not in named.values()
        ]
        if name not in named and len(close) == 1:
            named[name] = close[0]
    missing = [name for name in ("user_id", "item_id") if name not in named]
    ids = [c for short, c in plain.items() if IDS.search(short) and c not in named.values()]
    if len(missing) == 1 and len(ids) == 1 and {"timestamp", "rating", "action"} & named.keys():
        named[missing[0]] = ids[0]


def _guess_by_repeats(table: Table, values: list[Sequence[Any]], named: Mapping[str, str]) -> dict[str, str]:
    """Take the only column of ids beside one whose ids repeat: such rows are interactions, no catalogue.

    A catalogue and a list of users have each id once; where they do not, titles or texts say what they are.
    """
    known = [name for name in ("user_id", "item_id") if name in named]
    is_told = any(one in ATOMIC for one in table.path.suffixes)
    if len(known) != 1 or is_told or {"title", "text", "preferences"} & named.keys():
        return {}
    place = table.columns.index(named[known[0]])
    if len({as_text(row[place]) for row in values}) > MAX_DISTINCT * len(values):
        return {}
    found = [
        column
        for place, column in enumerate(table.columns)
        if column not in named.values() and _looks_like_ids(column, [row[place] for row in values])
    ]
    missing = "item_id" if known == ["user_id"] else "user_id"
    return {missing: found[0]} if len(found) == 1 else {}


def _looks_like_ids(column: str, values: list[Any]) -> bool:
    short = folded(column)
    if any(relation in short for relation in RELATIONS.values()) or time_unit(values) is not None:
        return False
    texts = [text for value in values if (text := as_text(value))]
    return bool(texts) and (IDS.search(short) is not None or all(map(ID_VALUE.fullmatch, texts)))


def _kind(table: Table, named: Mapping[str, str], values: list[Sequence[Any]]) -> str:
    suffix = next((one for one in table.path.suffixes[::-1] if one in ATOMIC), None)
    if suffix is not None:
        return {".inter": "clicks", ".item": "content", ".user": "users"}[suffix]
    if "user_id" in named and "item_id" in named:
        return "clicks"
    if "item_id" in named:
        return "content"
    if "user_id" in named:
        return "users"
    examples = _examples(table, values)
    is_catalogue = not {"title", "text"}.isdisjoint(named)
    raise MissingColumn(
        table, ("item_id",) if is_catalogue else ("user_id", "item_id"), examples,
        f"{table.path} has no column for a user or an item; its columns are {_shown(examples)}: say "
        "--map user_id=COLUMN --map item_id=COLUMN",
    )  # fmt: skip


def _examples(table: Table, values: list[Sequence[Any]]) -> dict[str, str]:
    """Return the first value of each column, cut short."""
    found = {}
    for place, column in enumerate(table.columns):
        first = next((text for row in values if (text := as_text(row[place]))), "")
        found[column] = first[:20] + ("…" if len(first) > 20 else "")
    return found


def _shown(examples: Mapping[str, str]) -> str:
    return ", ".join(name + (f" ({first})" if first else "") for name, first in examples.items())


def _check_needed(table: Table, kind: str, fields: Mapping[str, str], values: list[Sequence[Any]]) -> None:
    for name in NEEDED[kind]:
        if name not in fields:
            examples = _examples(table, values)
            raise MissingColumn(
                table, (name,), examples,
                f"{table.path} has no column for {name}; its columns are {_shown(examples)}: say "
                f"--map {name}=COLUMN" + ("" if kind != "clicks" else ", or --as content, --as users"),
            )  # fmt: skip


def _read_values(
    table: Table, values: list[Sequence[Any]], fields: dict[str, str], why: dict[str, str]
) -> None:
    """Find the time and the rating of interactions whose columns have other names."""
    for place, column in enumerate(table.columns):
        if column in fields.values():
            continue
        found = [row[place] for row in values]
        if "timestamp" not in fields and time_unit(found) is not None:
            fields["timestamp"], why["timestamp"] = column, "by its values"
        elif not {"rating", "label", "action", "value"} & fields.keys() and (
            _looks_like_ratings(found) or are_verdicts(found)
        ):
            fields["rating"], why["rating"] = column, "by its values"


def _guess_title(table: Table, values: list[Sequence[Any]], fields: Mapping[str, str]) -> str | None:
    """Find the first column of short texts of which nearly each row has one of its own."""
    for place, column in enumerate(table.columns):
        short = folded(column)
        texts = [text for row in values if (text := as_text(row[place])) and isinstance(row[place], str)]
        if column in fields.values() or short in RELATIONS or not texts:
            continue
        words = sum(WORD.search(text) is not None for text in texts)
        if (
            len(texts) >= 0.9 * len(values)
            and len(set(texts)) > MAX_DISTINCT * len(texts)
            and words > MAX_DISTINCT * len(texts)
            and sum(map(len, texts)) <= MAX_TITLE * len(texts)
            and not any(NO_TITLE.match(text) for text in texts)
            and time_unit(texts) is None
        ):
            return column
    return None


def _looks_like_ratings(values: list[Any]) -> bool:
    found = set(numbers(values, comma=True))
    return 3 <= len(found) <= 11 and min(found) >= 0 and max(found) <= 10 and len(values) >= 50


def _flags(table: Table, values: list[Sequence[Any]], columns: list[str]) -> list[str]:
    if not set(GENRES[1:4]) <= set(columns):
        return []
    return [column for column in columns if column in GENRES and column != "unknown"]


def _attributes(table: Table, values: list[Sequence[Any]], columns: list[str], kind: str) -> dict[str, str]:
    """Columns of short texts that recur: what several items or users have in common."""
    found: dict[str, str] = {}
    for column in columns:
        place = table.columns.index(column)
        texts = [as_text(row[place]) for row in values if not isinstance(row[place], dict)]
        filled = [text for text in texts if text]
        short = folded(column)
        is_id = IDS.search(short) is not None or "url" in short or "zip" in short
        name = RELATIONS.get(short, column)
        if not filled or is_id or name in found:
            continue
        is_number = bool(numbers(filled))
        is_coded = is_number and kind == "users" and _few(filled, 120)
        is_shared = _few(filled, max(20, len(filled) // 3)) and not is_number and time_unit(filled) is None
        if name in RELATIONS.values() or is_coded or is_shared:
            found[name] = column
    return found


def _few(texts: list[str], most: int) -> bool:
    return len(set(texts)) <= most and max(map(len, texts)) <= MAX_ENTITY
