"""Posting lists: which items have an edge of one relation to one entity, as sorted arrays of item rows."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_NONE = np.zeros(0, np.int32)


class Posting:
    """Item rows in ascending order; a row that leaves keeps its place until half of the list has left.

    A new item has the highest row so far, so adding is an append; taking out and putting back are a binary
    search.
    """

    __slots__ = ("_alive", "_gone", "_n", "_rows")

    def __init__(self) -> None:
        self._rows = np.empty(4, np.int32)
        self._alive: NDArray[np.bool_] | None = None  # None while no row has left
        self._n = 0
        self._gone = 0

    def __len__(self) -> int:
        return self._n - self._gone

    def add(self, row: int) -> None:
        """Put a row in that is not there."""
        n = self._n
        if n and row <= self._rows[n - 1]:
            at = int(np.searchsorted(self._rows[:n], row))
            if self._rows[at] == row:
                assert self._alive is not None
                self._alive[at] = True
                self._gone -= 1
                return
            self._rows = np.insert(self._rows[:n], at, row)
            if self._alive is not None:
                self._alive = np.insert(self._alive[:n], at, True)
            self._n += 1
            return
        if n == len(self._rows):
            self._rows = np.concatenate((self._rows, self._rows))
        if self._alive is not None:
            if n >= len(self._alive):
                self._alive = np.concatenate((self._alive, np.zeros(n, np.bool_)))
            self._alive[n] = True
        self._rows[n] = row
        self._n += 1

    def remove(self, row: int) -> None:
        """Take a row out that is there."""
        if self._alive is None:
            self._alive = np.ones(len(self._rows), np.bool_)
        self._alive[np.searchsorted(self._rows[: self._n], row)] = False
        self._gone += 1
        if 2 * self._gone > self._n:
            self._rows = self.rows()
            self._n, self._gone, self._alive = len(self._rows), 0, None

    def rows(self) -> NDArray[np.int32]:
        """(len(self),) int32, ascending: a view where nothing has left. Do not write into it."""
        if not self._gone or self._alive is None:
            return self._rows[: self._n]
        return self._rows[: self._n][self._alive[: self._n]]


class Postings:
    """The posting list of every pair of relation and entity that an item has; a pair is one number."""

    def __init__(self) -> None:
        self._lists: dict[int, Posting] = {}

    def add(self, pairs: Iterable[int], row: int) -> None:
        """Put an item under pairs that it is not under."""
        lists = self._lists
        for pair in pairs:
            posting = lists.get(pair)
            if posting is None:
                posting = lists[pair] = Posting()
            posting.add(row)

    def remove(self, pairs: Iterable[int], row: int) -> None:
        """Take an item out from under pairs that it is under."""
        for pair in pairs:
            posting = self._lists[pair]
            posting.remove(row)
            if not len(posting):
                del self._lists[pair]

    def rows(self, pair: int) -> NDArray[np.int32]:
        """Return the rows under a pair, ascending: (n,) int32, to be read only."""
        posting = self._lists.get(pair)
        return _NONE if posting is None else posting.rows()
