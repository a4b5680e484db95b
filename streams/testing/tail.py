"""A reader that follows topics of a log in memory."""

import asyncio
from collections.abc import Collection, Iterable, Mapping

from streams.kafka.layout import Layout
from streams.kafka.log import Handler
from streams.testing.source import FETCH_RECORDS, Source


class MemoryTail:
    """As `streams.kafka.reader.TailReader`."""

    def __init__(self, log: Source, starts: Mapping[tuple[str, int], int], handler: Handler) -> None:
        self._log = log
        self._next = dict(starts)
        self._handled: dict[tuple[str, int], int] = {}
        self._handler = handler
        self._paused: set[tuple[str, int]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ends: dict[tuple[str, int], int] = {}
        self.caught_up = asyncio.Event()

    async def start(self) -> None:
        """Begin to read."""
        self._ends = {place: self._log.end_offset(*place) for place in self._next}
        self._log.watchers.add(self)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop reading."""
        self._log.watchers.discard(self)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def task(self) -> asyncio.Task[None]:
        """The reading task; it ends only with an error or by `stop`."""
        if self._task is None:
            raise RuntimeError("the reader is not started")
        return self._task

    def position(self, topic: str, partition: int) -> int:
        """The next offset to read; everything before it has been handled."""
        return self._handled.get((topic, partition), 0)

    def pause(self, topic: str, partition: int) -> None:
        """Read no more of a partition, until `resume` goes on where this stopped."""
        self._paused.add((topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        """Read a paused partition again."""
        self._paused.discard((topic, partition))
        self.wake()

    async def start_over(self, topic: str) -> None:
        """Read a topic from its beginning: it is another one by now."""
        for place in [place for place in self._next if place[0] == topic]:
            self._next[place], self._ends[place] = 0, self._log.end_offset(*place)
            self._handled.pop(place, None)
        self.caught_up.clear()
        self.wake()

    def wake(self) -> None:
        """Look whether there is something to read."""
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether everything has been read that is not paused."""
        return all(self._log.end_offset(*place) <= self._next[place] for place in self._open())

    def _open(self) -> list[tuple[str, int]]:
        return [place for place in self._next if place not in self._paused]

    async def _follow(self) -> None:
        while True:
            for place in self._open():
                records, after = self._log.fetch(*place, self._next[place], FETCH_RECORDS)
                if records:
                    self._handler(*place, records)
                    self._handled[place] = records[-1].offset + 1
                self._next[place] = after
            if all(self._next[place] >= self._ends[place] for place in self._open()):
                self.caught_up.set()
            if self.idle:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(0)


class MemoryEnds:
    """As `streams.kafka.ends.EndOffsets`.

    Attributes
    ----------
    expelled : members that were taken out of the group
    told : settings of topics
    """

    def __init__(self, log: Source) -> None:
        self._log = log
        self.expelled: list[str] = []
        self.told: dict[str, dict[str, str]] = {}

    async def start(self) -> None:
        """Do nothing: there is nobody to connect to."""

    async def stop(self) -> None:
        """Do nothing."""

    async def of(self, topic: str, partitions: Iterable[int], /) -> dict[int, int]:
        """Return the next offset to be written to each of some partitions, by partition."""
        await asyncio.sleep(0)
        return {partition: self._log.end_offset(topic, partition) for partition in partitions}

    async def begins(self, topic: str, partitions: Iterable[int], /) -> dict[int, int]:
        """Return where each of some partitions begins, by partition."""
        await asyncio.sleep(0)
        return {partition: self._log.begin_offset(topic, partition) for partition in partitions}

    async def layout(self, topics: Collection[str], /) -> Layout:
        """Return which of some topics there are."""
        await asyncio.sleep(0)
        return self._log.layout(topics)

    async def settings(self, topics: Collection[str], /) -> dict[str, dict[str, str]]:
        """Return the settings of some topics, as far as they were given."""
        await asyncio.sleep(0)
        return {topic: self.told[topic] for topic in topics if topic in self.told}

    async def expel(self, member_id: str, /) -> None:
        """Note who is taken out of the group."""
        self.expelled.append(member_id)
