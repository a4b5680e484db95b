"""Interactions and item descriptions read from files: RecBole's atomic-file format.

A dataset is a folder `<name>/` with `<name>.inter` and, each optional, `.item`, `.kg` + `.link`, `.user`
(https://recbole.io/docs/user_guide/data/atomic_files.html), and `.image` and `.audio`: a column `item_id` and
one of embeddings, which are numbers with spaces between (RecBole's `float_seq`). Ids stay strings.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINES = 1 << 18
UNTOLD = -2  # a position in a file that has none
MAX_TRIPLES = 24
LARGEST = 1e6
"""Of an embedding's numbers: what is larger is no embedding, and its squares end a training with NaN."""
KINDS = ("inter", "item", "kg", "link", "user", "image", "audio")

Triple = tuple[str, str]
"""(relation, entity): an edge that leaves an item."""


@dataclass(frozen=True, slots=True)
class Interactions:
    """Interactions of users with items, sorted by time (ties keep the file's order).

    user_ids, item_ids : (n,) str
    ratings : (n,) float32; NaN where the file has none
    timestamps_ms : (n,) int64, Unix milliseconds
    positions : (n,) int64, where in a slate the item stood, from 0; -1 = in none, or not told; None = all so
    """

    user_ids: NDArray[np.str_]
    item_ids: NDArray[np.str_]
    ratings: NDArray[np.float32]
    timestamps_ms: NDArray[np.int64]
    positions: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    def first(self, fraction: float) -> "Interactions":
        """Return the first `fraction` of the rows in time order."""
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction must be in (0, 1], got {fraction}")
        return self[: int(fraction * len(self))]

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> "Interactions":
        return Interactions(
            self.user_ids[rows],
            self.item_ids[rows],
            self.ratings[rows],
            self.timestamps_ms[rows],
            None if self.positions is None else self.positions[rows],
        )


@dataclass(frozen=True, slots=True)
class Item:
    """One item as its publisher describes it.

    `attributes` maps a relation to entities with readable names ({"genre": ["Comedy"]}); `triples` are the
    knowledge-graph edges, whose entities may be opaque ids. Together they are the item's `edges`. `image` and
    `audio` are embeddings by an encoder of the publisher's.
    """

    item_id: str
    title: str
    attributes: dict[str, list[str]] = field(default_factory=dict)
    triples: list[Triple] = field(default_factory=list)
    text: str | None = None
    image: NDArray[np.float32] | None = field(default=None, compare=False)  # arrays have no one equality
    audio: NDArray[np.float32] | None = field(default=None, compare=False)

    @property
    def genres(self) -> list[str]:
        """Values of the attribute `genre`."""
        return self.attributes.get("genre", [])

    @property
    def edges(self) -> list[Triple]:
        """Attributes first, then triples; no edge twice."""
        pairs = [(relation, value) for relation, values in self.attributes.items() for value in values]
        return list(dict.fromkeys(pairs + self.triples))


@dataclass(frozen=True, slots=True)
class User:
    """One user with what they state: {"gender": "F", "occupation": "writer"}, and entities that they like."""

    user_id: str
    attributes: dict[str, str] = field(default_factory=dict)
    preferences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Interactions in time order, with the items and users they mention (and possibly more)."""

    name: str
    interactions: Interactions
    items: list[Item]
    users: list[User]


def load_recbole(folder: Path | str, *, max_triples: int = MAX_TRIPLES) -> Dataset:
    """Read a dataset in RecBole's atomic-file format.

    Of the knowledge graph the edges that leave a linked item are kept (inverse relations go), without
    relations of fewer than 5 edges and entities that touch one item only or more than half of them: neither
    tells items apart and brings any two together. Items without an `.item` row have their id as title.

    Parameters
    ----------
    folder
        Holds `<folder's name>.inter`, or exactly one `.inter` file of another name.
    max_triples
        Knowledge-graph edges kept per item; relations with few edges per item (director) go before those
        with many (actor).

    Raises
    ------
    ValueError
        If a file is missing, a needed column is absent or a value cannot be read; the message names it.
    """
    stem = _stem(Path(folder))
    beside = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in KINDS}  # a name may have dots in it
    interactions = _read_interactions(beside["inter"])
    table = _read_table(beside["item"]) if beside["item"].is_file() else {}
    names = dict.fromkeys([*table.get("item_id", []), *interactions.item_ids.tolist()])
    triples = _linked(beside["kg"], beside["link"], list(names), max_triples)
    items = _read_items(beside["item"], table, triples)
    described = {item.item_id for item in items}
    for item_id in dict.fromkeys(interactions.item_ids.tolist()):
        if item_id not in described:
            items.append(Item(item_id, item_id, triples=triples.get(item_id, [])))
    images, sounds = (
        read_embeddings(beside[kind], kind) if beside[kind].is_file() else {} for kind in ("image", "audio")
    )
    items = [replace(item, image=images.get(item.item_id), audio=sounds.get(item.item_id)) for item in items]
    return Dataset(stem.name, interactions, items, _read_users(beside["user"]))


def _stem(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"data must be a folder of RecBole atomic files, got {str(folder)!r}")
    if (folder / f"{folder.name}.inter").is_file():
        return folder / folder.name
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        raise ValueError(f"data must hold exactly one .inter file, got {len(found)} in {str(folder)!r}")
    return found[0].with_name(found[0].name.removesuffix(".inter"))


def _read_table(path: Path) -> dict[str, list[str]]:
    """Columns by name without their type suffix."""
    parts = list(_read_parts(path))
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _read_parts(path: Path) -> Iterator[dict[str, list[str]]]:
    """The same `LINES` at a time, at least once: as text a table takes ten times what its numbers do."""
    number = 2
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = [name.split(":")[0] for name in file.readline().rstrip("\n").split("\t")]
            lines = list(islice(file, LINES))
            while True:
                rows = [line.rstrip("\n").split("\t") for line in lines if line.strip()]
                for row in rows:
                    if len(row) != len(header):
                        raise ValueError(
                            f"{path.name} line {number} must have {len(header)} fields, got {len(row)}"
                        )
                    number += 1
                columns = zip(*rows, strict=True) if rows else ([] for _ in header)
                yield {name: list(values) for name, values in zip(header, columns, strict=True)}
                if not (lines := list(islice(file, LINES))):
                    return
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} must be text in UTF-8: {error}") from None


def _need(table: Mapping[str, list[str]], path: Path, *names: str) -> list[list[str]]:
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(f"{path.name} must have the column {missing[0]!r}, got {list(table)}")
    return [table[name] for name in names]


def _numbers(values: Iterable[str], path: Path, column: str) -> NDArray[np.float64]:
    try:
        return np.asarray(list(values), np.float64)
    except ValueError as error:
        raise ValueError(f"{path.name} column {column!r} must hold numbers: {error}") from None


def _read_interactions(path: Path) -> Interactions:
    parts = [_as_arrays(table, path) for table in _read_parts(path)]
    users, items, seconds, ratings, places = (np.concatenate(column) for column in zip(*parts, strict=True))
    del parts
    if not len(users):
        raise ValueError(f"{path.name} must hold at least one interaction, got none")
    if not np.isfinite(seconds).all():
        raise ValueError(f"{path.name} column 'timestamp' must hold finite numbers, got NaN or infinity")
    scale = 1000.0 if seconds.max() < 1e11 else 1.0  # before the year 5138 a larger number is in ms
    order = np.argsort(seconds, kind="stable")
    told = bool((places != UNTOLD).any())
    return Interactions(
        users[order],
        items[order],
        ratings[order].astype(np.float32),
        (seconds[order] * scale).astype(np.int64),
        places[order] if told else None,
    )


def _as_arrays(table: Mapping[str, list[str]], path: Path) -> tuple[NDArray[Any], ...]:
    """Users, items, seconds, ratings (NaN without the column) and positions (`UNTOLD` without it)."""
    users, items, times = _need(table, path, "user_id", "item_id", "timestamp")
    ratings, places = table.get("rating"), table.get("position")
    return (
        np.asarray(users, np.str_),
        np.asarray(items, np.str_),
        _numbers(times, path, "timestamp"),
        np.full(len(users), np.nan) if ratings is None else _numbers(ratings, path, "rating"),
        np.full(len(users), UNTOLD)
        if places is None
        else _numbers(places, path, "position").astype(np.int64),
    )


def _read_items(
    path: Path, table: Mapping[str, list[str]], triples: Mapping[str, list[Triple]]
) -> list[Item]:
    if not table:
        return []
    (ids,) = _need(table, path, "item_id")
    blank = [""] * len(ids)
    titles = next((table[name] for name in ("movie_title", "title", "name") if name in table), blank)
    years = table.get("release_year", blank)
    genres = next((table[name] for name in ("class", "genre", "genres") if name in table), blank)
    items = []
    for item_id, title, year, names in zip(ids, titles, years, genres, strict=True):
        full = f"{title or item_id} ({year})" if year.isdigit() else title or item_id
        attributes = {"genre": names.split()} if names.strip() else {}
        items.append(Item(item_id, full, attributes, triples.get(item_id, [])))
    return items


def read_embeddings(path: Path, kind: str) -> dict[str, NDArray[np.float32]]:
    """Read a `.image` or `.audio` file: the embedding of each item, by its id."""
    table = _read_table(path)
    ids, values = _need(table, path, "item_id", kind)
    return {
        item_id: _numbers(value.split(), path, kind).astype(np.float32)
        for item_id, value in zip(ids, values, strict=True)
    }


def _read_users(path: Path) -> list[User]:
    if not path.is_file():
        return []
    table = _read_table(path)
    (ids,) = _need(table, path, "user_id")
    names = [name for name in table if name not in ("user_id", "zip_code")]
    return [
        User(user_id, {name: table[name][row] for name in names if table[name][row]})
        for row, user_id in enumerate(ids)
    ]


def _linked(kg: Path, link: Path, items: Sequence[str], max_triples: int) -> dict[str, list[Triple]]:
    if not kg.is_file():
        return {}
    triples = read_triples(kg, link if link.is_file() else None, items=items, max_triples=max_triples)
    if not triples and not link.is_file():
        raise ValueError(f"{kg.name} must have {link.name} beside it, or items as heads: it adds nothing")
    return triples


def read_triples(
    kg: Path,
    link: Path | None,
    *,
    items: Sequence[str],
    same: Callable[[str], str] = str,
    max_triples: int = MAX_TRIPLES,
) -> dict[str, list[Triple]]:
    """Read the edges of a knowledge graph that leave items; see `load_recbole` for those that are kept.

    Parameters
    ----------
    link
        Says which entity an item is; without it, heads are ids of items.
    items
        Their ids.
    same
        An item's id as `items` has it, from what a file calls it.
    """
    heads, relations, tails = _need(_read_table(kg), kg, "head_id", "relation_id", "tail_id")
    if link is None:
        known = set(items)
        item_of = {head: same(head) for head in dict.fromkeys(heads) if same(head) in known}
        n_linked = len(item_of)
    else:
        names, entities = _need(_read_table(link), link, "item_id", "entity_id")
        item_of = dict(zip(entities, map(same, names), strict=True))
        n_linked = len(names)
    edges = list(
        dict.fromkeys(
            (item_of[head], relation, tail)
            for head, relation, tail in zip(heads, relations, tails, strict=True)
            if head in item_of
        )
    )
    relation_counts = Counter(relation for _, relation, _ in edges)
    degree = Counter(tail for _, tail in {(item, tail) for item, _, tail in edges})
    fan_out = {
        relation: count / len({item for item, other, _ in edges if other == relation})
        for relation, count in relation_counts.items()
    }
    label = _labels(relation_counts)
    kept: dict[str, list[Triple]] = defaultdict(list)
    for item, relation, tail in sorted(edges, key=lambda edge: (fan_out[edge[1]], edge[1], -degree[edge[2]])):
        common = degree[tail] > 0.5 * n_linked
        if relation_counts[relation] < 5 or degree[tail] < 2 or common or len(kept[item]) >= max_triples:
            continue
        kept[item].append((label[relation], tail))
    return dict(kept)


def _labels(relations: Iterable[str]) -> dict[str, str]:
    """Freebase's `film.film.directed_by` reads `directed_by`, where that stays unambiguous."""
    names = list(relations)
    short = Counter(name.rsplit(".", 1)[-1] for name in names)
    return {name: last if short[last := name.rsplit(".", 1)[-1]] == 1 else name for name in names}
