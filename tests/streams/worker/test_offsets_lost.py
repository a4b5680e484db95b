"""Committed offsets that are lost: what was answered is not answered again."""

from typing import Any

from streams.events import UNDECODABLE, Recommendation, decode_recommendation
from streams.kafka.partitioner import partition_of
from tests.streams.conftest import MakeMemory, Memory

PLACE = partition_of("u", 2)


async def answer_and_lose_offsets(memory: Memory, *, requests: int) -> None:
    for n in range(9):
        memory.events.content(f"i{n}")
    async with memory.worker() as worker:
        await worker.deliver()
        for n in range(requests):
            memory.events.request("u", request_id=f"r{n}", k=3)
        await worker.deliver()
        memory.clock.move(8 * 86_400_000)
        memory.events.click("u", "i1")  # all slates are closed by now
        await worker.deliver()
        await worker.flush()
        worker.commit()
    memory.log.committed.clear()


async def test_after_lost_offsets_a_request_that_was_answered_is_not_answered_again(memory: Memory) -> None:
    await answer_and_lose_offsets(memory, requests=6)
    memory.events.click("u", "i2")
    memory.events.request("u", request_id="later")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        worker.commit()
    answered = [slate.request_id for slate in memory.events.recommendations()]
    assert sorted(answered) == ["later", *(f"r{n}" for n in range(6))]


async def test_after_lost_offsets_requests_are_not_answered_again_that_are_remembered(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(answered_requests=6)
    await answer_and_lose_offsets(memory, requests=10)
    memory.log.append("recommendations", PLACE, [(b"u", b"not ours")])
    async with memory.worker() as worker:
        await worker.deliver(most=2)
        for _ in range(2):
            memory.events.request("u", request_id="later")
        await worker.deliver(most=1)
        await worker.flush()
        worker.commit()
    known = [
        slate.request_id
        for slate in map(decoded, memory.log.records("recommendations", PLACE))
        if slate is not None
    ]
    assert sorted(known) == sorted(["later", *(f"r{n}" for n in range(10)), *(f"r{n}" for n in range(4))])


def decoded(record: Any) -> Recommendation | None:
    try:
        return decode_recommendation(record.value)
    except UNDECODABLE:
        return None
