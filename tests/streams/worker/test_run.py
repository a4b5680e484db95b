"""What is left of a worker when it has stopped."""

import asyncio
import contextlib
import threading

import pytest

from streams.kafka import closing
from streams.worker import run
from streams.worker.run import end_the_rest


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run, closing):
        monkeypatch.setattr(module, "END_TIMEOUT_S", 0.1)
    return


def test_a_task_that_keeps_a_cancellation_to_itself_is_cancelled_again() -> None:
    async def deaf_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def main() -> bool:
        work = asyncio.create_task(deaf_once())
        await asyncio.sleep(0)
        return await end_the_rest() and work.cancelled()

    assert asyncio.run(main())


@pytest.mark.usefixtures("no_patience")
def test_a_thread_that_waits_is_not_waited_for() -> None:
    answered, asked = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        answered.wait()

    async def main() -> bool:
        work = asyncio.create_task(asyncio.to_thread(wait))
        while not asked.is_set():
            await asyncio.sleep(0)
        ended = await end_the_rest()
        answered.set()
        await asyncio.gather(work, return_exceptions=True)
        return ended

    assert not asyncio.run(main())
