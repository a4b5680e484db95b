"""Partitions side by side: a batch waits for the one before it of its own partition, and for no other."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from streams.kafka.transport import RecordBatch


class SideBySide:
    """Takes batches of several partitions at the same time, and those of one in order.

    Leaving it ends what is not done.

    Parameters
    ----------
    work : takes a batch; it must see to its own errors
    """

    def __init__(self, work: Callable[[RecordBatch], Awaitable[None]]) -> None:
        self._work = work
        self._lanes: dict[Any, asyncio.Future[None]] = {}

    async def take(self, batch: RecordBatch) -> None:
        """Begin with a batch, once the one before it of its partition is done."""
        if (before := self._lanes.get(batch.tp)) is not None:
            await asyncio.wait((before,))
        self._lanes[batch.tp] = asyncio.ensure_future(self._work(batch))

    async def __aenter__(self) -> Self:
        """Begin with nothing."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is being done."""
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
