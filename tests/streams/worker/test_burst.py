"""A burst of a hundred times what a worker answers at a time, while its graph is slow."""

import asyncio
import threading
from collections import Counter

from tests.streams.conftest import MakeMemory

AT_A_TIME, DEADLINE_S = 4, 120.0


async def test_a_burst_on_a_slow_graph_holds_up_no_click_and_no_flush_and_is_answered_once(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(max_in_flight=AT_A_TIME, max_batch=AT_A_TIME)
    for n in range(9):
        memory.events.content(f"i{n}")
    async with memory.worker() as worker, asyncio.timeout(DEADLINE_S):
        await worker.deliver()
        goes_on = threading.Event()
        worker.parts.lanes.serving.inference.submit(goes_on.wait, DEADLINE_S)
        asked = Counter(memory.events.request(f"u{n % 50}", k=3) for n in range(100 * AT_A_TIME))
        burst = asyncio.create_task(worker.deliver("requests"))
        for n in range(600):
            memory.events.click(f"v{n % 50}", f"i{n % 9}")
        while await worker.deliver_one("clicks"):
            pass
        await worker.flush()
        ends = {partition: len(clicks) for partition, clicks in memory.events.clicks().items()}
        assert worker.commit("clicks") == {("clicks", partition): end for partition, end in ends.items()}
        assert memory.events.recommendations() == []
        assert worker.commit("requests") == {}
        assert not burst.done()
        goes_on.set()
        await burst
        assert Counter(slate.request_id for slate in memory.events.recommendations()) == asked
