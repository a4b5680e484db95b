"""Names of items: rows in this process, and keys that any process and any disk may keep.

A row is local: two workers number the same items differently. What leaves a process (changelogs,
digests) names an item by its key, xxh3 of its id.
"""

from collections.abc import Iterable, Sequence

import numba
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


@numba.njit(cache=True, nogil=True)
def _find(
    slots: NDArray[np.int32], keys: NDArray[np.uint64], wanted: NDArray[np.uint64]
) -> NDArray[np.int32]:
    """Rows of keys by a table of open addressing, -1 = not there; keys are hashes already."""
    rows = np.empty(len(wanted), np.int32)
    mask = np.uint64(len(slots) - 1)
    for i in range(len(wanted)):
        slot = wanted[i] & mask
        while slots[slot] >= 0 and keys[slots[slot]] != wanted[i]:
            slot = (slot + np.uint64(1)) & mask
        rows[i] = slots[slot]
    return rows


@numba.njit(cache=True, nogil=True)
def _enter(slots: NDArray[np.int32], keys: NDArray[np.uint64], begin: int, end: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for row in range(begin, end):
        slot = keys[row] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row


class ItemIndex:
    """Item id -> row, growing and never renumbered; shared by everything that a worker knows of items.

    A row may be made from its key alone (a restored changelog row): its id is "" until the item is seen.
    Two ids with the same key, expected once in billions of items, would share a row.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._keys = np.zeros(1024, np.uint64)
        self._named = np.zeros(1025, np.bool_)  # of every row, and a last False
        self._slots = np.full(4096, -1, np.int32)  # hash table of rows, never more than half full

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
            self._add_all(ids)
            return np.array([known[name] for name in ids], np.int32)

    def rows_of_bytes(
        self, data: NDArray[np.uint8], spans: NDArray[np.int64], keys: NDArray[np.uint64]
    ) -> NDArray[np.int32]:
        """Rows of items as `rows_of`, by the bytes of their ids and their keys: (n,) int32.

        Parameters
        ----------
        spans : (n, 2) int64, begin and size of each id's UTF-8 bytes in `data`
        keys : (n,) uint64
        """
        rows = _find(self._slots, self._keys, keys)
        nameless = np.flatnonzero(~self._named[rows])  # a row of -1 looks at the last cell, which is False
        if len(nameless):
            _, first = np.unique(keys[nameless], return_index=True)
            pieces = spans[nameless[np.sort(first)]].tolist()
            self._add_all([data[begin : begin + size].tobytes().decode() for begin, size in pieces])
            rows = _find(self._slots, self._keys, keys)
        return rows

    def known_rows(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """Rows of those of the items that have one: (at most n,) int32."""
        known = self._rows
        return np.array([known[name] for name in ids if name in known], np.int32)

    def row_of(self, item_id: str) -> int:
        """Row of an item, -1 if it has none."""
        return self._rows.get(item_id, -1)

    def rows_of_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Rows of items named by their keys, made where there are none: (n,) int32."""
        keys = np.ascontiguousarray(keys, np.uint64)
        rows = _find(self._slots, self._keys, keys)
        missing = keys[rows < 0]
        if len(missing):
            self._make(np.unique(missing), None)
            rows = _find(self._slots, self._keys, keys)
        return rows

    def find_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Rows of items named by their keys, -1 where there is none: (n,) int32."""
        return _find(self._slots, self._keys, np.ascontiguousarray(keys, np.uint64))

    def _add_all(self, ids: Sequence[str]) -> None:
        """Give rows to the items among `ids` that have none."""
        names = [name for name in dict.fromkeys(ids) if name not in self._rows]
        keys = keys_of(names)
        rows = _find(self._slots, self._keys, keys)
        fresh = rows < 0
        for name, row in zip(names, rows.tolist(), strict=True):
            if row >= 0:
                self._rows[name] = row
                self.ids[row] = self.ids[row] or name
                self._named[row] = True
        self._make(keys[fresh], [name for name, new in zip(names, fresh.tolist(), strict=True) if new])

    def _make(self, keys: NDArray[np.uint64], names: list[str] | None) -> None:
        begin, end = len(self.ids), len(self.ids) + len(keys)
        if end > len(self._keys):
            self._keys = np.resize(self._keys, 2 * end)
            self._named = np.append(self._named[:begin], np.zeros(2 * end + 1 - begin, np.bool_))
        self._keys[begin:end] = keys
        self.ids += names or [""] * len(keys)
        if names is not None:
            self._named[begin:end] = True
            self._rows.update(zip(names, range(begin, end), strict=True))
        if 2 * end > len(self._slots):
            self._slots = np.full(1 << (4 * end).bit_length(), -1, np.int32)
            begin = 0
        _enter(self._slots, self._keys, begin, end)
