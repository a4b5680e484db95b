"""A dataset from the files that people have: read as `slatestream import` reads them, for a training.

Interactions, items and users may lie in any of the tables that are read, parted into several files too.
Beside tables of RecBole's kind may lie its `.kg` and `.link`, `.image` and `.audio`; see
`model_core.data.datasets`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import Dataset, Interactions, Item, User, read_embeddings, read_triples
from streams.events import Click, Content, UserUpdate
from streams.importing.columns import ColumnPlan, Told, make_plan
from streams.importing.delimited import ATOMIC, MOVIELENS
from streams.importing.faults import FileError, Refused
from streams.importing.options import Choices
from streams.importing.records import make_values, records
from streams.importing.run import Source
from streams.importing.tables import open_table

SUFFIXES = (".inter", ".item", ".user", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
BESIDE = (".kg", ".link", ".image", ".audio")
ORDER_FROM_MS = 1_000_000_000_000
"""Time of the first event where a file has an order and no times: the same whenever it is read."""
MAX_REFUSED = 0.1
"""The largest share of a file's rows at fault with which it is still taken for what it seems to be."""


@dataclass(slots=True)
class Reading:
    """A dataset, and how it came about.

    Attributes
    ----------
    actions : of each interaction
    sources : each table and what its columns became
    refused : what could not be used, table by table, in the order of `sources`
    rows : that were used, table by table
    remarks : what else whoever trains should know
    """

    dataset: Dataset
    actions: list[str]
    sources: list[Source]
    refused: list[Refused]
    rows: list[int]
    remarks: list[str]


@dataclass(slots=True)
class _Found:
    """The rows read so far; each user and item id is kept once."""

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    who: list[int] = field(default_factory=list)
    what: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    described: dict[str, Content] = field(default_factory=dict)
    stated: dict[str, UserUpdate] = field(default_factory=dict)
    again: int = 0

    def add(self, value: Click | Content | UserUpdate) -> None:
        if isinstance(value, Click):
            self.who.append(self.users.setdefault(value.user_id, len(self.users)))
            self.what.append(self.items.setdefault(value.item_id, len(self.items)))
            self.times.append(value.timestamp_ms)
            self.actions.append(value.action)
            self.positions.append(-1 if value.position is None else value.position)
        elif isinstance(value, Content):
            self.again += value.item_id in self.described
            self.described[value.item_id] = value
        else:
            self.stated[value.user_id] = value


def read_dataset(data: Path, choices: Choices, told: Told) -> Reading:
    """Read a folder of tables, or one table.

    Parameters
    ----------
    told
        What somebody said of columns.

    Raises
    ------
    FileError
        If there is nothing to read, a table is none, or more than a tenth of one's rows cannot be used.
    """
    remarks: list[str] = []
    plans = _plans(data, told, remarks)
    if not any(plan.kind == "clicks" for plan in plans):
        names = ", ".join(plan.table.path.name for plan in plans)
        raise FileError(
            f"{data} has no table of interactions, with a user and an item in each row, but {names}: say "
            "--map user_id=COLUMN --map item_id=COLUMN"
        )
    found = _Found()
    sources: list[Source] = []
    refused: list[Refused] = []
    rows: list[int] = []
    for plan in plans:
        first = ORDER_FROM_MS + 1000 * sum(rows)  # files without times follow one another
        ordered = replace(choices, order_from_ms=ORDER_FROM_MS if "timestamp" in plan.fields else first)
        make, how = make_values(plan, _like_recbole(plan, ordered))
        bad, n = Refused(plan.table.path.name), 0
        for value in records(plan, make, bad):
            found.add(value)
            n += 1
        _check_share(plan, bad, n)
        sources.append(Source(plan, how))
        refused.append(bad)
        rows.append(n)
    if not found.times:
        raise FileError(f"{data} has no interaction that can be used: {_first_fault(refused)}")
    order = np.argsort(np.asarray(found.times, np.int64), kind="stable")
    dataset = _dataset(data, found, order, remarks)
    return Reading(dataset, [found.actions[row] for row in order.tolist()], sources, refused, rows, remarks)


def _plans(data: Path, told: Told, remarks: list[str]) -> list[ColumnPlan]:
    plans, others = [], []
    for path in _tables(data):
        try:
            plans.append(_as_recbole(make_plan(open_table(path), told=told), [name for name, _ in told]))
        except FileError as error:
            others.append((path, error))
    if others and (not plans or not data.is_dir() or any(path.suffix == ".inter" for path, _ in others)):
        raise others[0][1]
    remarks += [f"{path.name} is not read: {error}" for path, error in others]
    columns = {column for plan in plans for column in plan.table.columns}
    for name, column in told:
        if column not in columns:
            raise FileError(
                f"--map {name}={column}: no file has that column, but {', '.join(sorted(columns))}"
            )
    return plans


def _is_atomic(plan: ColumnPlan) -> bool:
    return any(suffix in ATOMIC for suffix in plan.table.path.suffixes)


def _as_recbole(plan: ColumnPlan, told: Sequence[str]) -> ColumnPlan:
    """Take of RecBole's files what `load_recbole` takes of them, and what somebody said."""
    if not _is_atomic(plan) or plan.kind == "clicks":
        return plan
    columns = plan.table.columns
    said = {name: column for name, column in plan.attributes.items() if name in told}
    fields = {
        name: column
        for name, column in plan.fields.items()
        if name in told or name in ("item_id", "title", "year", "user_id")
    }
    if plan.kind == "content":
        genres = [name for name in ("class", "genre", "genres") if name in columns]
        found: dict[str, str] = {"genre": genres[0]} if genres else {}
    else:
        found = {one: one for one in columns if one not in (*fields.values(), "zip_code")}
    attributes = found | said
    taken = {*fields.values(), *attributes.values()}
    unread = [column for column in columns if column not in taken]
    return replace(plan, fields=fields, attributes=attributes, flags=[], unread=unread)


def _like_recbole(plan: ColumnPlan, choices: Choices) -> Choices:
    """Take rows of RecBole's interactions for as many events, and those without ratings for likes."""
    if not _is_atomic(plan) or plan.kind != "clicks":
        return choices
    alone = not {"action", "label", "rating", "value"} & plan.fields.keys()
    like = "like" if alone and "like" in choices.known_actions else choices.action
    return replace(choices, action=like, repeats=True)


def _tables(data: Path) -> list[Path]:
    """Return the tables of a folder; of one that has a dataset of its own name those alone."""
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise FileError(f"--data {data}: no such folder or file")
    files = sorted(path for path in data.iterdir() if path.is_file())
    own = [path for path in files if path.name.startswith(f"{data.resolve().name}.")]
    if any(".inter" in path.suffixes for path in own):
        files = own
    tables = [path for path in files if _suffix(path) in SUFFIXES or _plain(path) in MOVIELENS]
    if not tables:
        names = ", ".join(path.name for path in files[:8]) or "nothing"
        raise FileError(f"--data {data} has no table in it ({', '.join(SUFFIXES)}; .gz too), but {names}")
    return tables


def _plain(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _suffix(path: Path) -> str:
    return Path(_plain(path)).suffix


def _check_share(plan: ColumnPlan, bad: Refused, rows: int) -> None:
    faults = bad.counts.total()
    if faults > MAX_REFUSED * (faults + rows):
        reason, n = bad.counts.most_common(1)[0]
        one = bad.examples[reason][0]
        raise FileError(
            f"{plan.table.path}: {faults:,} of {faults + rows:,} rows cannot be used; {n:,} as line "
            f"{one['line']:,}: {one['error']}"
        )


def _first_fault(refused: Iterable[Refused]) -> str:
    faults = [one for bad in refused for some in bad.examples.values() for one in some]
    return f"line {faults[0]['line']:,}: {faults[0]['error']}" if faults else "there are no rows"


def _dataset(data: Path, found: _Found, order: NDArray[np.int64], remarks: list[str]) -> Dataset:
    places = np.asarray(found.positions, np.int64)[order]
    interactions = Interactions(
        np.asarray(list(found.users), np.str_)[np.asarray(found.who)[order]],
        np.asarray(list(found.items), np.str_)[np.asarray(found.what)[order]],
        np.full(len(order), np.nan, np.float32),
        np.asarray(found.times, np.int64)[order],
        places if (places >= 0).any() else None,
    )
    names = list(dict.fromkeys([*found.described, *found.items]))
    beside = _beside(data)
    triples = _triples(beside, names, remarks)
    images, sounds = (_embeddings(beside, kind, names) for kind in ("image", "audio"))
    items = []
    for name in names:
        content = found.described.get(name) or Content(item_id=name, title=name)
        items.append(
            Item(
                name, content.title, content.attributes, triples.get(name, []), content.text,
                image=images.get(name), audio=sounds.get(name),
            )
        )  # fmt: skip
    if found.again:
        remarks.append(f"{found.again:,} items are described more than once: the last description counts")
    if found.described and (bare := len(names) - len(found.described)):
        remarks.append(f"{bare:,} of {len(names):,} items are described nowhere: their id is their title")
    users = [User(name, one.attributes, one.preferences) for name, one in found.stated.items()]
    return Dataset(data.name.removesuffix(".inter"), interactions, items, users)


def _beside(data: Path) -> dict[str, Path]:
    """RecBole's files beside the tables, by suffix."""
    folder = data if data.is_dir() else data.parent
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        own = path.name.startswith(f"{folder.resolve().name}.") or path.stem == data.stem
        if path.suffix in BESIDE and (own or path.suffix not in found):
            found[path.suffix] = path
    return found


def _same(names: Sequence[str]) -> Callable[[str], str]:
    """Return what finds an item's id where a tool has added .0 to it, or taken it away."""
    known = set(names)

    def same(name: str) -> str:
        if name in known:
            return name
        other = name[:-2] if name.endswith(".0") else f"{name}.0"
        return other if other in known else name

    return same


def _triples(
    beside: Mapping[str, Path], names: Sequence[str], remarks: list[str]
) -> Mapping[str, list[tuple[str, str]]]:
    kg, link = beside.get(".kg"), beside.get(".link")
    if kg is None:
        if link is not None:
            remarks.append(f"{link.name} is not read: there is no .kg beside it")
        return {}
    triples = read_triples(kg, link, items=names, same=_same(names))
    if link is None and triples:
        remarks.append(f"{kg.name} has no .link beside it: its heads are read as ids of items")
    elif not triples:
        why = (
            "there is no .link beside it, and its heads" if link is None else f"those that {link.name} links"
        )
        remarks.append(
            f"{kg.name} adds nothing: {why} are no items of the dataset, or have nothing in common"
        )
    return triples


def _embeddings(
    beside: Mapping[str, Path], kind: str, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    path = beside.get(f".{kind}")
    same = _same(names)
    return {} if path is None else {same(name): one for name, one in read_embeddings(path, kind).items()}
