import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor

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


async def test_jobs_that_come_in_the_next_turns_of_the_loop_run_together(work: tuple[Work, Doubler]) -> None:
    doubler, batcher = work
    doubler.gate.set()

    async def later(job: int) -> int:
        for _ in range(job):
            await asyncio.sleep(0)
        return await batcher.submit(job)

    for _ in range(2):  # the second time right after a batch
        assert await asyncio.gather(*(later(job) for job in range(3))) == [0, 2, 4]
    assert doubler.batches == [[0, 1, 2], [0, 1, 2]]


async def test_a_job_that_comes_alone_waits_for_nobody(work: tuple[Work, Doubler]) -> None:
    """Neither the first one, nor one right after a batch."""
    doubler, batcher = work
    doubler.gate.set()
    for job in range(3):
        alone = asyncio.create_task(batcher.submit(job))
        for _ in range(2 * TURNS):
            await asyncio.sleep(0)
        assert batcher.queued == 0
        assert await alone == 2 * job
    assert doubler.batches == [[0], [1], [2]]


async def test_what_a_batch_took_is_told_with_its_size() -> None:
    told: list[tuple[int, float]] = []

    async def run(jobs: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.01)
        return list(jobs)

    batcher: Doubler = Batcher(
        list, run, max_batch=4, took=lambda jobs, seconds: told.append((jobs, seconds))
    )
    batcher.start()
    await asyncio.gather(batcher.submit(1), batcher.submit(2))
    await batcher.stop()
    assert [jobs for jobs, _ in told] == [2]
    assert told[0][1] >= 0.01


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
