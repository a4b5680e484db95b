"""Slates close by the time of clicks and, where none comes, of requests and of the clock."""

from streams.state.shard import Shard
from streams.state.watermark import IDLE_MS
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory, Memory

WINDOW_MS = 60_000


def shared(make_memory: MakeMemory) -> Memory:
    memory = make_memory(partitions=1, attribution_window_ms=WINDOW_MS)
    for number in range(4):
        memory.events.content(f"i{number}")
    return memory


async def serve(memory: Memory, worker: MemoryWorker, **fields: int) -> str:
    request_id = memory.events.request("ann", k=2, **fields)
    await worker.deliver()
    return request_id


async def pass_time(memory: Memory, worker: MemoryWorker, ms: int) -> Shard:
    """Let time go by, flushed before and after, as it is every second."""
    await worker.flush()
    memory.clock.move(ms)
    await worker.flush()
    (shard,) = worker.parts.partitions.live()
    assert shard.watermark.ms <= memory.clock.now_ms
    return shard


async def test_a_slate_that_nobody_clicks_on_closes_with_the_time_that_passes(
    make_memory: MakeMemory,
) -> None:
    memory = shared(make_memory)
    async with memory.worker() as worker:
        await worker.deliver("content")
        request_id = await serve(memory, worker)
        await pass_time(memory, worker, WINDOW_MS + IDLE_MS - 1)
        assert memory.events.feedback() == []
        await pass_time(memory, worker, 1)
        (feedback,) = memory.events.feedback()
    assert (feedback.request_id, feedback.rewards) == (request_id, [0.0, 0.0])


async def test_clicks_that_are_not_folded_yet_hold_the_watermark(make_memory: MakeMemory) -> None:
    memory = shared(make_memory)
    async with memory.worker() as worker:
        await worker.deliver("content")
        request_id = await serve(memory, worker)
        item_id = memory.events.recommendations()[0].slate[1].item_id
        memory.events.click("ann", item_id)
        await pass_time(memory, worker, 10 * WINDOW_MS)
        assert memory.events.feedback() == []
        await worker.deliver("clicks")
        await pass_time(memory, worker, WINDOW_MS + IDLE_MS)
        (feedback,) = memory.events.feedback()
    assert (feedback.request_id, feedback.rewards) == (request_id, [0.0, 1.0])


async def test_the_time_of_a_request_closes_the_slates_before_it(make_memory: MakeMemory) -> None:
    memory = shared(make_memory)
    now_ms = memory.clock.now_ms
    async with memory.worker() as worker:
        await worker.deliver("content")
        early = await serve(memory, worker, timestamp_ms=now_ms - WINDOW_MS)
        await serve(memory, worker, timestamp_ms=now_ms - 1)
        await pass_time(memory, worker, 0)
        assert memory.events.feedback() == []
        await serve(memory, worker, timestamp_ms=now_ms)
        await pass_time(memory, worker, 0)
        assert [feedback.request_id for feedback in memory.events.feedback()] == [early]


async def test_a_request_from_the_future_does_not_take_the_watermark_there(make_memory: MakeMemory) -> None:
    memory = shared(make_memory)
    now_ms = memory.clock.now_ms
    async with memory.worker() as worker:
        await worker.deliver("content")
        await serve(memory, worker)
        await serve(memory, worker, timestamp_ms=now_ms + 2 * WINDOW_MS)
        shard = await pass_time(memory, worker, 0)
        assert shard.watermark.ms == now_ms
        assert memory.events.feedback() == []


async def test_after_a_restart_time_goes_on_from_where_it_was(make_memory: MakeMemory) -> None:
    memory = shared(make_memory)
    async with memory.worker() as worker:
        await worker.deliver("content")
        await serve(memory, worker)
        memory.events.click("ann", "i3", "view")
        await worker.deliver("clicks")
        shard = await pass_time(memory, worker, 0)
        before = shard.watermark.ms
        worker.commit()
    async with memory.worker() as worker:
        shard = await pass_time(memory, worker, IDLE_MS + 5_000)
        assert shard.watermark.ms == before + 5_000
