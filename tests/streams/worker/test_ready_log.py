"""What the log says of readiness."""

import logging
from typing import Any

import pytest

from streams.worker.ready_log import ReadyLog


class Worker:
    """What `/readyz` says of a worker, and a clock."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {
            "topics_caught_up": False, "items_encoded": False, "broker_answers": True, "stopping": False,
            "partitions": 4, "partitions_restored": 3,
        }  # fmt: skip
        self.ready, self.pending, self.seconds = False, 7_230, 0.0


async def told(worker: Worker, log: ReadyLog, caplog: pytest.LogCaptureFixture, seconds: int) -> list[str]:
    caplog.clear()
    for _ in range(seconds):
        worker.seconds += 1.0
        await log.look()
    return caplog.messages


async def test_it_says_what_is_missing_ever_less_often_and_once_that_it_is_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    worker = Worker()
    log = ReadyLog(
        lambda: worker.ready, lambda: worker.said, lambda: worker.pending, now=lambda: worker.seconds
    )
    assert await told(worker, log, caplog, 4) == []
    missing = "topics_caught_up, items_encoded, 3 of 4 partitions restored, 7,230 items to encode"
    assert await told(worker, log, caplog, 1) == [f"not ready yet: {missing}"]
    assert len(await told(worker, log, caplog, 30)) == 2
    assert 9 <= len(await told(worker, log, caplog, 600)) <= 11
    worker.ready = True
    assert await told(worker, log, caplog, 100) == ["ready, with 4 partitions"]
    worker.ready = False
    assert len(await told(worker, log, caplog, 5)) == 1
    worker.ready = True
    assert await told(worker, log, caplog, 5) == ["ready, with 4 partitions"]


async def test_a_worker_that_stops_does_not_say_that_it_is_not_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    worker = Worker()
    worker.said["stopping"] = True
    log = ReadyLog(lambda: False, lambda: worker.said, lambda: 0, now=lambda: worker.seconds)
    assert await told(worker, log, caplog, 100) == []
