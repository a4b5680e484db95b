"""Waits until a worker has read what was published."""

import asyncio
import time
from collections.abc import Callable

from streams.errors import SlatestreamError
from streams.worker.process import MetricsReading, WorkerProcess

CATCH_UP_TIMEOUT_S = 120.0
POLL_S = 0.1


async def caught_up(worker: WorkerProcess, wanted: dict[str, int], say: Callable[[str], None]) -> None:
    """Wait until the worker has taken so many records of each topic and is ready again.

    Raises
    ------
    SlatestreamError
        If it has not in time; the message says what is missing.
    """
    began = told = time.monotonic()
    while True:
        reading = await asyncio.to_thread(worker.metrics)
        taken = {name: 0 if reading is None else _taken(reading, name) for name in wanted}
        if all(taken[name] >= n for name, n in wanted.items()) and await asyncio.to_thread(worker.is_ready):
            return
        state = ", ".join(f"{name} {taken[name]:,} of {n:,}" for name, n in wanted.items())
        if time.monotonic() - began > CATCH_UP_TIMEOUT_S:
            raise SlatestreamError(f"the worker has not caught up in {CATCH_UP_TIMEOUT_S:.0f} s: {state}")
        if time.monotonic() - told > 5.0:
            told = time.monotonic()
            say(f"  the worker has taken {state}")
        await asyncio.sleep(POLL_S)


def _taken(reading: MetricsReading, name: str) -> int:
    """Count the records of an input topic that were read, whatever became of them."""
    return int(reading.total("events_total", topic=name))
