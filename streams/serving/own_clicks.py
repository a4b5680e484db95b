"""Reading one's own writes: a request waits for the clicks that were acknowledged before it came."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiokafka.errors import KafkaError

from streams.state.shard import Shard

log = logging.getLogger(__name__)

WARN_EVERY_S = 10.0

# While so many clicks a second come, the next ones say where they end sooner than an answer would come.
OFTEN = 250.0
RECENTLY_S = 0.1  # this is how long ago they were last read, at most
# Longer than this they are not waited for; then the broker is asked.
PATIENCE_S = 0.03
# Between two questions, at most, however long a batch takes.
ASKED_APART_S = 0.02
FADE = 0.2  # weight of what came since the read before

Ends = Callable[[Iterable[int]], Awaitable[Mapping[int, int]]]


class OwnClicks:
    """Lets requests wait, within bounds, until the clicks before them are folded; then they go on without.

    What was fetched with a request says where clicks ended then. For a request that came another way it must
    be asked after that has come in: where clicks are read all the time, by the next fetch of them, which says
    it anyway (`told`), else by a question. All requests that come while a question is on its way share the
    next one, whatever their partitions: there is one at a time. Who comes while a batch of requests is being
    answered waits for it anyway, so questions lie as far apart as batches take.

    Parameters
    ----------
    ends : asks for the next offset to be written to each of some partitions of `clicks`
    timeout_ms : the longest wait; 0 = none
    keyed : whether the keys of clicks are their users' ids; if not, a request waits for everybody's
    missed : called for each request that goes on without
    now : seconds of a clock that never goes back
    """

    def __init__(
        self,
        ends: Ends,
        *,
        timeout_ms: int,
        keyed: bool = True,
        missed: Callable[[], object] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends = ends
        self._now = now
        self._timeout_s = timeout_ms / 1000
        self._keyed = keyed
        self._missed = missed
        self._waiting: dict[int, list[asyncio.Future[int]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._warn_after = 0.0
        self._hoping: dict[int, deque[tuple[float, asyncio.Future[int]]]] = {}  # with since when
        self._told_s = -math.inf
        self._last: dict[int, int] = {}  # where each partition ended then
        self._rate = 0.0  # clicks a second, of late
        self._asked_s = -math.inf
        self._batch_s = 0.0

    def took(self, seconds: float) -> None:
        """Learn how long a batch of requests has taken to be answered."""
        self._batch_s += FADE * (seconds - self._batch_s)

    def told(self, asked_s: float, ends: Mapping[int, int]) -> None:
        """Take note of where clicks ended for a fetch that was sent at a moment of `now`.

        Parameters
        ----------
        ends : next offset to be written, by partition
        """
        now = self._now()
        come = sum(end - self._last.get(partition, end) for partition, end in ends.items())
        passed, self._told_s = min(now - self._told_s, 1.0), now
        self._last.update(ends)
        self._rate += FADE * (come / max(passed, 0.001) - self._rate)
        for partition in ends.keys() & self._hoping.keys():
            later: deque[tuple[float, asyncio.Future[int]]] = deque()
            for since, future in self._hoping.pop(partition):
                if since > asked_s:
                    later.append((since, future))
                elif not future.done():
                    future.set_result(ends[partition])
            if later:
                self._hoping[partition] = later

    async def wait(self, shard: Shard, user_id: str, *, end: int | None = None) -> None:
        """Wait until the user's clicks acknowledged before now have been folded, or the time is up.

        Parameters
        ----------
        end : offset before which they lie; None if the broker is to be asked
        """
        if not self._timeout_s:
            return
        started = self._now()
        if end is None and (end := await self._asked(shard.partition)) is None:
            return
        left = self._timeout_s - (self._now() - started)
        key = user_id.encode() if self._keyed else None
        if not await shard.clicks.reached(end, max(left, 0.0), key=key):
            self._warn(
                "partition %d: a request waited %.1f s for clicks up to offset %d, folded up to %d",
                shard.partition, self._timeout_s, end, shard.clicks.position,
            )  # fmt: skip

    async def _asked(self, partition: int) -> int | None:
        """Ask for the end of a partition; None if the broker does not say it in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._end(partition)
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
        loop, now = asyncio.get_running_loop(), self._now()
        future: asyncio.Future[int] = loop.create_future()
        if self._rate >= OFTEN and now - self._told_s < RECENTLY_S:
            hoping = self._hoping.setdefault(partition, deque())
            while hoping and hoping[0][1].done():  # else they would stay until clicks are read again
                hoping.popleft()
            hoping.append((now, future))
            loop.call_later(PATIENCE_S, self._begin_to_ask, partition, future)
        else:
            self._begin_to_ask(partition, future)
        return future

    def _begin_to_ask(self, partition: int, future: "asyncio.Future[int]") -> None:
        if future.done():
            return
        self._waiting.setdefault(partition, []).append(future)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            while self._waiting:
                left = self._asked_s + min(self._batch_s, ASKED_APART_S) - self._now()
                if left > 0:
                    await asyncio.sleep(left)
                asked, self._waiting = self._waiting, {}
                self._asked_s = self._now()
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
        if self._now() >= self._warn_after:
            self._warn_after = self._now() + WARN_EVERY_S
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
