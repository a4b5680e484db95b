"""What is sampled of a worker once a second."""

import time

from streams.console.live import read_totals
from tests.streams.conftest import Memory


async def test_a_reading_has_what_the_metrics_have_counted(memory: Memory) -> None:
    for n in range(4):
        memory.events.content(f"i{n}", title=f"Film {n}")
    memory.events.click("u", "i1")
    memory.events.request("u", k=2)
    async with memory.worker() as worker:
        await worker.deliver()
        totals = read_totals(worker.parts.metrics.registry, time.time())
    assert totals.clicks == totals.slates == 1
    assert max(totals.latency.values()) == 1
