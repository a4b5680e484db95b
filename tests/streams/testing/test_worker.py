"""When a worker in memory is said to stand still."""

import time
from collections.abc import Iterator

import pytest

from streams.testing import worker as testing
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import Memory

TURN_S = 0.02


def busy(worker: MemoryWorker, turns: Iterator[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be busy for some turns, each of which the host keeps for so many seconds; ten are too many."""
    monkeypatch.setattr(testing, "TURN_S", TURN_S)
    monkeypatch.setattr(testing, "DEADLINE_S", 10 * TURN_S)

    def still_busy() -> bool:
        kept_s = next(turns, None)
        time.sleep(kept_s or 0.0)
        return kept_s is not None

    monkeypatch.setattr(worker, "_busy", still_busy)


async def test_a_worker_without_a_processor_does_not_stand_still(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory.worker() as worker:
        busy(worker, iter([5 * TURN_S] * 5), monkeypatch)
        await worker.settle()


async def test_a_worker_that_is_busy_for_ever_stands_still(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory.worker() as worker:
        busy(worker, iter([TURN_S] * 1_000), monkeypatch)
        with pytest.raises(TimeoutError, match="has not come to rest"):
            await worker.settle()
