"""Partitions come, go and come back, on a log in memory."""

import asyncio
import threading
from collections.abc import Iterable

import pytest
from aiokafka.errors import KafkaTimeoutError, NodeNotReadyError

from streams.errors import OwnershipLost
from streams.kafka.partitioner import partition_of
from streams.state.item_index import keys_of
from streams.state.shard import Shard
from tests.streams.conftest import Memory

PLACE = partition_of("u", 2)
OTHER = 1 - PLACE
DEADLINE_S = 120.0


async def test_what_is_owned_all_along_is_kept_and_the_rest_is_restored_or_dropped(memory: Memory) -> None:
    memory.events.click("u", "a")
    async with memory.worker() as worker:
        await worker.deliver()
        partitions = worker.parts.partitions
        kept = await partitions.shard(PLACE)
        gone = await partitions.shard(OTHER)
        await worker.assign([PLACE])
        assert await partitions.shard(PLACE) is kept
        assert not partitions.owns(OTHER)
        with pytest.raises(OwnershipLost, match=f"partition {OTHER} is not owned"):
            await partitions.shard(OTHER)
        await worker.assign([PLACE, OTHER])
        assert await partitions.shard(PLACE) is kept
        assert await partitions.shard(OTHER) is not gone


async def test_a_partition_that_goes_is_flushed_and_comes_back_as_it_was(memory: Memory) -> None:
    for n in range(30):
        memory.events.click("u", f"i{n % 7}")
    async with memory.worker() as worker:
        await worker.deliver()
        before = worker.digest()
        await worker.assign([OTHER])
        assert memory.log.committed["clicks", PLACE] == 30
        await worker.assign([PLACE, OTHER])
        assert worker.digest() == before


async def test_after_a_gap_in_the_membership_everything_is_restored_anew(memory: Memory) -> None:
    memory.events.click("u", "a")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        worker.commit()
        stale = await worker.parts.partitions.shard(PLACE)
        async with memory.worker() as other:
            memory.events.click("u", "b")
            await other.deliver()
            await other.flush()
            other.commit()
            truth = other.digest()
        # Two generations on: the group went on without this worker in between.
        worker.consumer.assign([])
        await worker.assign([PLACE, OTHER])
        assert await worker.parts.partitions.shard(PLACE) is not stale
        assert worker.digest() == truth


async def test_a_worker_is_ready_once_all_that_was_there_is_folded(memory: Memory) -> None:
    memory.events.content("a")
    memory.events.click("u", "a")
    memory.events.user("u", preferences=["jazz"])
    memory.log.skip("clicks", OTHER)
    async with memory.worker() as worker:
        partitions = worker.parts.partitions
        for name in ("clicks", "users", "content"):
            assert not partitions.is_ready()
            await worker.deliver(name)
        async with asyncio.timeout(DEADLINE_S):
            while not partitions.is_ready():
                await asyncio.sleep(0.01)
        # What comes later is ordinary work.
        memory.events.click("u", "b")
        assert partitions.is_ready()


async def test_a_worker_is_not_ready_while_its_items_are_being_encoded(memory: Memory) -> None:
    memory.events.content("a")
    async with memory.worker() as worker:
        partitions, let_go = worker.parts.partitions, threading.Event()
        worker.parts.lanes.serving.inference.submit(let_go.wait)  # an encoder that takes its time
        try:
            await worker.deliver_one("content")
            async with asyncio.timeout(DEADLINE_S):
                while partitions.readiness()["items_encoded"]:
                    await asyncio.sleep(0.01)
            assert not partitions.is_ready()
        finally:
            let_go.set()
        async with asyncio.timeout(DEADLINE_S):
            while not partitions.is_ready():
                await asyncio.sleep(0.01)


async def test_brokers_that_do_not_say_what_there_is_are_waited_for(memory: Memory) -> None:
    memory.events.click("u", "a")
    async with memory.worker() as worker:
        partitions, ends = worker.parts.partitions, worker.parts.ends
        answer, silent = ends.of, [KafkaTimeoutError(), NodeNotReadyError()]

        async def of(topic: str, asked: Iterable[int], /) -> dict[int, int]:
            if silent:
                raise silent.pop()
            return await answer(topic, asked)

        ends.of = of  # type: ignore[method-assign]
        await worker.assign([PLACE, OTHER])
        await worker.deliver()
        async with asyncio.timeout(DEADLINE_S):
            while not partitions.is_ready():
                await asyncio.sleep(0.01)
        assert (silent, worker.error) == ([], None)


async def test_a_standby_that_owns_nothing_is_ready(memory: Memory) -> None:
    async with memory.worker() as worker:
        await worker.assign([])
        async with asyncio.timeout(DEADLINE_S):
            while not worker.parts.partitions.is_ready():
                await asyncio.sleep(0.01)


async def test_a_worker_that_begins_to_stop_is_not_ready_and_says_why(memory: Memory) -> None:
    async with memory.worker() as worker:
        await worker.assign([])
        partitions = worker.parts.partitions
        async with asyncio.timeout(DEADLINE_S):
            while not partitions.is_ready():
                await asyncio.sleep(0.01)
        assert partitions.readiness()["stopping"] is False
        partitions.begin_to_stop()
        assert not partitions.is_ready()
        assert partitions.readiness()["stopping"] is True


async def test_a_damaged_changelog_row_ends_the_worker_and_is_named(memory: Memory) -> None:
    memory.log.append("user-state", PLACE, [(b"u\0\0\0", b"\x93damaged")])
    worker = memory.worker()
    with pytest.raises(ValueError, match="user-state row .* is damaged"):
        await worker.__aenter__()
    # Who waits for the partition may hear of the error before the worker does.
    async with asyncio.timeout(DEADLINE_S):
        while worker.error is None:
            await asyncio.sleep(0.01)
    assert isinstance(worker.error, ValueError)
    await worker.__aexit__()


async def test_the_rows_of_foreign_partitions_are_followed_and_those_of_owned_ones_left_out(
    memory: Memory,
) -> None:
    memory.events.click("u", "a")
    memory.events.click("u", "b")
    async with memory.worker() as owner, memory.worker() as other:
        await owner.assign([PLACE])
        await other.assign([OTHER])
        await owner.deliver()
        mine = owner.parts.shared.covisits[PLACE]
        await owner.flush()
        await other.settle()
        await owner.settle()
        assert owner.parts.shared.covisits[PLACE] is mine
        theirs = other.parts.shared
        found = theirs.index.find_keys(keys_of(["a", "b"]))
        assert (found >= 0).all()
        assert theirs.covisits[PLACE].popularity[found].tolist() == [1, 1]


async def test_what_is_being_restored_ends_with_the_worker(memory: Memory) -> None:
    async with memory.worker() as worker:
        partitions = worker.parts.partitions
        await worker.assign([PLACE])
        begun = asyncio.Event()

        async def never(partition: int) -> Shard:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError("it waits for ever")

        partitions._restore_shard = never
        assigning = asyncio.create_task(worker.assign([PLACE, OTHER]))
        async with asyncio.timeout(DEADLINE_S):
            await begun.wait()
            waiting = asyncio.create_task(partitions.shard(OTHER))
            await asyncio.sleep(0)
            await partitions.stop()
            with pytest.raises(OwnershipLost, match="went to another worker"):
                await waiting
        assigning.cancel()
        await asyncio.gather(assigning, return_exceptions=True)
