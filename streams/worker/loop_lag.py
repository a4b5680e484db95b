"""Lag of the event loop: how late timers fire because callbacks hold it."""

import asyncio
from collections.abc import Callable

PERIOD_S = 0.025  # to wake up costs an idle worker more than anything else it does


async def measure_loop_lag(observe: Callable[[float], None]) -> None:
    """Sleep again and again, and observe by how many seconds each waking is late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PERIOD_S
        await asyncio.sleep(PERIOD_S)
        observe(max(0.0, loop.time() - due))
