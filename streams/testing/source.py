"""Interfaces of the in-memory log to its readers and writers."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from streams.kafka.layout import Layout
from streams.kafka.producer_patches import Identity
from streams.kafka.publisher import Row

FETCH_RECORDS = 500


class Aborted(Exception):
    """A worker has died, where an ABORT or `MemoryLog.die_after` said so."""


class Watcher(Protocol):
    """Is notified of writes."""

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
    marks: dict[tuple[str, int], str]
    watchers: set[Watcher]

    def write(
        self, topic: str, partition: int, rows: Iterable[Row], nbytes: int, identity: Identity | None, /
    ) -> int:
        """Write a worker's record batch; return the offset of its last record."""
        ...

    def write_all(
        self, batches: Sequence[tuple[str, int, Iterable[Row], int]], identity: Identity, /
    ) -> None:
        """Write the batches of a transaction, all of them or none."""

    def identify(self, transactional_id: str, /) -> Identity:
        """Let only one publisher of a transactional id write transactions from now on; return who it is."""
        ...

    def fence(self, topic: str, partition: int, identity: Identity, /) -> None:
        """Have a partition refuse rows of older epochs of a producer."""

    def check_size(self, topic: str, nbytes: int, /) -> None:
        """Raise if the topic takes no batch of so many bytes."""

    def begin_offset(self, topic: str, partition: int) -> int:
        """Offset from which there may be records."""
        ...

    def end_offset(self, topic: str, partition: int) -> int:
        """Next offset to be written."""
        ...

    def layout(self, topics: Collection[str]) -> Layout:
        """Return those of some topics that exist."""
        ...

    def fetch(self, topic: str, partition: int, offset: int, most: int) -> tuple[list[Any], int]:
        """Return at most so many records from an offset on, and the offset to go on from.

        Raises
        ------
        Aborted
            If an ABORT is next.
        """
        ...
