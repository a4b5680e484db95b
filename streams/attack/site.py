"""The site of an attack: a worker in memory, or one on a cluster for tests."""

from collections.abc import Iterable, Sequence
from typing import Protocol, Self

from streams.events import Click, Request, decode_recommendation, encode
from streams.items.table import AnyScorer
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import topic_name, topic_partitions
from streams.settings import Settings
from streams.testing.clock import HandClock
from streams.testing.log import MemoryLog
from streams.testing.worker import MemoryWorker
from streams.worker.process import MetricsReading

Rows = Iterable[tuple[str, bytes]]


class Site(Protocol):
    """A running deployment."""

    async def publish(self, name: str, rows: Rows) -> None:
        """Publish keyed rows to the topic called `name`."""
        ...

    async def click(self, clicks: Sequence[Click]) -> None:
        """Publish clicks, in order."""
        ...

    async def ask(self, requests: Sequence[Request]) -> list[list[str]]:
        """Return the items of each slate; none of one that does not come."""
        ...

    async def bounded(self) -> int | None:
        """Return how many clicks have not counted in what users share, None where that is not known here."""
        ...

    async def suspicion(self) -> dict[str, float]:
        """Return how suspect each user of some events is, none where that is not known here."""
        ...


class MemorySite:
    """A whole worker on a log in memory; its clock goes with the events.

    Use it as an asynchronous context.

    Parameters
    ----------
    start_ms : Unix milliseconds, not after the first event
    learn : policies learn from what is served
    """

    def __init__(self, settings: Settings, scorer: AnyScorer, start_ms: int, *, learn: bool = False) -> None:
        self._learn = learn
        self._settings = settings
        self._clock = HandClock(start_ms)
        self._log = MemoryLog.of(settings, self._clock)
        self._worker = MemoryWorker(settings, self._log, self._clock, scorer)
        self._answers = topic_name(settings, "recommendations")
        self._read = [0] * topic_partitions(settings, "recommendations")

    async def __aenter__(self) -> Self:
        await self._worker.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._worker.__aexit__()

    async def publish(self, name: str, rows: Rows) -> None:
        """Publish keyed rows, and let the worker take them."""
        topic, partitions = topic_name(self._settings, name), topic_partitions(self._settings, name)
        for key, value in rows:
            self._log.append(topic, partition_of(key, partitions), [(key.encode(), value)])
        await self._worker.deliver(name)

    async def click(self, clicks: Sequence[Click]) -> None:
        """Publish clicks, and let the worker take them."""
        if clicks:
            self._move(max(click.timestamp_ms for click in clicks))
            await self.publish("clicks", ((click.user_id, encode(click)) for click in clicks))
            await self._by_the_clock()

    async def _by_the_clock(self) -> None:
        """Let policies learn where they are to, and suspects be looked for where something comes of it."""
        parts = self._worker.parts
        if self._learn:
            for lane in parts.lanes:
                await lane.learner.learn_now(parts.partitions.live())
        if self._settings.quarantine_at is not None or self._settings.quarantine_days is not None:
            await parts.suspects.sweep()

    async def ask(self, requests: Sequence[Request]) -> list[list[str]]:
        """Return the items of each slate."""
        if not requests:
            return []
        self._move(max(request.timestamp_ms for request in requests))
        await self.publish("requests", ((request.user_id, encode(request)) for request in requests))
        slates = {}
        for partition, read in enumerate(self._read):
            records = self._log.records(self._answers, partition)
            for record in records[read:]:
                slate = decode_recommendation(record.value)
                slates[slate.request_id] = [item.item_id for item in slate.slate]
            self._read[partition] = len(records)
        return [slates.get(request.request_id, []) for request in requests]

    async def bounded(self) -> int:
        """Return how many clicks have not counted in what users share."""
        text = self._worker.parts.metrics.render()[0].decode()
        return int(MetricsReading(text).total("clicks_bounded_total"))

    async def suspicion(self) -> dict[str, float]:
        """Return how suspect each user of some events is."""
        return {one.user_id: one.score for one in await self._worker.parts.suspects.everybody()}

    def _move(self, to_ms: int) -> None:
        self._clock.move(max(0, to_ms - self._clock.now_ms))
