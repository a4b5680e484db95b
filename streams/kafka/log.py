"""The log that a worker reads and writes: its interface, and Kafka behind it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from streams.kafka.damage import Damage
from streams.kafka.ends import EndOffsets
from streams.kafka.layout import Layout
from streams.kafka.producer_patches import Failed, Identity, IdentityOf, unnoticed
from streams.kafka.publisher import Publisher, Row
from streams.kafka.reader import TailReader, read_partition
from streams.kafka.topic_settings import TopicSettings
from streams.kafka.topics import topic_name
from streams.settings import Settings

Handler = Callable[[str, int, Sequence[Any]], None]


class RowPublisher(Protocol):
    """Publishes rows; see `publisher.Publisher`, whose contract this is."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Publish what the body publishes as a whole, or nothing of it when the body fails."""
        ...

    async def publish(self, topic: str, partition: int, rows: Collection[Row], /) -> int:
        """Publish rows in order; return the offset of the last one once all are confirmed, -1 of none."""
        ...

    async def send(self, topic: str, partition: int, key: bytes | None, value: bytes, /) -> int:
        """Publish one row together with others sent at the same time; return its confirmed offset."""
        ...

    async def publish_all(self, rows: Iterable[tuple[str, int, Row]], /) -> None:
        """Publish rows of several (topic, partition) pairs at once."""

    @property
    def identity(self) -> Identity:
        """Identity of the producer, as brokers know it."""
        ...

    async def fence(self, topic: str, partition: int, /) -> None:
        """Have a partition refuse rows of this transactional id's former identities."""

    def take_back(self, topic: str, partition: int) -> None:
        """Send nothing more of what was published to a partition until now; it fails with OwnershipLost."""


class Tail(Protocol):
    """Follows every partition of some topics; see `reader.TailReader`, whose contract this is."""

    caught_up: asyncio.Event

    async def start(self) -> None:
        """Begin to read."""

    async def stop(self) -> None:
        """Stop reading."""

    @property
    def task(self) -> asyncio.Task[None]:
        """The reading task; it ends only with an error or by `stop`."""
        ...

    def position(self, topic: str, partition: int) -> int:
        """The next offset to read; everything before it has been handled."""
        ...

    def pause(self, topic: str, partition: int) -> None:
        """Read no more of a partition, until `resume` goes on where this stopped."""

    def resume(self, topic: str, partition: int) -> None:
        """Read a paused partition again."""

    async def start_over(self, topic: str) -> None:
        """Read a topic from its beginning: it is another one by now."""


class Ends(Protocol):
    """Asks where partitions end; see `ends.EndOffsets`, whose contract this is."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    async def of(self, topic: str, partitions: Iterable[int], /) -> dict[int, int]:
        """Return the next offset to be written to each of some partitions, by partition."""
        ...

    async def begins(self, topic: str, partitions: Iterable[int], /) -> dict[int, int]:
        """Return the offset of the oldest record that each of some partitions may have, by partition."""
        ...

    async def layout(self, topics: Collection[str], /) -> Layout | None:
        """Return which of some topics there are; None if that cannot be known."""
        ...

    async def settings(self, topics: Collection[str], /) -> TopicSettings:
        """Return the settings of some topics, as far as they are told."""
        ...

    async def expel(self, member_id: str, /) -> None:
        """Take a member out of the worker's group, if it is in it."""


class Log(Protocol):
    """Topics of records in partitions. Nothing connects before what is returned here is used."""

    def publisher(
        self,
        *,
        transactional_id: str | None = None,
        identity: IdentityOf | None = None,
        failed: Failed = unnoticed,
    ) -> RowPublisher:
        """Return a publisher, to be started; see `publisher.Publisher`."""
        ...

    def read(
        self, topic: str, partition: int, *, start: int = 0, since_ms: int = 0
    ) -> AsyncGenerator[Sequence[Any], None]:
        """Yield the records of a partition to its end at the time of the call; see `read_partition`.

        Brokers that do not answer are waited for.
        """
        ...

    def follow(self, partitions: Mapping[str, int], handler: Handler, *, since_ms: int = 0) -> Tail:
        """Return a reader, to be started, of all the partitions of topics; see `reader.TailReader`."""
        ...

    def ends(self) -> Ends:
        """Return what knows where partitions end, to be started."""
        ...


class KafkaLog:
    """The topics of the brokers that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = {topic_name(settings, name) for name in ("user-state", "policy-state")}

    def publisher(
        self,
        *,
        transactional_id: str | None = None,
        identity: IdentityOf | None = None,
        failed: Failed = unnoticed,
    ) -> Publisher:
        """Return a publisher, to be started; see `publisher.Publisher`."""
        return Publisher(self._settings, transactional_id=transactional_id, identity=identity, failed=failed)

    def read(
        self, topic: str, partition: int, *, start: int = 0, since_ms: int = 0
    ) -> AsyncGenerator[Sequence[Any], None]:
        """Yield the records of a partition to its end at the time of the call; see `read_partition`.

        A damaged batch is left out, but one of state: who restores without it would write over it.
        """
        damage = None if topic in self._state else Damage()
        return read_partition(
            self._settings, topic, partition, start=start, since_ms=since_ms, patient=True, damage=damage
        )

    def follow(self, partitions: Mapping[str, int], handler: Handler, *, since_ms: int = 0) -> TailReader:
        """Return a reader, to be started, of all the partitions of topics; see `reader.TailReader`."""
        return TailReader(self._settings, partitions, handler, since_ms=since_ms)

    def ends(self) -> EndOffsets:
        """Return what knows where partitions end, to be started."""
        return EndOffsets(self._settings)
