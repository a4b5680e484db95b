"""Dynamic micro-batching: jobs from everywhere become one batch, and one batch runs at a time."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")
P = TypeVar("P")


class Batcher(Generic[J, P, R]):
    """Runs jobs together: at once when no batch has run just now, else all that have come meanwhile.

    So the batch size follows the load by itself, and a job that comes alone waits for nobody.

    Parameters
    ----------
    prepare
        Builds the input of a batch; called in the event loop, where the state may be read.
    run
        Does the work, in a thread of its own choice. Returns one result a job, in order.
    max_batch
        Most jobs run together.
    took
        Told of each batch how many jobs it had and how many seconds passed until its results were there.
        Returns for how many seconds jobs are collected then, before the next batch begins.
    """

    def __init__(
        self,
        prepare: Callable[[Sequence[J]], P],
        run: Callable[[P], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        took: Callable[[int, float], float] = lambda jobs, seconds: 0.0,
    ) -> None:
        self._prepare = prepare
        self._run = run
        self._max_batch = max_batch
        self._took = took
        self._queue: deque[tuple[J, asyncio.Future[R]]] = deque()
        self._come = asyncio.Event()
        self._collects_until = -math.inf
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run batches."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop; jobs still queued are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._queue:
            self._queue.popleft()[1].cancel()

    async def submit(self, job: J) -> R:
        """Queue a job and wait for its result."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((job, future))
        self._come.set()
        return await future

    @property
    def queued(self) -> int:
        """Jobs waiting for a batch."""
        return len(self._queue)

    async def _collect(self) -> list[tuple[J, asyncio.Future[R]]]:
        await self._come.wait()
        if (left := self._collects_until - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._max_batch))]
        if not self._queue:
            self._come.clear()
        return batch

    async def _work(self) -> None:
        while True:
            batch = await self._collect()
            began = time.perf_counter()
            try:
                prepared = self._prepare([job for job, _ in batch])
                results = await self._run(prepared)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            ended = time.perf_counter()
            self._collects_until = ended + self._took(len(batch), ended - began)
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
