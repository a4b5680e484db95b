"""Rows of items that nobody needs, on a log in memory."""

import numpy as np
import pytest

from streams.kafka.partitioner import partition_of
from streams.state.item_index import keys_of
from streams.state.rows import COVISIT_PREFIX
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory, Memory

PLACE = partition_of("u", 2)
DAY_S = 86_400


async def swept(memory: Memory, worker: MemoryWorker, *, after_s: float = 3_600) -> None:
    memory.clock.move(int(1000 * after_s))
    await worker.parts.reclaimer.sweep()


def counted(worker: MemoryWorker, name: str, **labels: str) -> float:
    return worker.parts.metrics.registry.get_sample_value(f"slatestream_{name}", labels) or 0.0


async def click_all(memory: Memory, worker: MemoryWorker, user: str, items: list[str]) -> None:
    for item in items:
        memory.events.click(user, item)
    await worker.deliver("clicks")


async def test_the_bound_on_items_nobody_has_described_holds_and_the_worker_serves_on(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(max_undescribed_items=3_000, history_limit=16)
    memory.events.content("known")
    async with memory.worker() as worker:
        await worker.deliver()
        index = worker.parts.shared.index
        await swept(memory, worker)
        for round_ in range(20):
            await click_all(memory, worker, "u", [f"junk-{round_}-{k}" for k in range(1_000)])
            assert index.n_undescribed <= 3_000
            await swept(memory, worker)
        assert len(index) < 6_000  # of 20,001
        assert len(index.keys) == len(index.ids) == len(index.met_s)
        assert counted(worker, "reclaimed_total", kind="items") > 10_000
        memory.events.click("u", "known")
        memory.events.request("other")
        await worker.deliver()
        (slate,) = memory.events.recommendations()
        assert [item.item_id for item in slate.slate] == ["known"]


async def test_a_click_that_finds_no_room_is_refused_and_counted_and_the_user_has_no_part_in_it(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(max_undescribed_items=4, history_limit=16)
    async with memory.worker() as worker:
        await swept(memory, worker)
        shard = await worker.parts.partitions.shard(PLACE)
        await click_all(memory, worker, "u", ["a", "b", "c", "d"])
        await swept(memory, worker)  # all are in a history: none is taken back
        await click_all(memory, worker, "u", ["e", "a", "f"])
        assert counted(worker, "events_total", topic="clicks", outcome="refused") == 2
        assert shard.profiles.events(shard.profiles.row_of("u")) == 5
        await click_all(memory, worker, "u", ["a"] * 20)  # a history is full of one item
        for _ in range(3):
            await swept(memory, worker)
        await click_all(memory, worker, "u", ["e"])
        assert worker.parts.shared.index.row_of("e") >= 0


async def test_after_a_restart_the_state_is_that_from_which_items_were_taken_back(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(max_undescribed_items=64, history_limit=16, covisit_neighbours=16)
    for item in ("x", "y", "z"):
        memory.events.content(item)
    async with memory.worker() as worker:
        await worker.deliver()
        await swept(memory, worker)
        for k in range(40):
            await click_all(memory, worker, "u", ["x", f"junk-{k}", "y", f"more-{k}", f"most-{k}"])
            await click_all(memory, worker, "v", ["z", f"junk-{k}", "x"])
            await worker.flush()
            worker.commit()
            await swept(memory, worker)
        assert counted(worker, "reclaimed_total", kind="items") > 30
        await worker.flush()
        worker.commit()
        digest, known = worker.digest(), set(worker.parts.shared.index.ids)
    async with memory.worker() as again:
        await again.deliver()
        assert again.digest() == digest
        await again.flush()
    memory.log.compact("policy-state")
    rows = [
        record.key[-8:]
        for record in memory.log.records("policy-state")
        if record.key.startswith(COVISIT_PREFIX) and record.value is not None
    ]
    assert set(np.frombuffer(b"".join(rows), ">u8").tolist()) <= set(keys_of(known).tolist())
    async with memory.worker() as last:
        assert last.digest() == digest


async def test_an_item_in_a_history_keeps_its_row_and_one_blocked_too(make_memory: MakeMemory) -> None:
    memory = make_memory(max_undescribed_items=16)
    async with memory.worker() as worker:
        await swept(memory, worker)
        memory.events.user("u", blocked_items=["blocked"])
        await worker.deliver("users")
        await click_all(memory, worker, "u", ["met"])
        for _ in range(3):
            await swept(memory, worker, after_s=90 * DAY_S)
        index = worker.parts.shared.index
        shard = await worker.parts.partitions.shard(PLACE)
        row = shard.profiles.row_of("u")
        assert index.ids[shard.profiles.history(row, 1)[0][0]] == "met"
        assert [index.ids[k] for k in shard.profiles.stated.of(row).blocked] == ["blocked"]
        assert counted(worker, "blocked_items_refused_total") == 0


async def test_a_row_is_another_items_only_two_sweeps_after_nobody_needs_it(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(history_limit=16)
    async with memory.worker() as worker:
        index, life = worker.parts.shared.index, worker.parts
        memory.events.content("gone", title="Gone", attributes={"genre": ["x"]})
        await worker.deliver()
        row = index.row_of("gone")
        memory.events.raw("content", "gone", None)
        await worker.deliver()
        await swept(memory, worker)
        assert index.row_of("gone") == row  # its time is not over
        await swept(memory, worker, after_s=31 * DAY_S)
        assert index.row_of("gone") == -1
        assert index.ids[row] == "gone"  # for who still reads it
        candidates = [f"i{k}" for k in range(4096)]
        same = [name for name in candidates if keys_of([name])[0] % 256 == keys_of(["gone"])[0] % 256]
        memory.events.content(same[0])
        await worker.deliver()
        assert index.row_of(same[0]) != row
        await swept(memory, worker)
        memory.events.content(same[1])
        await worker.deliver()
        assert index.row_of(same[1]) == row
        assert life.shared.catalogue.title(row) == same[1]
        assert not any(map(len, life.shared.catalogue.postings("genre", ["x"])))


async def test_a_deleted_item_that_is_described_again_is_served_again(make_memory: MakeMemory) -> None:
    memory = make_memory()
    async with memory.worker() as worker:
        memory.events.content("a")
        await worker.deliver()
        memory.events.raw("content", "a", None)
        await worker.deliver()
        for _ in range(3):
            await swept(memory, worker, after_s=31 * DAY_S)
        assert worker.parts.shared.index.row_of("a") == -1
        memory.events.content("a", title="Again")
        memory.events.request("u")
        await worker.deliver()
        (slate,) = memory.events.recommendations()
        assert [item.item_id for item in slate.slate] == ["a"]


async def test_items_deleted_long_ago_have_no_rows_in_a_worker_that_comes_later(memory: Memory) -> None:
    async with memory.worker() as worker:
        for k in range(9):
            memory.events.content(f"i{k}")
        await worker.deliver()
        for k in range(1, 9):
            memory.events.raw("content", f"i{k}", None)
        await worker.deliver()
        worker.commit()
    memory.log.compact("item-state")
    memory.clock.move(2 * 1000 * DAY_S)
    async with memory.worker() as later:
        assert later.parts.shared.index.ids == ["i0"]


async def test_nothing_is_taken_back_while_a_partition_is_being_restored(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory(max_undescribed_items=8)
    async with memory.worker() as worker:
        await swept(memory, worker)
        await click_all(memory, worker, "u", [f"i{k}" for k in range(8)])
        shard = await worker.parts.partitions.shard(PLACE)
        shard.profiles.erase("u")
        monkeypatch.setattr(type(worker.parts.partitions), "live", lambda _: [])
        await swept(memory, worker, after_s=31 * DAY_S)
        assert worker.parts.shared.index.n_items == 8
        monkeypatch.undo()
        await swept(memory, worker, after_s=31 * DAY_S)
        assert worker.parts.shared.index.n_items == 0


async def test_the_arm_of_an_item_goes_with_its_row_here_and_in_other_workers(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(policy="thompson-disjoint", partitions=1)
    key = keys_of(["stays"])
    async with memory.worker() as other, memory.worker() as worker:
        await other.assign([])  # what the second worker has taken by now
        for item in ("gone", "stays"):
            memory.events.content(item)
        await worker.deliver()
        memory.events.request("u")
        await worker.deliver("requests")
        (shard,) = worker.parts.partitions.live()
        await worker.flush()
        assert set(shard.statistics.serving.parts.tolist()) == set(keys_of(["gone", "stays"]).tolist())
        memory.events.raw("content", "gone", None)
        await worker.deliver("content")
        await swept(memory, worker, after_s=31 * DAY_S)
        assert len(shard.statistics.serving.parts) == 2  # its slate is open
        memory.clock.move(3_600_000)
        memory.events.click("u", "stays")
        await worker.deliver("clicks")
        await worker.flush()
        await swept(memory, worker, after_s=DAY_S)
        assert shard.statistics.serving.parts.tolist() == key.tolist()
        assert counted(worker, "reclaimed_total", kind="arms") == 1
        await worker.flush()
        worker.commit()
        for one, shards in ((worker, [shard]), (other, [])):
            await one.settle()
            await one.parts.lanes.serving.learner.learn(shards)
            assert one.parts.lanes.serving.policies.learner.version > 0
    for compacted in (False, True):
        if compacted:
            memory.log.compact("policy-state")
        async with memory.worker() as again:
            (shard,) = again.parts.partitions.live()
            assert shard.statistics.serving.parts.tolist() == key.tolist()
            await again.assign([])
            await again.settle()
