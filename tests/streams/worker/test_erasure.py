"""What is left of a user who was erased: what deploy/security.md says, and nothing else."""

import asyncio

import numpy as np
import pytest

from streams.kafka.partitioner import partition_of
from streams.state.shard import Shard
from streams.testing.source import Aborted
from tests.streams.conftest import MakeMemory, Memory

USER = "user-to-be-forgotten"
PLACE = partition_of(USER, 2)
COMPACTED = ("users", "user-state", "policy-state", "item-state")
NEIGHBOUR = next(name for n in range(99) if partition_of(name := f"neighbour{n}", 2) == PLACE)
HOUR = 3_600_000


async def lived(memory: Memory, worker) -> None:
    """A user with a history, statements, a slate and a reward; all of it is durable."""
    for n in range(6):
        memory.events.content(f"i{n}")
    memory.events.user(USER, preferences=["jazz"], blocked_items=["i5"])
    memory.events.request(USER, request_id="r", k=3)
    await worker.deliver()
    (slate,) = memory.events.recommendations()
    for item in slate.slate:
        memory.events.click(USER, item.item_id, "like")
    memory.events.click("somebody-else", "i1", "like")
    memory.events.raw("clicks", USER, b"an offset, and no click")
    await worker.deliver()
    memory.events.request(USER, request_id="last", k=3)
    await worker.deliver()
    await worker.flush()
    worker.commit()


@pytest.mark.parametrize("restarted", [False, True])
async def test_no_compacted_topic_has_the_id_and_no_slate_is_fed_back(
    memory: Memory, restarted: bool
) -> None:
    async with memory.worker() as worker:
        await lived(memory, worker)
        memory.events.erase(USER)
        await worker.deliver("users")
        worker.commit("users")
        if not restarted:
            memory.clock.move(48 * HOUR)
            memory.events.click("somebody-else", "i2")
            await worker.deliver()
            await worker.flush()
    if restarted:
        async with memory.worker() as worker:
            memory.clock.move(48 * HOUR)
            for n in range(8):  # in both partitions, so that all windows end
                memory.events.click(f"somebody-else{n}", "i2")
            await worker.deliver()
            await worker.flush()
    assert [feedback.user_id for feedback in memory.events.feedback() if feedback.user_id == USER] == []
    for topic in COMPACTED:
        memory.log.compact(topic, tombstones=True)
        rows = [(record.key or b"") + (record.value or b"") for record in memory.log.records(topic)]
        assert topic == "users" or rows
        assert not [row for row in rows if USER.encode() in row], topic


@pytest.mark.parametrize("flushed", [True, False])
async def test_clicks_are_counted_in_all_rows_before_their_user_is_taken_out_of_them(
    memory: Memory, flushed: bool
) -> None:
    memory.events.content("i")
    async with memory.worker() as worker:
        memory.events.request(USER, request_id="r", k=1)
        await worker.deliver()
        memory.events.click(USER, "i", "like")
        memory.events.click(USER, "j", "like")
        memory.events.click(NEIGHBOUR, "j", "like")
        await worker.deliver()
        shard = await worker.parts.partitions.shard(PLACE)
        assert shard.covisits.popularity[: shard.covisits.n_items].tolist() == [1, 2]
        if flushed:
            await worker.parts.flusher.flush_shard(shard, shared=False)
    assert bool(memory.log.records("user-state", PLACE)) == flushed
    assert not [r for r in memory.log.records("policy-state", PLACE) if r.key.startswith(b"covisit")]
    memory.events.erase(USER)
    async with memory.worker() as worker:
        reading = asyncio.create_task(worker.deliver_one("users"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not reading.done()
        await worker.deliver("clicks")
        await reading
        shard = await worker.parts.partitions.shard(PLACE)
        assert shard.profiles.row_of(USER) < 0
        await worker.flush()
        assert _counted(shard) == ([0, 1], [])
    async with memory.worker() as worker:
        await worker.deliver("clicks", "users")
        assert _counted(await worker.parts.partitions.shard(PLACE)) == ([0, 1], [])


def _counted(shard: Shard) -> tuple[list[int], list[int]]:
    rows = np.arange(2, dtype=np.int32)
    return shard.covisits.popularity[:2].tolist(), shard.covisits.neighbours_of(rows)[1].tolist()


async def test_the_share_is_out_of_what_users_share_in_the_transaction_that_erases(
    make_memory: MakeMemory,
) -> None:
    """A worker that dies before it is confirmed has erased nothing; the next one does it all."""
    memory = make_memory(policy="thompson")
    async with memory.worker() as worker:
        await lived(memory, worker)
        before = [len(memory.log.records(topic, PLACE)) for topic in ("user-state", "policy-state")]
        memory.events.erase(USER)
        memory.log.die_after(0)
        with pytest.raises(Aborted):
            await worker.deliver("users")
    memory.log.revive()
    assert [len(memory.log.records(topic, PLACE)) for topic in ("user-state", "policy-state")] == before
    async with memory.worker() as worker:
        shard = await worker.parts.partitions.shard(PLACE)
        assert shard.covisits.popularity.sum() >= 3
        assert shard.statistics.serving.impressions > 0
        await worker.deliver("clicks", "users")
        worker.commit()
    async with memory.worker() as worker:
        await worker.deliver("clicks", "users")
        shard = await worker.parts.partitions.shard(PLACE)
        others = sum(partition_of("somebody-else", 2) == PLACE for _ in "x")
        assert shard.covisits.popularity.sum() == others
        assert shard.statistics.serving.impressions == shard.statistics.serving.rewards == 0
        assert not shard.statistics.serving.gram.any()
