"""A state is compared with the fold of the logs, row by row."""

import msgspec
import pytest

from model_core.signals.config import SignalConfig
from streams.kafka.partitioner import partition_of
from streams.state import rows as changelog
from streams.state.rows import UserChunk, chunk_key
from streams.testing.log import MemoryLog
from streams.testing.worker import MemoryWorker
from streams.verify.compare import COMPARED, Ask
from streams.verify.offline import Counting
from streams.verify.run import Result, Scope, Verifier
from tests.streams.conftest import MakeMemory, Memory

HOUR = 3_600_000
ACTIONS = ("view", "click", "like")


def verifier(memory: Memory, **scope: object) -> Verifier:
    async def committed(partition: int) -> dict[str, int]:
        return {name: memory.log.committed.get((name, partition), 0) for name in ("clicks", "users")}

    chosen = Scope(**{"kinds": COMPARED, "buckets": 3, "wait_s": 5.0, **scope})  # type: ignore[arg-type]
    return Verifier(memory.settings, memory.log, memory.log.ends(), chosen, committed=committed)


def asked(worker: MemoryWorker, partition: int) -> Ask:
    async def ask(kind, bucket, tell_rows):
        shard = await worker.parts.partitions.shard(partition)
        return await worker.life.state(shard, kind, bucket, tell_rows=tell_rows)

    return ask


async def live(memory: Memory, worker: MemoryWorker, partition: int, **scope: object) -> Result:
    return await verifier(memory, **scope).live(partition, asked(worker, partition))


def counting(worker: MemoryWorker) -> Counting:
    release = worker.parts.lanes.release
    return Counting(release.version, release.feature_dim, SignalConfig())


async def traffic(memory: Memory, worker: MemoryWorker, begin: int, end: int) -> None:
    """Clicks of some users, slates, clicks on these, statements, and records that nobody takes."""
    for n in range(8):
        memory.events.content(f"i{n}")
    for n in range(begin, end):
        memory.events.click(f"u{n % 7}", f"i{n * 5 % 11}", ACTIONS[n % 3])
        if n % 9 == 0:
            memory.events.request(f"u{n % 7}", request_id=f"r{n}", k=3)
            memory.events.user(f"u{n % 7}", preferences=[f"p{n}"], blocked_items=["i1"])
        if n % 13 == 0:
            memory.events.raw("clicks", f"u{n % 7}", b"{")
        if n % 10 == 0:
            await worker.deliver()
            for slate in memory.events.recommendations()[-2:]:
                memory.events.click(slate.user_id, slate.slate[0].item_id, "like")
    await worker.deliver()


@pytest.mark.parametrize("policy", ["greedy", "thompson-disjoint", "thompson-logistic"])
async def test_a_worker_that_folds_on_equals_its_logs_in_every_kind(
    make_memory: MakeMemory, policy: str
) -> None:
    memory = make_memory(policy=policy)
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 150)
        for partition in range(2):
            result = await live(memory, worker, partition)
            assert result.differences == []
            assert result.left_out == {}
            assert result.through == memory.log.end_offset("clicks", partition) - 1
            assert min(result.rows["users"], result.rows["items"], result.rows["slates"]) > 0
            assert result.rows["policy"] > 0
    async with memory.worker() as again:  # what is not flushed is folded again
        await again.deliver()
        assert [(await live(memory, again, p)).differences for p in range(2)] == [[], []]


async def test_what_has_been_read_of_slates_is_not_read_again_for_each_bucket(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        MemoryLog,
        "read",
        lambda log, topic, *at, f=MemoryLog.read, **of: read.append(topic) or f(log, topic, *at, **of),
    )
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 150)
        read.clear()
        assert (await live(memory, worker, 0, buckets=16)).rows["slates"] > 0
        few = read.count("recommendations")
        assert (await live(memory, worker, 0, buckets=512)).differences == []
        assert read.count("recommendations") == 2 * few


async def test_two_workers_are_compared_each_for_what_it_owns(memory: Memory) -> None:
    async with memory.worker() as one, memory.worker() as other:
        await one.assign([0])
        await other.assign([1])
        await traffic(memory, one, 0, 60)
        await other.deliver()
        assert (await live(memory, one, 0)).differences == []
        assert (await live(memory, other, 1)).differences == []


async def test_a_row_that_was_tampered_with_is_named_with_what_it_should_be(memory: Memory) -> None:
    partition = partition_of("u1", 2)
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        await worker.flush()
        worker.commit()
        of = counting(worker)
    records = {record.key: record for record in memory.log.records("user-state", partition)}
    key = chunk_key("u1", 0)
    row = changelog.decode(UserChunk, "user-state", key, records[key].value)
    times = bytearray(row.times)
    times[0] ^= 1
    changed = msgspec.structs.replace(row, times=bytes(times))
    memory.log.append("user-state", partition, [(key, changelog.encode(changed))])

    stored = await verifier(memory).stored(partition, of)
    async with memory.worker() as worker:
        restored = await live(memory, worker, partition)
    for result in (stored, restored):
        (found,) = result.differences
        assert (found.kind, found.name) == ("user", "u1")
        assert found.field.endswith("timestamp_ms")
        assert found.expected == found.found ^ 1
        assert found.offset > 0


async def test_a_trimmed_log_is_compared_from_the_changelogs_only(memory: Memory) -> None:
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        await worker.flush()
        worker.commit()
        await traffic(memory, worker, 60, 90)
        for partition in range(2):
            memory.log.expire("clicks", partition, 5)
            result = await live(memory, worker, partition)
            assert result.left_out.keys() == set(COMPARED)
            assert "begins at offset 5" in result.left_out["users"]
            assert result.rows == {}
            from_rows = await live(memory, worker, partition, from_changelog=True)
            assert (from_rows.differences, from_rows.left_out) == ([], {})


async def test_slates_alone_are_left_out_where_only_they_are_trimmed(memory: Memory) -> None:
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        for partition in range(2):
            memory.log.expire("recommendations", partition, 1)
            result = await live(memory, worker, partition)
            assert result.left_out.keys() == {"slates", "policy"}
            assert result.differences == []


async def test_a_user_who_was_erased_between_clicks_is_no_difference(memory: Memory) -> None:
    partition = partition_of("u1", 2)
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        memory.events.erase("u1")
        await worker.deliver("users")
        assert (await live(memory, worker, partition)).differences == []
        await traffic(memory, worker, 60, 90)
        memory.events.erase("u3")
        await worker.deliver()
        assert (await live(memory, worker, partition)).differences == []
        await worker.flush()
        worker.commit()
        of = counting(worker)
    assert (await verifier(memory).stored(partition, of)).differences == []


async def test_what_is_stored_is_compared_as_of_an_offset_that_its_rows_have_not_passed(
    memory: Memory,
) -> None:
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        await worker.flush()
        worker.commit()
        of, flushed = counting(worker), memory.log.end_offset("clicks", 0)
        for n in range(20):
            memory.events.click(f"u{n}", "i1")
    result = await verifier(memory, at=flushed + 2).stored(0, of)
    assert (result.differences, result.through) == ([], flushed + 1)
    early = await verifier(memory, at=flushed - 5).stored(0, of)
    assert f"--at must be {flushed}" in early.left_out["users"]


async def test_clicks_that_a_worker_lacks_are_named(memory: Memory) -> None:
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        partition = partition_of("u2", 2)
        shard = await worker.parts.partitions.shard(partition)
        shard.profiles.drop(shard.profiles.rows_of(["u2"]))
        result = await live(memory, worker, partition)
    assert {(one.kind, one.name, one.found) for one in result.differences} == {("user", "u2", None)}


async def test_a_worker_that_stands_before_what_its_rows_have_seen_is_waited_for(memory: Memory) -> None:
    partition = partition_of("u1", 2)
    async with memory.worker() as worker:
        memory.events.click("u1", "i1")
        memory.events.user("u1", preferences=["p1"])
        await worker.deliver()
        await worker.flush()  # and it ends before it commits
    async with memory.worker() as again:
        await again.deliver("clicks")
        ask, asks = asked(again, partition), 0

        async def for_users(kind, bucket, tell_rows):
            nonlocal asks
            asks += kind == "users"
            if asks > 4:
                await again.deliver("users")
            return await ask(kind, bucket, tell_rows)

        result = await verifier(memory, kinds=("users",), buckets=1).live(partition, for_users)
    assert result.differences == []
    assert result.rows["users"] > 0
