"""Publishes slates: those that are ready in the same turn of the event loop go out together."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka.errors import MessageSizeTooLargeError
from numpy.typing import NDArray

from streams.errors import Fenced, OwnershipLost
from streams.events import Recommendation, encode
from streams.kafka.inputs import Inputs
from streams.kafka.log import RowPublisher
from streams.kafka.publisher import BATCH_BYTES
from streams.kafka.topics import TOPICS
from streams.metrics import Metrics
from streams.state.shard import Shard
from streams.state.spending import Spending

OWNED_POLL_S = 0.02
# What is told of a slate when it closes repeats its record, and adds rewards and actions.
MAX_RECORD_BYTES = TOPICS["feedback"].max_message_bytes - 256 * 1024
TOGETHER_BYTES = BATCH_BYTES // 2
ROW_BYTES = 100  # what a record batch adds to a row, at most


class SlateTooLarge(Exception):
    """The record of a slate, with the context that it echoes, is more than its topic takes."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A slate on its way out, and who waits for it; features are None where nothing is learned from it.

    spends_ms : when its items spend of their budgets, in Unix ms; None if they do not
    """

    record: Recommendation
    features: NDArray[np.float32] | None
    spends_ms: int | None
    received: float
    began: float
    key: bytes
    value: bytes
    published: "asyncio.Future[None]"


class Outbox:
    """Publishes the slates of a partition in the order in which they come, many in one record batch.

    A record that is published alone costs the event loop what a batch does. While one batch of a partition is
    on its way, the next is collected: the producer would not send it sooner.

    Parameters
    ----------
    topic : full name of the topic that slates go to
    lost : called with a shard whose partition another worker has fenced
    """

    def __init__(
        self,
        publisher: RowPublisher,
        topic: str,
        *,
        lost: Callable[[Shard], None],
        inputs: Inputs,
        metrics: Metrics,
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._lost = lost
        self._inputs = inputs
        self._metrics = metrics
        self._ready: dict[Shard, list[Ready]] = {}
        self._tasks: dict[Shard, asyncio.Task[None]] = {}

    async def sure_of(self, shard: Shard) -> None:
        """Return when the partition is surely ours; wait while the group does not answer.

        Raises
        ------
        OwnershipLost
            If it is not ours any more.
        """
        while not self._inputs.owned and not shard.dropped:
            await asyncio.sleep(OWNED_POLL_S)
        if shard.dropped:
            raise OwnershipLost(f"partition {shard.partition} is not this worker's any more")

    async def publish(
        self,
        shard: Shard,
        record: Recommendation,
        features: NDArray[np.float32] | None,
        *,
        received: float,
        spends_ms: int | None = None,
    ) -> None:
        """Publish a slate and count its impressions; return once the broker has confirmed it.

        Parameters
        ----------
        features : (len(slate), F) float32; None for a slate that nothing is learned from
        received : Unix seconds at which the request entered
        spends_ms : see `Ready`

        Raises
        ------
        OwnershipLost
            If the partition is another worker's by now.
        SlateTooLarge
            If the topic takes no record of that size; those that would have gone out with it do.
        """
        loop = asyncio.get_running_loop()
        ready = Ready(
            record,
            features,
            spends_ms,
            received,
            time.perf_counter(),
            record.user_id.encode(),
            _encoded(record),
            loop.create_future(),
        )
        waiting = self._ready.setdefault(shard, [])
        waiting.append(ready)
        if len(waiting) == 1:
            loop.call_soon(self._begin, shard)
        await ready.published

    async def stop(self) -> None:
        """Cancel what is on its way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, shard: Shard) -> None:
        if shard not in self._tasks:
            self._tasks[shard] = asyncio.create_task(self._work(shard))

    async def _work(self, shard: Shard) -> None:
        """Publish what is ready, and then what has become ready meanwhile."""
        try:
            while slates := self._ready.pop(shard, None):
                for together in _cut(slates):
                    await self._publish(shard, together)
        finally:
            del self._tasks[shard]

    async def _publish(self, shard: Shard, slates: Sequence[Ready]) -> None:
        try:
            offsets = await self._send(shard, slates)
            for one, offset in zip(slates, offsets, strict=True):
                shard.answered.answer(one.record.request_id, offset)
            shard.learning.note_published(
                [
                    (one.record, one.features, offset)
                    for one, offset in zip(slates, offsets, strict=True)
                    if one.features is not None
                ]
            )
            if shard.spending is not None:
                _spend(shard, shard.spending, zip(slates, offsets, strict=True))
            self._count(slates)
        except MessageSizeTooLargeError:  # one of them is, or all together are
            for one in slates:
                await self._publish(shard, [one])
            return
        except asyncio.CancelledError:
            for one in slates:
                one.published.cancel()
            raise
        except Exception as error:  # whatever it is, nobody may be left waiting
            for one in slates:
                if one.published.done():  # who asked for it is gone, and takes nothing back
                    shard.learning.withdraw(one.record.request_id)
                else:
                    one.published.set_exception(error)
            return
        for one in slates:
            if not one.published.done():
                one.published.set_result(None)

    async def _send(self, shard: Shard, slates: Sequence[Ready]) -> range:
        """Publish slates in one record batch; return their offsets."""
        rows = [(one.key, one.value) for one in slates]
        while True:
            await self.sure_of(shard)
            try:
                last = await self._publisher.publish(self._topic, shard.partition, rows)
                return range(last - len(rows) + 1, last + 1)
            except Fenced:
                self._lost(shard)
                raise
            except OwnershipLost:  # not sent; if the partition is still ours, it is sent then
                await asyncio.sleep(OWNED_POLL_S)
            except MessageSizeTooLargeError:
                if len(slates) > 1:
                    raise
                size = len(slates[0].value)
                raise SlateTooLarge(
                    f"{self._topic} takes no record of {size} bytes, context included"
                ) from None

    def _count(self, slates: Sequence[Ready]) -> None:
        metrics, now, wall = self._metrics, time.perf_counter(), time.time()
        metrics.observe_stages("publish", [now - one.began for one in slates])
        metrics.observe_stages("request_to_publish", [max(0.0, wall - one.received) for one in slates])
        metrics.count_events("recommendations", "published", len(slates))
        metrics.count_events("requests", "accepted", len(slates))
        for (policy, fallback), n in Counter(
            (one.record.policy, one.record.fallback) for one in slates
        ).items():
            metrics.count_slates(policy, fallback, n)
        for one in slates:
            if one.record.experiment is not None:
                metrics.count_exposure(one.record.experiment, one.record.variant)


def _spend(shard: Shard, spending: Spending, published: Iterable[tuple[Ready, int]]) -> None:
    base = shard.logs.of("recommendations")
    for one, offset in published:
        if one.spends_ms is not None:
            items = (item.item_id for item in one.record.slate)
            spending.count_slate(items, time_ms=one.spends_ms, offset=base + offset)


def _cut(slates: Sequence[Ready]) -> Iterator[list[Ready]]:
    """Cut slates into record batches; one that is large alone has one to itself."""
    together: list[Ready] = []
    nbytes = 0
    for one in slates:
        size = len(one.key) + len(one.value) + ROW_BYTES
        if together and nbytes + size > TOGETHER_BYTES:
            yield together
            together, nbytes = [], 0
        together.append(one)
        nbytes += size
    if together:
        yield together


def _encoded(record: Recommendation) -> bytes:
    """Encode a record, unless it is too large."""
    value = encode(record)
    if len(value) > MAX_RECORD_BYTES:
        raise SlateTooLarge(
            f"a slate's record must fit into {MAX_RECORD_BYTES} bytes with its context, got {len(value)}"
        )
    return value
