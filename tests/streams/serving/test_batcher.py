import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest

from streams.serving.batcher import TURNS, Batcher

Doubler = Batcher[int, Sequence[int], int]


class Work:
    """Doubles jobs in the inference thread; `gate` holds the first batch until it is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.running = threading.Event()
        self.batches: list[list[int]] = []

    def run(self, jobs: Sequence[int]) -> list[int]:
        self.running.set()
        self.gate.wait(120)
        if 13 in jobs:
            raise ValueError("13 is refused")
        self.batches.append(list(jobs))
        return [2 * job for job in jobs]


@pytest.fixture
async def work() -> AsyncIterator[tuple[Work, Doubler]]:
    work = Work()
    with ThreadPoolExecutor(1) as executor:

        def run(jobs: Sequence[int]) -> Awaitable[Sequence[int]]:
            return asyncio.get_running_loop().run_in_executor(executor, work.run, jobs)

        batcher: Doubler = Batcher(list, run, max_batch=4)
        batcher.start()
        yield work, batcher
        work.gate.set()
        await batcher.stop()


async def test_jobs_that_come_while_a_batch_runs_form_the_next_batches(work: tuple[Work, Doubler]) -> None:
    doubler, batcher = work
    first = asyncio.create_task(batcher.submit(0))
    assert await asyncio.to_thread(doubler.running.wait, 120)
    rest = [asyncio.create_task(batcher.submit(job)) for job in range(1, 7)]
    await asyncio.sleep(0)
    doubler.gate.set()
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10, 12]
    assert doubler.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def collecting(seconds: float) -> AsyncIterator[Doubler]:
    async def run(jobs: Sequence[int]) -> list[int]:
        return [len(jobs)] * len(jobs)

    batcher: Doubler = Batcher(list, run, max_batch=4, took=lambda jobs, took_s: seconds)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


async def test_jobs_are_collected_for_a_while_after_a_batch() -> None:
    async with aclosing(collecting(3600.0)) as batchers:
        batcher = await anext(batchers)
        assert await batcher.submit(0) == 1
        jobs = [asyncio.create_task(batcher.submit(job)) for job in range(1, 4)]
        for _ in range(9):
            await asyncio.sleep(0)
        assert batcher.queued == 3
    assert all(isinstance(job, BaseException) for job in await asyncio.gather(*jobs, return_exceptions=True))


async def test_what_has_been_collected_becomes_one_batch() -> None:
    async with aclosing(collecting(0.001)) as batchers:
        batcher = await anext(batchers)
        assert await batcher.submit(0) == 1
        assert await asyncio.gather(batcher.submit(1), batcher.submit(2)) == [2, 2]


async def test_jobs_that_were_collected_elsewhere_are_not_collected_once_more_and_run_together() -> None:
    async with aclosing(collecting(3600.0)) as batchers:
        batcher = await anext(batchers)
        assert await batcher.submit(0) == 1
        alone = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)

        async def later() -> int:
            await asyncio.sleep(0)
            return await batcher.submit(3, collected=True)

        assert await asyncio.wait_for(asyncio.gather(batcher.submit(2, collected=True), later()), 120) == [
            3,
            3,
        ]
        assert await alone == 3


@pytest.mark.parametrize("before", [[True], [False, True, True]], ids=["a job of its own", "one too many"])
async def test_what_comes_after_collected_jobs_is_collected(before: list[bool]) -> None:
    """A job that was not collected; or a collected one after others, as from several brokers in turn."""
    async with aclosing(collecting(3600.0)) as batchers:
        batcher = await anext(batchers)
        for collected in before:
            assert await asyncio.wait_for(batcher.submit(0, collected=collected), 120) == 1
        job = asyncio.create_task(batcher.submit(1, collected=len(before) > 1))
        for _ in range(3 * TURNS):
            await asyncio.sleep(0)
        assert batcher.queued == 1
    assert isinstance((await asyncio.gather(job, return_exceptions=True))[0], BaseException)


async def test_an_error_reaches_the_jobs_of_its_batch_and_the_next_batch_runs(
    work: tuple[Work, Doubler],
) -> None:
    doubler, batcher = work
    doubler.gate.set()
    with pytest.raises(ValueError, match="13 is refused"):
        await batcher.submit(13)
    assert await batcher.submit(1) == 2


async def test_jobs_still_queued_are_cancelled_when_it_stops(work: tuple[Work, Doubler]) -> None:
    doubler, batcher = work
    tasks = [asyncio.create_task(batcher.submit(job)) for job in range(9)]
    assert await asyncio.to_thread(doubler.running.wait, 120)
    await batcher.stop()
    queued = tasks[4:]
    await asyncio.wait(queued, timeout=120)
    assert all(task.cancelled() for task in queued)
    for task in tasks:
        task.cancel()
