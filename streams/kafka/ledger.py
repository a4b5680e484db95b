"""Offsets that may be committed: the last contiguous completed one of each partition.

Work on a partition is opened as ranges in offset order and completed in any order. A committed offset
never passes a range that is still open, and a range that starts after a hole in the log (compaction,
aborted transactions) covers the hole, because it opens where its predecessor ended.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class _Range:
    last: int
    pending: int


@dataclass(slots=True)
class _Book:
    epoch: int
    ranges: deque[_Range] = field(default_factory=deque)
    position: int | None = None  # next offset to commit
    committed: int | None = None


class CommitLedger:
    """Open and completed offset ranges per partition.

    Each time a partition is taken up again (after a rebalance or a seek) it gets a new epoch; work that
    was opened in an older epoch can complete nothing, because its records are read again.
    Not thread-safe: it belongs to the event loop.
    """

    def __init__(self) -> None:
        self._books: dict[tuple[str, int], _Book] = {}
        self._epochs = count()

    def open(self, partition: tuple[str, int], last: int, *, pending: int = 1) -> int:
        """Open the range that ends with offset `last` and needs `pending` completions; return the epoch.

        Raises
        ------
        ValueError
            If the range does not lie after the one opened before it.
        """
        book = self._books.get(partition)
        if book is None:
            book = self._books[partition] = _Book(next(self._epochs))
        newest = book.ranges[-1].last if book.ranges else (book.position or 0) - 1
        if last <= newest:
            raise ValueError(f"a range of {partition} must end after offset {newest}, got {last}")
        book.ranges.append(_Range(last, pending))
        return book.epoch

    def is_current(self, partition: tuple[str, int], epoch: int) -> bool:
        """Tell whether work of this epoch still counts."""
        book = self._books.get(partition)
        return book is not None and book.epoch == epoch

    def complete(self, partition: tuple[str, int], offset: int, epoch: int, *, times: int = 1) -> None:
        """Count `times` completions for the range that holds `offset`; a stale epoch is ignored."""
        book = self._books.get(partition)
        if book is None or book.epoch != epoch:
            return
        for held in book.ranges:
            if offset <= held.last:
                held.pending -= times
                break
        self._advance(book)

    def complete_through(self, partition: tuple[str, int], offset: int, epoch: int) -> None:
        """Complete every range that ends at or before `offset`; a stale epoch is ignored."""
        book = self._books.get(partition)
        if book is None or book.epoch != epoch:
            return
        for held in book.ranges:
            if held.last > offset:
                break
            held.pending = 0
        self._advance(book)

    @staticmethod
    def _advance(book: _Book) -> None:
        while book.ranges and book.ranges[0].pending <= 0:
            book.position = book.ranges.popleft().last + 1

    def committable(self, partition: tuple[str, int]) -> int | None:
        """Offset to commit (the next one to read), or None if nothing new is complete."""
        book = self._books.get(partition)
        if book is None or book.position is None or book.position == book.committed:
            return None
        return book.position

    def position(self, partition: tuple[str, int]) -> int:
        """The offset before which everything opened is complete; 0 before the first completion."""
        book = self._books.get(partition)
        return (book.position or 0) if book else 0

    def mark_committed(self, offsets: dict[tuple[str, int], int]) -> None:
        """Remember what the broker has confirmed; a failed commit is offered again."""
        for partition, offset in offsets.items():
            if book := self._books.get(partition):
                book.committed = offset

    def forget(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Drop revoked partitions with everything open in them."""
        for partition in partitions:
            self._books.pop(partition, None)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(list(self._books))
