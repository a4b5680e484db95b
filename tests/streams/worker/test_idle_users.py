"""Users who come no more, on a log in memory."""

from streams.kafka.partitioner import partition_of
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory, Memory

PLACE = partition_of("u", 2)
DAY_MS = 86_400_000
CROWD = [name for k in range(2_000) if partition_of(name := f"user-{k}", 2) == PLACE]


def reclaimed(worker: MemoryWorker, kind: str) -> float | None:
    return worker.parts.metrics.registry.get_sample_value("slatestream_reclaimed_total", {"kind": kind})


async def swept(memory: Memory, worker: MemoryWorker, *, after_ms: int = 3_600_000) -> None:
    memory.clock.move(after_ms)
    await worker.parts.idle_users.sweep()


async def saved(worker: MemoryWorker) -> str:
    await worker.flush()
    worker.commit()
    return worker.digest()


async def test_who_was_idle_too_long_is_forgotten_and_begins_anew(make_memory: MakeMemory) -> None:
    memory = make_memory(user_ttl_days=30)
    async with memory.worker() as worker:
        for _ in range(40):
            memory.events.click("u", "a")
        memory.events.user("u", preferences=["jazz"])
        await worker.deliver()
        await saved(worker)
        memory.clock.move(31 * DAY_MS)
        memory.events.click(CROWD[0], "b")
        await worker.deliver()
        await swept(memory, worker)

        profiles = (await worker.parts.partitions.shard(PLACE)).profiles
        assert profiles.row_of("u") == -1
        assert profiles.row_of(CROWD[0]) >= 0
        assert reclaimed(worker, "users") == 1
        memory.events.click("u", "b")
        await worker.deliver()
        row = profiles.row_of("u")
        assert profiles.events(row) == 1
        assert profiles.stated.of(row).preferences == []
        digest = await saved(worker)
    memory.log.compact("user-state")
    async with memory.worker() as again:
        assert again.digest() == digest
        profiles = (await again.parts.partitions.shard(PLACE)).profiles
        assert profiles.events(profiles.row_of("u")) == 1


async def test_what_a_user_states_counts_as_coming(make_memory: MakeMemory) -> None:
    memory = make_memory(user_ttl_days=30)
    async with memory.worker() as worker:
        memory.events.click("u", "a")
        memory.clock.move(20 * DAY_MS)
        memory.events.user("u", preferences=["jazz"])
        await worker.deliver()
        await saved(worker)
    async with memory.worker() as again:
        memory.clock.move(20 * DAY_MS)
        memory.events.click(CROWD[0], "a")
        await again.deliver()
        await swept(memory, again)
        assert (await again.parts.partitions.shard(PLACE)).profiles.row_of("u") >= 0


async def test_beyond_the_bound_the_longest_idle_go_and_memory_stays_as_it_is(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(max_users=64, user_ttl_days=None)
    async with memory.worker() as worker:
        profiles = (await worker.parts.partitions.shard(PLACE)).profiles
        sizes = []
        for begin in range(0, 900, 30):
            for name in CROWD[begin : begin + 30]:
                memory.events.click(name, "a")
                memory.clock.move(1_000)
            await worker.deliver("clicks")
            await swept(memory, worker)
            assert profiles.n_live <= 64
            sizes.append(profiles.nbytes)
        assert profiles.n_users < 130  # rows
        assert sizes[5] == sizes[-1]
        assert profiles.row_of(CROWD[899]) >= 0
        assert [profiles.ids.text(profiles.row_of(name)) for name in CROWD[890:900]] == CROWD[890:900]
        digest = await saved(worker)
    async with memory.worker() as again:
        assert again.digest() == digest


async def test_who_comes_while_being_forgotten_is_whole(make_memory: MakeMemory) -> None:
    memory = make_memory(max_users=8, history_limit=16)
    async with memory.worker() as worker:
        for name in [*CROWD[:9], "u"]:
            memory.events.click(name, "a")
            memory.clock.move(1_000)
        await worker.deliver("clicks")
        await saved(worker)
        await swept(memory, worker)  # its tombstones are not out yet
        for name in CROWD[:9]:
            memory.events.click(name, "b")
        await worker.deliver("clicks")
        digest = await saved(worker)
        profiles = (await worker.parts.partitions.shard(PLACE)).profiles
        assert profiles.events(profiles.row_of(CROWD[0])) == 1
        assert profiles.events(profiles.row_of(CROWD[8])) == 2
    async with memory.worker() as again:
        assert again.digest() == digest


async def test_who_has_an_open_slate_stays(make_memory: MakeMemory) -> None:
    memory = make_memory(max_users=2, user_ttl_days=None)
    memory.events.content("a")
    async with memory.worker() as worker:
        memory.events.click("u", "x")
        memory.events.request("u")
        await worker.deliver()
        for name in CROWD[:4]:
            memory.clock.move(1_000)
            memory.events.click(name, "a")
        await worker.deliver()
        await swept(memory, worker)
        profiles = (await worker.parts.partitions.shard(PLACE)).profiles
        assert profiles.row_of("u") >= 0
        assert profiles.row_of(CROWD[0]) == profiles.row_of(CROWD[1]) == -1


async def test_an_erasure_is_remembered_for_its_time_and_not_longer(make_memory: MakeMemory) -> None:
    memory = make_memory(erasure_ttl_days=10)
    async with memory.worker() as worker:
        memory.events.click("u", "a")
        await worker.deliver()
        memory.events.erase("u")
        await worker.deliver()
        shard = await worker.parts.partitions.shard(PLACE)
        await swept(memory, worker, after_ms=9 * DAY_MS)
        assert shard.profiles.erasures.through("u") == 0
        await saved(worker)
    async with memory.worker() as again:
        shard = await again.parts.partitions.shard(PLACE)
        assert shard.profiles.erasures.through("u") == 0
        await swept(memory, again, after_ms=2 * DAY_MS)
        assert shard.profiles.erasures.through("u") is None
        assert reclaimed(again, "erasures") == 1
        await saved(again)
    async with memory.worker() as last:
        assert not (await last.parts.partitions.shard(PLACE)).profiles.erasures.marks
