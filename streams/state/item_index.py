"""Names of items: rows in this process, and keys that any process and any disk may keep.

A row is local: two workers number the same items differently. What leaves a process (changelogs,
digests) names an item by its key, xxh3 of its id.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.state.key_slots import FREE, enter, find, take_out

_digest = xxhash.xxh3_64_intdigest


def key_of(text: str) -> int:
    """Portable 64-bit key of an id."""
    return int(_digest(text.encode()))


def keys_of(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Portable keys of ids: (n,) uint64."""
    return np.array([_digest(text.encode()) for text in texts], np.uint64)


_CLASSES = 256  # see `ItemIndex.release`


class ItemIndex:
    """Item id -> row; shared by everything that a worker knows of items.

    A row may be made from its key alone (a restored changelog row): its id is "" until the item is seen.
    Two ids with the same key, expected once in billions of items, would share a row.

    A row is an item's until it is taken away in two steps. `forget`: the item is unknown from then on, and
    what still names the row sees the old item. `release`: nothing names the row any more, and another item
    may have it.

    Attributes
    ----------
    max_undescribed : rows that items without a description may have before `rows_of_bytes` and `admit` make
        no more; None: as many as come
    now_s : seconds, what `met_s` of a row is set to when its item is met
    n_described : rows whose items are described, as the catalogue says
    version : another number whenever an item has come or gone
    """

    def __init__(self, *, now_s: int = 0) -> None:
        self.max_undescribed: int | None = None
        self.now_s = now_s
        self.n_described = 0
        self.version = 0
        self.ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._keys = np.zeros(1024, np.uint64)
        self._named = np.zeros(1025, np.bool_)  # of every row, and a last False
        self._met_s = np.zeros(1025, np.int64)  # of every row, and a last one that is written for -1
        self._gone = np.zeros(1024, np.bool_)
        self._n_gone = 0
        self._free: list[list[int]] = [[] for _ in range(_CLASSES)]
        self._n_free = 0
        self._slots = np.full(4096, FREE, np.int32)  # hash table of rows, never more than half taken
        self._n_taken = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_items(self) -> int:
        """Items that have a row."""
        return len(self.ids) - self._n_gone

    @property
    def n_undescribed(self) -> int:
        """Those of them that nobody has described, or that were deleted."""
        return self.n_items - self.n_described

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; the ids are not among them."""
        return sum(a.nbytes for a in (self._keys, self._named, self._met_s, self._gone, self._slots))

    @property
    def keys(self) -> NDArray[np.uint64]:
        """(len(self),) uint64, the key of every row: a view."""
        return self._keys[: len(self.ids)]

    @property
    def met_s(self) -> NDArray[np.int64]:
        """(len(self),) int64, seconds: `now_s` when the item of each row was last met: a view."""
        return self._met_s[: len(self.ids)]

    @property
    def gone(self) -> NDArray[np.bool_]:
        """(len(self),) bool, rows that are no item's: a view."""
        return self._gone[: len(self.ids)]

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Rows of items, made where there are none: (n,) int32."""
        known = self._rows
        try:
            rows = np.array([known[name] for name in ids], np.int32)
        except KeyError:
            self._add_all(ids, None)
            rows = np.array([known[name] for name in ids], np.int32)
        self._met_s[rows] = self.now_s
        return rows

    def admit(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Rows of items, made where there are none and there is room: (n,) int32, -1 = no row."""
        known = self._rows
        if not all(name in known for name in ids):
            self._add_all(ids, self._room())
        rows = np.array([known.get(name, -1) for name in ids], np.int32)
        self._met_s[rows] = self.now_s
        return rows

    def rows_of_bytes(
        self, data: NDArray[np.uint8], spans: NDArray[np.int64], keys: NDArray[np.uint64]
    ) -> NDArray[np.int32]:
        """Rows of items as `admit`, by the bytes of their ids and their keys: (n,) int32, -1 = no row.

        Parameters
        ----------
        spans : (n, 2) int64, begin and size of each id's UTF-8 bytes in `data`
        keys : (n,) uint64
        """
        rows = find(self._slots, self._keys, keys)
        nameless = np.flatnonzero(~self._named[rows])  # a row of -1 looks at the last cell, which is False
        if len(nameless):
            room = self._room()
            if room is not None and not room:
                nameless = nameless[rows[nameless] >= 0]
            _, first = np.unique(keys[nameless], return_index=True)
            pieces = spans[nameless[np.sort(first)]].tolist()
            self._add_all([data[begin : begin + size].tobytes().decode() for begin, size in pieces], room)
            rows = find(self._slots, self._keys, keys)
        self._met_s[rows] = self.now_s
        return rows

    def known_rows(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """Rows of those of the items that have one: (at most n,) int32."""
        known = self._rows
        return np.array([known[name] for name in ids if name in known], np.int32)

    def row_of(self, item_id: str) -> int:
        """Row of an item, -1 if it has none."""
        return self._rows.get(item_id, -1)

    def rows_of_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Rows of items named by their keys, made where there are none: (n,) int32.

        What changelogs name is needed: there is always room for it. It does not count as met.
        """
        keys = np.ascontiguousarray(keys, np.uint64)
        rows = find(self._slots, self._keys, keys)
        missing = keys[rows < 0]
        if len(missing):
            self._make(np.unique(missing), None)
            rows = find(self._slots, self._keys, keys)
        return rows

    def find_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Rows of items named by their keys, -1 where there is none: (n,) int32."""
        return find(self._slots, self._keys, np.ascontiguousarray(keys, np.uint64))

    # Rows are made and taken away

    def forget(self, rows: NDArray[np.int32]) -> None:
        """Let items be unknown from now on; id and key of a row can still be read, until its `release`."""
        for row in rows.tolist():
            self._rows.pop(self.ids[row], None)
        take_out(self._slots, self._keys, rows)
        self._named[rows] = False
        self._gone[rows] = True
        self._n_gone += len(rows)
        self.version += 1

    def release(self, rows: NDArray[np.int32]) -> None:
        """Let other items have forgotten rows, which nothing must name any more.

        Such an item's key has the same low bits: co-visit counters lie by them.
        """
        for row, low in zip(rows.tolist(), (self._keys[rows] % _CLASSES).tolist(), strict=True):
            self.ids[row] = ""
            self._free[low].append(row)
        self._n_free += len(rows)

    def _room(self) -> int | None:
        limit = self.max_undescribed
        return None if limit is None else max(0, limit - self.n_undescribed)

    def _add_all(self, ids: Sequence[str], room: int | None) -> None:
        """Give rows to the items among `ids` that have none, to at most `room` that have no key either."""
        names = [name for name in dict.fromkeys(ids) if name not in self._rows]
        keys = keys_of(names)
        rows = find(self._slots, self._keys, keys)
        fresh = np.flatnonzero(rows < 0)[:room]
        for name, row in zip(names, rows.tolist(), strict=True):
            if row >= 0:
                self._rows[name] = row
                self.ids[row] = self.ids[row] or name
                self._named[row] = True
        self._make(keys[fresh], [names[k] for k in fresh.tolist()])

    def _make(self, keys: NDArray[np.uint64], names: list[str] | None) -> None:
        rows = self._vacant(keys)
        end = max(len(self.ids), int(rows.max(initial=-1)) + 1)
        self._reserve(end)
        # First: a thread that reads `keys` meanwhile must not see a row whose key is not there.
        self._keys[rows] = keys
        self.ids += [""] * (end - len(self.ids))
        self._met_s[rows] = self.now_s
        self._gone[rows] = False
        if names is not None:
            self._named[rows] = True
            for name, row in zip(names, rows.tolist(), strict=True):
                self.ids[row] = name
                self._rows[name] = row
        self._n_taken += len(rows)
        if 2 * self._n_taken > len(self._slots):
            rows = np.flatnonzero(~self.gone).astype(np.int32)
            self._slots = np.full(1 << (4 * len(rows)).bit_length(), FREE, np.int32)
            self._n_taken = len(rows)
        enter(self._slots, self._keys, rows)
        self.version += 1

    def _vacant(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Rows for new items: released ones first."""
        end = len(self.ids)
        if not self._n_free:
            return np.arange(end, end + len(keys), dtype=np.int32)
        rows = np.empty(len(keys), np.int32)
        for k, low in enumerate((keys % _CLASSES).tolist()):
            if free := self._free[low]:
                rows[k] = free.pop()
                self._n_free -= 1
                self._n_gone -= 1
            else:
                rows[k], end = end, end + 1
        return rows

    def _reserve(self, end: int) -> None:
        begin = len(self.ids)
        if end <= len(self._keys):
            return
        capacity = 2 * end
        self._keys = np.resize(self._keys, capacity)
        self._gone = np.append(self._gone[:begin], np.zeros(capacity - begin, np.bool_))
        self._named = np.append(self._named[:begin], np.zeros(capacity + 1 - begin, np.bool_))
        self._met_s = np.append(self._met_s[:begin], np.zeros(capacity + 1 - begin, np.int64))
