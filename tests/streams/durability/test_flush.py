"""The flush on a log in memory: what is durable, in which order, and what may be committed then."""

import asyncio
from collections.abc import Collection

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from streams.durability import flush
from streams.durability.flush import CLICKS_A_ROW, MAX_INTERVALS, SLICE, TURNS
from streams.events import Request
from streams.kafka.inputs import Inputs
from streams.kafka.packed_rows import PackedRows
from streams.kafka.partitioner import partition_of
from streams.kafka.publisher import Row
from streams.state.slate_learning import SlateLearning
from streams.testing.publisher import MemoryPublisher
from tests.streams.conftest import MakeMemory, Memory

PLACE = partition_of("u", 2)


def topics_of(memory: Memory, since: int = 0) -> list[str]:
    """Topics written to, in the order of arrival, each once in a row."""
    names = [topic for topic, _, _ in memory.log.order[since:]]
    return [name for at, name in enumerate(names) if at == 0 or name != names[at - 1]]


@pytest.mark.parametrize("refusing", ["user-state", "policy-state"])
async def test_what_is_refused_is_neither_committed_nor_lost(memory: Memory, refusing: str) -> None:
    """Nor by the flush of a worker that stops on the error."""
    for n in range(3):
        memory.events.click("u", f"i{n}")
    memory.log.limits[refusing] = 60
    async with memory.worker() as worker:
        await worker.deliver("clicks")
        before = worker.digest()
        with pytest.raises(MessageSizeTooLargeError):
            await worker.flush()
        await worker.flush()
        assert worker.commit() == {}
    assert memory.log.records("user-state", PLACE) == memory.log.records("policy-state", PLACE) == []

    memory.log.limits[refusing] = 1_000_000
    async with memory.worker() as worker:
        await worker.deliver("clicks")
        assert worker.digest() == before
        await worker.flush()
        assert worker.commit() == {("clicks", PLACE): 3}
    async with memory.worker() as worker:
        assert worker.digest() == before


async def test_a_slates_feedback_is_out_before_the_row_that_says_it_is_closed(memory: Memory) -> None:
    memory.events.content("a")
    memory.events.request("u")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        begin = len(memory.log.order)
        memory.clock.move(memory.settings.attribution_window_ms + 1)
        memory.events.click("u", "a", "view")
        await worker.deliver()
        await worker.flush()
        order = topics_of(memory, begin)
        assert order == ["clicks", "feedback", "policy-state", "user-state", "policy-state"]
        (closed,) = memory.events.feedback()
        assert closed.rewards == [0.0]


async def test_item_statistics_wait_for_their_interval_and_hold_the_offsets_until_then(
    memory: Memory,
) -> None:
    memory.events.click("u", "a")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.parts.flusher.flush_due()
        assert [r for r in memory.log.records("user-state") if r.key.startswith(b"u\0")]
        assert not [r for r in memory.log.records("policy-state") if r.key.startswith(b"covisit\0")]
        assert worker.commit() == {}
        memory.events.click("u", "b")
        await worker.deliver()
        memory.clock.move(memory.settings.shared_flush_interval_ms)
        await worker.parts.flusher.flush_due()
        assert [r for r in memory.log.records("policy-state") if r.key.startswith(b"covisit\0")]
        assert worker.commit() == {("clicks", PLACE): 2}


async def test_many_rows_of_items_wait_for_more_clicks_but_not_for_ever(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush, "FEW_ROWS", 8)
    many = 9
    users = (f"u{n}" for n in range(100) if partition_of(f"u{n}", 2) == PLACE)
    interval_ms = memory.settings.shared_flush_interval_ms
    async with memory.worker() as worker:

        async def click_and_look(items: int) -> int:
            user = next(users)
            for n in range(items):
                memory.events.click(user, f"i{n}")
            await worker.deliver("clicks")
            begin = len(memory.log.records("policy-state"))
            await worker.parts.flusher.flush_due()
            rows = memory.log.records("policy-state")[begin:]
            return sum(row.key.startswith(b"covisit\0") for row in rows)

        assert await click_and_look(many) == 0
        memory.clock.move(interval_ms)
        assert await click_and_look(1) == 0  # not so many a row yet
        for _ in range(MAX_INTERVALS - 1):
            memory.clock.move(interval_ms)
        assert await click_and_look(1) == many
        for _ in range(CLICKS_A_ROW):
            assert await click_and_look(many) == 0
        memory.clock.move(interval_ms)
        assert await click_and_look(1) == many
        assert worker.commit() == {("clicks", PLACE): (CLICKS_A_ROW + 1) * many + 3}


async def test_rows_are_sent_as_they_are_taken(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what a flush holds does not grow with what is dirty."""
    monkeypatch.setattr(flush, "SLICE", 4)
    monkeypatch.setattr(flush, "PIECE_BYTES", 1)
    users = [user for n in range(200) if partition_of(user := f"u{n}", 2) == PLACE]
    for n, user in enumerate(users):
        memory.events.click(user, f"i{n}")
    left: dict[str, list[int]] = {"user-state": [], "policy-state": []}
    async with memory.worker() as worker:
        await worker.deliver("clicks")
        (shard,) = [one for one in worker.parts.partitions.live() if one.partition == PLACE]
        publish = MemoryPublisher.publish

        async def watched(self: MemoryPublisher, topic: str, partition: int, rows: Collection[Row], /) -> int:
            if topic in left and partition == PLACE and isinstance(rows, PackedRows):
                assert len(rows) <= 4 + len(rows.before)
                left[topic].append(shard.profiles.n_dirty + shard.covisits.n_dirty)
            return await publish(self, topic, partition, rows)

        monkeypatch.setattr(MemoryPublisher, "publish", watched)
        await worker.flush()
    n = len(users)
    assert left["user-state"] == [n + max(0, n - 4 * k) for k in range(1, -(-n // 4) + 1)]
    assert left["policy-state"] == [max(0, n - 4 * k) for k in range(1, -(-n // 4) + 1)]


async def test_nothing_is_written_when_nothing_has_changed(memory: Memory) -> None:
    memory.events.click("u", "a")
    memory.events.user("u", preferences=["jazz"])
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        begin = len(memory.log.order)
        await worker.flush()
        await worker.parts.flusher.flush_due()
        assert memory.log.order[begin:] == []


async def test_a_batch_is_flushed_as_a_whole_or_not_at_all(make_memory: MakeMemory) -> None:
    for batches in range(4):
        memory = make_memory(batch_bytes=300)
        for n in range(40):
            memory.events.click("u", f"i{n % 6}")
        async with memory.worker() as worker:
            await worker.deliver("clicks")
            memory.log.die_after(batches)
            with pytest.raises(Exception, match="died while it published"):
                await worker.flush()
        assert memory.log.records("user-state", PLACE) == memory.log.records("policy-state", PLACE) == []


async def test_a_worker_that_lost_its_partition_writes_nothing_more(memory: Memory) -> None:
    """Another has taken over, and this one has not heard of it."""
    memory.events.click("u", "a")
    async with memory.worker() as frozen:
        await frozen.deliver("clicks")
        async with memory.worker() as owner:
            await owner.deliver("clicks")
            await owner.flush()
            rows = memory.log.records("user-state")
            memory.events.click("u", "b")
            await frozen.deliver("clicks")
            await frozen.flush()
            assert memory.log.records("user-state") == rows
            assert frozen.commit() == {}
            assert PLACE not in [shard.partition for shard in frozen.parts.partitions.live()]


async def test_what_is_folded_while_a_flush_takes_its_rows_is_neither_committed_nor_lost(
    memory: Memory,
) -> None:
    before = 4 * SLICE
    for n in range(before):
        memory.events.click(f"u{n}", f"i{n % SLICE}")
    async with memory.worker() as worker:
        await worker.deliver("clicks")
        flushing = asyncio.ensure_future(worker.flush())
        await asyncio.sleep(0)
        for n in range(before):
            memory.events.click(f"u{n}", "i0")
        while await worker.deliver_one("clicks"):
            pass
        await flushing
        assert sum(worker.commit().values()) == before
        expected = worker.digest()
    async with memory.worker() as worker:
        await worker.deliver("clicks")
        assert worker.digest() == expected


async def test_partitions_are_written_a_part_at_a_time_and_each_of_them_in_its_turn(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=3)
    for n in range(30):
        memory.events.click(f"u{n}", "a")

    def written() -> set[int]:
        return {p for topic, p, _ in memory.log.order if topic == "user-state"}

    async with memory.worker() as worker:
        await worker.deliver()
        seen: list[set[int]] = []
        for _ in range(TURNS):
            before = written()
            await worker.parts.flusher.flush_next()
            seen.append(written() - before)
        assert sorted(map(len, seen)) == [0, 1, 1, 1]
        assert written() == {0, 1, 2}


async def test_what_a_slate_earns_before_it_is_out_is_written_once_it_is(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that ends before would leave a reward that nobody can account for."""
    memory.events.content("a")
    out, publish, count = asyncio.Event(), MemoryPublisher.publish, SlateLearning.count_published
    looks = 0

    async def held(self: MemoryPublisher, topic: str, partition: int, rows: Collection[Row], /) -> int:
        if topic == "recommendations":
            await out.wait()
        assert out.is_set(), topic
        return await publish(self, topic, partition, rows)

    def looked(self: SlateLearning) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:  # the flush waits
            out.set()
        count(self)

    async with memory.worker() as worker:
        await worker.deliver()
        monkeypatch.setattr(MemoryPublisher, "publish", held)
        memory.events.request("u")
        assert await worker.deliver_one("requests")
        (shard,) = [one for one in worker.parts.partitions.live() if one.partition == PLACE]
        async with asyncio.timeout(30):
            while not shard.slates.has_open("u"):
                await asyncio.sleep(0.001)
        memory.events.click("u", "a")
        assert await worker.deliver_one("clicks")
        with monkeypatch.context() as while_:  # the group does not answer: it may wait for this flush
            while_.setattr(Inputs, "owned", False)
            async with asyncio.timeout(30):
                await worker.parts.flusher.flush_shard(shard, shared=True)
        assert worker.commit("clicks") == {}
        monkeypatch.setattr(SlateLearning, "count_published", looked)
        await worker.parts.flusher.flush_shard(shard, shared=True)
    async with memory.worker() as worker:
        (shard,) = [one for one in worker.parts.partitions.live() if one.partition == PLACE]
        assert (shard.statistics.serving.impressions, shard.statistics.serving.rewards) == (1, 1)


async def test_a_slate_is_not_open_to_clicks_that_were_counted_before_a_restart(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(read_your_writes_ms=0)
    memory.events.content("a")
    memory.events.click("v", "b")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()  # and nothing is committed
    memory.events.request("v")
    async with memory.worker() as worker:
        await worker.deliver("requests")
    (slate,) = memory.events.recommendations()
    assert slate.clicks_offset == 0


async def test_a_slate_that_was_refused_after_who_asked_has_gone_keeps_no_flush_waiting(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.events.content("a")
    sent, gone, publish = asyncio.Event(), asyncio.Event(), MemoryPublisher.publish

    async def refused(self: MemoryPublisher, topic: str, partition: int, rows: Collection[Row], /) -> int:
        if topic == "recommendations":
            sent.set()
            await gone.wait()
            raise MessageSizeTooLargeError
        return await publish(self, topic, partition, rows)

    async with memory.worker() as worker:
        await worker.deliver()
        (shard,) = [one for one in worker.parts.partitions.live() if one.partition == PLACE]
        monkeypatch.setattr(MemoryPublisher, "publish", refused)
        request = Request(request_id="r", user_id="u", timestamp_ms=memory.clock.now_ms, k=1)
        asking = asyncio.ensure_future(worker.parts.server.answer(request, shard, received=0.0))
        await asyncio.wait_for(sent.wait(), 30)
        memory.events.click("u", "a")
        assert await worker.deliver_one("clicks")
        assert shard.learning.is_ahead
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gone.set()
        await asyncio.wait_for(worker.parts.flusher.flush_shard(shard, shared=True), 30)
        assert not shard.slates.has_open("u")
