"""What readers and writers in memory ask of a log."""

from collections.abc import Iterable
from typing import Any, Protocol

from streams.kafka.publisher import Row

FETCH_RECORDS = 500


class Aborted(Exception):
    """A worker has died, where an ABORT or `MemoryLog.die_after` said so."""


class Watcher(Protocol):
    """Whoever wants to know that something was written."""

    def wake(self) -> None:
        """Look whether there is something to read."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to read."""
        ...


class Source(Protocol):
    """Partitions of records; see `MemoryLog`."""

    batch_bytes: int
    committed: dict[tuple[str, int], int]
    watchers: set[Watcher]

    def write(self, topic: str, partition: int, rows: Iterable[Row], nbytes: int, /) -> int:
        """Write a worker's record batch; return the offset of its last record."""
        ...

    def begin_offset(self, topic: str, partition: int) -> int:
        """Offset from which there may be records."""
        ...

    def end_offset(self, topic: str, partition: int) -> int:
        """Next offset to be written."""
        ...

    def fetch(self, topic: str, partition: int, offset: int, most: int) -> tuple[list[Any], int]:
        """Return at most so many records from an offset on, and the offset to go on from.

        Raises
        ------
        Aborted
            If an ABORT is next.
        """
        ...
