"""Reading one's own writes: a request waits for the clicks that were acknowledged before it came."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiokafka.errors import KafkaError

from streams.state.shard import Shard

log = logging.getLogger(__name__)

WARN_EVERY_S = 10.0

Ends = Callable[[Iterable[int]], Awaitable[Mapping[int, int]]]


class OwnClicks:
    """Lets requests wait, within bounds, until the clicks before them are folded; then they go on without.

    What was fetched with a request says where clicks ended then. For a request that came another way it must
    be asked after that has come in. All requests that come while a question is on its way share the next one,
    whatever their partitions: there is one at a time.

    Parameters
    ----------
    ends : asks for the next offset to be written to each of some partitions of `clicks`
    timeout_ms : the longest wait; 0 = none
    missed : called for each request that goes on without
    """

    def __init__(self, ends: Ends, *, timeout_ms: int, missed: Callable[[], object] = lambda: None) -> None:
        self._ends = ends
        self._timeout_s = timeout_ms / 1000
        self._missed = missed
        self._waiting: dict[int, list[asyncio.Future[int]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._warn_after = 0.0

    async def wait(self, shard: Shard, *, end: int | None = None) -> None:
        """Wait until the clicks acknowledged before now have been folded, or the time is up.

        Parameters
        ----------
        end : offset before which they lie; None if the broker is to be asked
        """
        if not self._timeout_s:
            return
        started = time.monotonic()
        if end is None and (end := await self._asked(shard.partition)) is None:
            return
        left = self._timeout_s - (time.monotonic() - started)
        if not await shard.clicks.reached(end, max(left, 0.0)):
            self._warn(
                "partition %d: a request waited %.1f s for clicks up to offset %d, folded up to %d",
                shard.partition, self._timeout_s, end, shard.clicks.position,
            )  # fmt: skip

    async def _asked(self, partition: int) -> int | None:
        """Ask for the end of a partition; None if the broker does not say it in time."""
        try:
            return await asyncio.wait_for(self._end(partition), self._timeout_s)
        except TimeoutError:
            self._warn("partition %d: the broker did not say in time where clicks end", partition)
        except KafkaError as error:
            self._warn("partition %d: the broker does not say where clicks end: %r", partition, error)
        return None

    async def stop(self) -> None:
        """Stop to ask; who waits for an answer has its time-out."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _end(self, partition: int) -> "asyncio.Future[int]":
        """The end of a partition, asked after now."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(partition, []).append(future)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return future

    async def _ask(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                try:
                    ends = await self._ends(list(asked))
                except Exception as error:
                    _settle(asked, error=error)
                else:
                    _settle(asked, ends=ends)
        finally:
            self._asking = None

    def _warn(self, message: str, *values: object) -> None:
        """Count it and say it, but not for every request of a burst."""
        self._missed()
        if time.monotonic() >= self._warn_after:
            self._warn_after = time.monotonic() + WARN_EVERY_S
            log.warning(message, *values)


def _settle(
    asked: Mapping[int, list["asyncio.Future[int]"]],
    *,
    ends: Mapping[int, int] | None = None,
    error: Exception | None = None,
) -> None:
    for partition, futures in asked.items():
        for future in futures:
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            elif ends is not None:
                future.set_result(ends[partition])
