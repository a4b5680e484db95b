"""Names of items: rows in this process, and keys that any process and any disk may keep.

A row is local: two workers number the same items differently. What leaves a process (changelogs,
digests) names an item by its key, xxh3 of its id.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

_digest = xxhash.xxh3_64_intdigest


def key_of(text: str) -> int:
    """Portable 64-bit key of an id."""
    return int(_digest(text.encode()))


def keys_of(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Portable keys of ids: (n,) uint64."""
    return np.array([_digest(text.encode()) for text in texts], np.uint64)


class ItemIndex:
    """Item id -> row, growing and never renumbered; shared by everything that a worker knows of items.

    A row may be made from its key alone (a restored changelog row): its id is "" until the item is seen.
    Two ids with the same key, expected once in billions of items, would share a row.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._row_of_key: dict[int, int] = {}
        self._keys = np.zeros(1024, np.uint64)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """(len(self),) uint64, the key of every row: a view."""
        return self._keys[: len(self.ids)]

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Rows of items, made where there are none: (n,) int32."""
        known = self._rows
        try:
            return np.array([known[name] for name in ids], np.int32)
        except KeyError:
            return np.array([known[name] if name in known else self._add(name) for name in ids], np.int32)

    def known_rows(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """Rows of those of the items that have one: (at most n,) int32."""
        known = self._rows
        return np.array([known[name] for name in ids if name in known], np.int32)

    def row_of(self, item_id: str) -> int:
        """Row of an item, -1 if it has none."""
        return self._rows.get(item_id, -1)

    def rows_of_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Rows of items named by their keys, made where there are none: (n,) int32."""
        distinct, inverse = np.unique(keys, return_inverse=True)
        known = self._row_of_key
        rows = [known[key] if key in known else self._make("", key) for key in distinct.tolist()]
        return np.array(rows, np.int32)[inverse]

    def _add(self, name: str) -> int:
        key = key_of(name)
        row = self._row_of_key.get(key)
        if row is None:
            row = self._make(name, key)
        elif not self.ids[row]:
            self.ids[row] = name
        self._rows[name] = row
        return row

    def _make(self, name: str, key: int) -> int:
        row = len(self.ids)
        if row == len(self._keys):
            self._keys = np.concatenate((self._keys, np.zeros(row, np.uint64)))
        self.ids.append(name)
        self._keys[row] = key
        self._row_of_key[key] = row
        return row
