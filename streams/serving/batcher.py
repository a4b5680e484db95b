"""Dynamic micro-batching: jobs from everywhere become one batch, and one batch runs at a time."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")
P = TypeVar("P")

TURNS, TURNS_S = 12, 0.001  # of the event loop, until those who come together are all there; at most so long


class Batcher(Generic[J, P, R]):
    """Runs jobs together: those who come at the same time, or while another batch runs.

    So the batch size follows the load by itself, and nobody waits for jobs that may come.

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
    """

    def __init__(
        self,
        prepare: Callable[[Sequence[J]], P],
        run: Callable[[P], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        took: Callable[[int, float], object] = lambda jobs, seconds: None,
    ) -> None:
        self._prepare = prepare
        self._run = run
        self._max_batch = max_batch
        self._took = took
        self._queue: deque[tuple[J, asyncio.Future[R]]] = deque()
        self._come = asyncio.Event()
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
        if not self._queue:
            await self._come.wait()
            await _all_here()
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
            self._took(len(batch), time.perf_counter() - began)
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


async def _all_here() -> None:
    """Let the loop do what it has at hand: who is on the way to the queue is there then."""
    until = time.perf_counter() + TURNS_S
    for _ in range(TURNS):
        await asyncio.sleep(0)
        if time.perf_counter() >= until:
            return
