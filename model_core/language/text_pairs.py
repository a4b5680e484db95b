"""Pairs of texts for click prediction: a user's last liked items, and an item that was clicked or not."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import Dataset
from model_core.data.item_text import item_text

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TextLog:
    """A log with texts, in time order.

    titles, texts : (n_items,) of str, "" where an item has none
    users, items : (n,) int32 rows
    clicked : (n,) bool
    shown : whether rows without a click are impressions without one; else they say nothing
    """

    titles: list[str]
    texts: list[str]
    users: Ints
    items: Ints
    clicked: Bools
    shown: bool

    def __len__(self) -> int:
        return len(self.users)

    @property
    def fingerprint(self) -> str:
        """Hash of the whole content."""
        digest = hashlib.sha256(repr((self.titles, self.texts, self.shown)).encode())
        for array in (self.users, self.items, self.clicked):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Pairs:
    """Examples: what a user liked before, an item, and whether it was clicked.

    users : (n,) int32
    history : (n, length) int32 item rows, most recent last, -1 before the first
    items : (n,) int32
    labels : (n,) bool
    """

    users: Ints
    history: Ints
    items: Ints
    labels: Bools

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: "NDArray[np.integer] | NDArray[np.bool_] | slice") -> "Pairs":
        return Pairs(self.users[rows], self.history[rows], self.items[rows], self.labels[rows])


def read_labels(folder: Path, n: int) -> Bools | None:
    """Read the column `label` of a folder's `.inter` file, in time order: None without that column.

    Raises
    ------
    ValueError
        If a label is neither 0 nor 1, or only one of them occurs.
    """
    own = folder / f"{folder.name}.inter"
    path = own if own.is_file() else min(folder.glob("*.inter"))
    with path.open(encoding="utf-8") as file:
        names = [name.split(":")[0] for name in file.readline().rstrip("\n").split("\t")]
        if "label" not in names:
            return None
        rows = [line.rstrip("\n").split("\t") for line in file if line.strip()]
    at = names.index("label")
    values = {"0": False, "0.0": False, "1": True, "1.0": True}
    wrong = next((row[at] for row in rows if row[at] not in values), None)
    if wrong is not None:
        raise ValueError(f"{path.name} column 'label' must hold 0 or 1, got {wrong!r}")
    if len(rows) != n:
        raise ValueError(f"{path.name} must hold {n} rows, got {len(rows)}")
    seconds = np.array([row[names.index("timestamp")] for row in rows], np.float64)
    labels = np.array([values[row[at]] for row in rows])[np.argsort(seconds, kind="stable")]
    if labels.all() or not labels.any():
        raise ValueError(
            f"{path.name} column 'label' must hold both 0 and 1, got {int(labels[0])} only; without the "
            "column every row of a rating of 4 and more, or of none, is a click"
        )
    return labels


def make_log(dataset: Dataset, clicked: Sequence[bool] | Bools, *, shown: bool) -> TextLog:
    """Number users and items and say each item in words; rows of items without words are left out.

    An item whose title is no more than its id has none.

    Raises
    ------
    ValueError
        If no item of the log has a text, or no row is a click.
    """
    described = {item.item_id: item for item in dataset.items}
    names, rows = np.unique(dataset.interactions.item_ids, return_inverse=True)
    known = [described[name] for name in names.tolist()]
    worded = np.array([item.title != item.item_id or bool(item.text) for item in known])
    if not worded.any():
        raise ValueError(
            f"items must have texts, got none for {len(names)} items; put an .item file with the columns "
            "item_id:token and title:token_seq beside the .inter file"
        )
    keep = worded[rows]
    did = np.asarray(clicked, np.bool_)[keep]
    if not did.any():
        raise ValueError(
            "the log must hold clicks, got none; a click is label 1, a rating of 4 and more, or a row "
            "without rating"
        )
    users = np.unique(dataset.interactions.user_ids[keep], return_inverse=True)[1]
    return TextLog(
        [item.title if yes else "" for item, yes in zip(known, worded, strict=True)],
        [
            item_text(i.title, i.text, i.attributes) if yes else ""
            for i, yes in zip(known, worded, strict=True)
        ],
        users.astype(np.int32),
        rows[keep].astype(np.int32),
        did,
        shown,
    )


def histories(log: TextLog, length: int) -> Ints:
    """Items that the row's user had clicked before it: (n, length), most recent last, -1 before the first.

    A row of the same user that comes later, or is this row, is never in it.
    """
    if length < 1:
        raise ValueError(f"history length must be at least 1, got {length}")
    order = np.argsort(log.users, kind="stable")
    users, clicked = log.users[order], log.clicked[order]
    before: NDArray[np.int64] = np.cumsum(clicked) - clicked  # clicks of all earlier rows in this order
    first = np.searchsorted(users, users, side="left")
    own: NDArray[np.int64] = before - before[first]
    clicks = log.items[order][clicked]
    place = before[:, None] + np.arange(-length, 0)
    valid = np.arange(length, 0, -1) <= own[:, None]
    found = np.full((len(log), length), -1, np.int32)
    found[order] = np.where(valid, clicks[np.clip(place, 0, max(len(clicks) - 1, 0))], -1)
    return found


def make_pairs(log: TextLog, *, length: int, negatives: int, rng: np.random.Generator) -> Pairs:
    """Make examples in time order: every click, and what was not clicked.

    Where impressions are known, all that were shown without a click; else `negatives` items a click, drawn
    uniformly from those the user never met in the whole log. Rows of users without any earlier click are
    left out: nothing is known of them.
    """
    history = histories(log, length)
    known = history[:, -1] >= 0
    if log.shown:
        return Pairs(log.users, history, log.items, log.clicked)[known]
    clicks = np.flatnonzero(known & log.clicked)
    n_items = len(log.titles)
    met = np.unique(log.users.astype(np.int64) * n_items + log.items)
    rows = np.repeat(clicks, negatives)
    drawn = _unmet(
        log.users[rows].astype(np.int64), met, n_items, rng, np.array([bool(t) for t in log.texts])
    )
    ok = drawn >= 0
    rows, drawn = rows[ok], drawn[ok]
    at = np.concatenate([clicks, rows])
    items = np.concatenate([log.items[clicks], drawn.astype(np.int32)])
    labels = np.arange(len(at)) < len(clicks)
    order = np.argsort(at, kind="stable")
    return Pairs(log.users[at], history[at], items, labels)[order]


def split_by_time(pairs: Pairs, validation: float, test: float) -> tuple[Pairs, Pairs, Pairs]:
    """Split examples in time order into train, validation and test.

    Raises
    ------
    ValueError
        If a part has no example, or only clicks or only others: nothing can be learnt or measured.
    """
    if min(validation, test) <= 0 or validation + test >= 1:
        raise ValueError(f"validation and test must be positive with a sum below 1, got {validation}, {test}")
    n = len(pairs)
    first, second = int(n * (1 - validation - test)), int(n * (1 - test))
    parts = {"training": pairs[:first], "validation": pairs[first:second], "test": pairs[second:]}
    for name, part in parts.items():
        clicks = int(part.labels.sum())
        if not 0 < clicks < len(part):
            raise ValueError(
                f"the {name} part must hold clicks and others, got {clicks} clicks in {len(part)} examples; "
                "the log is too short, or its users have no earlier click"
            )
    return parts["training"], parts["validation"], parts["test"]


def spaced(n: int, most: int) -> NDArray[np.int64]:
    """Take at most so many of n rows, evenly spaced; 0 takes all."""
    return np.arange(n) if not 0 < most < n else np.linspace(0, n - 1, most).round().astype(np.int64)


def _unmet(
    users: NDArray[np.int64], met: NDArray[np.int64], n_items: int, rng: np.random.Generator, allowed: Bools
) -> NDArray[np.int64]:
    """Draw an allowed item that each user never met; -1 where forty draws found none."""
    pool = np.flatnonzero(allowed)
    found = np.full(len(users), -1, np.int64)
    left = np.arange(len(users))
    for _ in range(40):
        if not len(left):
            break
        drawn = rng.choice(pool, len(left))
        key = users[left] * n_items + drawn
        at = np.minimum(np.searchsorted(met, key), len(met) - 1)
        fresh = met[at] != key
        found[left[fresh]] = drawn[fresh]
        left = left[~fresh]
    return found
