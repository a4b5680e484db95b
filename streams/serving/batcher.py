"""Dynamic micro-batching: jobs from everywhere become one batch, and one batch runs at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")
P = TypeVar("P")


class Batcher(Generic[J, P, R]):
    """Runs jobs together: at once when no batch runs, else all that have come meanwhile.

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
    """

    def __init__(
        self,
        prepare: Callable[[Sequence[J]], P],
        run: Callable[[P], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        took: Callable[[int, float], None] = lambda jobs, seconds: None,
    ) -> None:
        self._prepare = prepare
        self._run = run
        self._max_batch = max_batch
        self._took = took
        self._queue: asyncio.Queue[tuple[J, asyncio.Future[R]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run batches."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop; jobs still queued are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

    async def submit(self, job: J) -> R:
        """Queue a job and wait for its result."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((job, future))
        return await future

    @property
    def queued(self) -> int:
        """Jobs waiting for a batch."""
        return self._queue.qsize()

    async def _collect(self) -> list[tuple[J, asyncio.Future[R]]]:
        batch = [await self._queue.get()]
        while len(batch) < self._max_batch and not self._queue.empty():
            batch.append(self._queue.get_nowait())
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
