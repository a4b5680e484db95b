"""Topics that are deleted and made anew, get other partitions or lose their beginning; on a log in memory."""

import asyncio

import pytest

from model_core.signals.config import SignalConfig
from streams.durability.digest import fold
from streams.events import Request
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import TOPICS
from streams.state.log_bases import LogBases, logs_key
from streams.state.rings import N
from streams.state.rows import ACTIONS_KEY, SCHEMA_VERSION, Actions, decode, encode
from tests.streams.conftest import Memory

PLACE = partition_of("u", 2)


def fold_of(memory: Memory, *logs: dict[int, list]) -> str:
    """Digest of logs that follow each other, each behind the newest offset of the one before that counts."""
    settings = memory.settings
    joined: dict[int, list] = {p: [] for p in range(settings.partitions)}
    for log in logs:
        for partition, events in log.items():
            base = joined[partition][-1][0] + 1 if joined[partition] else 0
            joined[partition] += [(base + offset, click) for offset, click in events]
    return fold(
        joined,
        actions=tuple(settings.actions),
        positive=settings.positive_actions,
        history_limit=settings.history_limit,
        neighbours=settings.covisit_neighbours,
        pairing=SignalConfig().pairing,
    ).digest()


def clicks(memory: Memory, n: int, *, start: int = 0) -> None:
    for k in range(start, start + n):
        memory.events.click(f"u{k % 3}", f"i{k % 7}")


async def save(worker) -> None:
    await worker.flush()
    worker.commit()


async def fold_and_save(memory: Memory) -> None:
    """Let a worker read all that there is, save it and stop."""
    async with memory.worker() as worker:
        await worker.deliver()
        await save(worker)


async def ready(worker) -> None:
    async with asyncio.timeout(60):
        while not worker.parts.partitions.is_ready():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("again", [10, 60], ids=["fewer clicks than before", "more clicks than before"])
async def test_after_a_restart_a_new_log_is_folded_behind_the_old_one(memory: Memory, again: int) -> None:
    clicks(memory, 40)
    await fold_and_save(memory)
    old = memory.events.clicks()
    memory.log.recreate("clicks")
    clicks(memory, again, start=100)
    expected = fold_of(memory, old, memory.events.clicks())
    for _ in range(2):  # the second finds what the first has saved
        async with memory.worker() as worker:
            await worker.deliver()
            assert worker.digest() == expected
            await save(worker)


async def test_a_worker_that_dies_before_it_has_saved_anything_of_a_new_log_folds_it_again(
    memory: Memory,
) -> None:
    clicks(memory, 40)
    await fold_and_save(memory)
    old = memory.events.clicks()
    memory.log.recreate("clicks")
    clicks(memory, 30, start=100)
    async with memory.worker() as worker:
        await worker.deliver()  # and it is killed
    clicks(memory, 5, start=200)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()  # but the commit is lost
    async with memory.worker() as worker:
        await worker.deliver()
        assert worker.digest() == fold_of(memory, old, memory.events.clicks())


async def test_a_log_may_be_made_anew_again_and_again(memory: Memory) -> None:
    logs = []
    for n in range(4):
        clicks(memory, 10 + n, start=100 * n)
        logs.append(memory.events.clicks())
        async with memory.worker() as worker:
            await worker.deliver()
            await save(worker)
            assert worker.digest() == fold_of(memory, *logs)
        memory.log.recreate("clicks")


async def test_a_running_worker_writes_nothing_of_a_log_that_may_be_another(memory: Memory) -> None:
    clicks(memory, 40)
    async with memory.worker() as worker:
        await worker.deliver()
        await save(worker)
        await ready(worker)
        old = memory.events.clicks()
        memory.log.recreate("clicks")
        clicks(memory, 60, start=100)
        # Its positions are of the former log: it takes records of the new one from the middle.
        await worker.deliver()
        written = len(memory.log.records("user-state"))
        await save(worker)
        assert len(memory.log.records("user-state")) == written
        assert worker.parts.partitions.live() == []
        assert worker.consumer.rejoining
        assert not worker.parts.partitions.is_ready()
        await worker.assign(range(2))
        await worker.deliver()
        expected = fold_of(memory, old, memory.events.clicks())
        assert worker.digest() == expected
        await save(worker)
    async with memory.worker() as worker:
        await worker.deliver()
        assert worker.digest() == expected


async def test_what_users_state_on_a_new_topic_counts_and_what_they_stated_before_is_kept(
    memory: Memory,
) -> None:
    for n in range(5):
        memory.events.user("u", preferences=[f"old{n}"])
    memory.events.user("v", preferences=["jazz"])
    await fold_and_save(memory)
    memory.log.recreate("users")
    memory.events.user("u", preferences=["new"])
    async with memory.worker() as worker:
        await worker.deliver()
        found = {}
        for shard in worker.parts.partitions.live():
            for row, stated in shard.profiles.stated.items():
                found[shard.profiles.ids.text(row)] = stated.preferences
        assert found == {"u": ["new"], "v": ["jazz"]}


async def test_slates_of_new_recommendations_are_learned_from(memory: Memory) -> None:
    for n in range(5):
        memory.events.content(f"i{n}")
    async with memory.worker() as worker:
        for n in range(6):
            memory.events.request("u", request_id=f"old{n}")
        await worker.deliver()
        await save(worker)
        before = (await worker.parts.partitions.shard(PLACE)).statistics.serving.impressions
    memory.log.recreate("recommendations")
    async with memory.worker() as worker:
        memory.events.request("u", request_id="new")
        await worker.deliver()
        await save(worker)
        after = (await worker.parts.partitions.shard(PLACE)).statistics.serving.impressions
    assert 0 < before < after
    async with memory.worker() as worker:
        assert (await worker.parts.partitions.shard(PLACE)).statistics.serving.impressions == after


async def test_a_worker_says_once_by_which_settings_of_topics_records_may_be_lost(
    memory: Memory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.worker.log_watch.SETTINGS_EVERY_S", 0.0)
    async with memory.worker() as worker:
        told = worker.parts.ends.told
        for name in ("user-state", "clicks"):
            told[name] = TOPICS[name].config(memory.settings)
        await worker.parts.watch.look()
        assert "may be lost" not in caplog.text
        told["user-state"] |= {"cleanup.policy": "delete", "segment.ms": "1"}
        told["clicks"] |= {"retention.ms": "1000"}
        for _ in range(2):
            await worker.parts.watch.look()
    (said,) = [line for line in caplog.messages if "may be lost" in line]
    assert "user-state: cleanup.policy is delete, wanted compact" in said
    assert "clicks: retention.ms is 1000, wanted 7776000000" in said
    assert "segment.ms" not in said


async def test_added_partitions_make_a_worker_not_ready_and_it_says_what_is_wrong(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    async with memory.worker() as worker:
        await worker.assign([])
        await worker.parts.watch.look()
        assert worker.parts.partitions.readiness()["topics_as_wanted"] is True
        memory.log.add_partitions("clicks", 4)
        await worker.parts.watch.look()
        assert worker.parts.partitions.readiness()["topics_as_wanted"] is False
        assert not worker.parts.partitions.is_ready()
        assert worker.parts.watch.faults == ["clicks: partitions is 4, wanted 2"]
        assert "clicks: partitions is 4, wanted 2" in caplog.text


async def test_a_worker_that_another_draws_into_a_rebalance_restores_what_is_of_a_former_log(
    memory: Memory,
) -> None:
    clicks(memory, 40)
    async with memory.worker() as worker:
        await worker.deliver()
        await save(worker)
        old = memory.events.clicks()
        memory.log.recreate("clicks")
        clicks(memory, 12, start=100)
        await worker.assign(range(2))  # the other has noticed first, and joined again
        assert worker.parts.partitions.live() == []
        assert worker.consumer.rejoining
        await worker.assign(range(2))
        await worker.deliver()
        assert worker.digest() == fold_of(memory, old, memory.events.clicks())
        await worker.parts.watch.look()  # and once is enough
        assert len(worker.parts.partitions.live()) == 2


async def test_nothing_is_committed_of_a_new_log_by_a_shard_that_was_folded_from_the_former(
    memory: Memory,
) -> None:
    clicks(memory, 40)
    async with memory.worker() as worker:
        await worker.deliver()
        await save(worker)
        old = memory.events.clicks()
        memory.log.recreate("clicks")
        memory.log.committed.clear()  # brokers forget what was committed of a topic that is gone
        clicks(memory, 12, start=100)
        # Its consumer reads the new log from its beginning, where rows say that they have it already.
        worker.consumer.assign(worker.consumer.assignment())
        await worker.deliver()
        await save(worker)
        assert not any(topic == "clicks" for topic, _ in memory.log.committed)
    async with memory.worker() as worker:
        await worker.deliver()
        assert worker.digest() == fold_of(memory, old, memory.events.clicks())


def test_a_topic_that_was_gone_when_a_shard_was_restored_is_another_when_it_is_back() -> None:
    logs = LogBases()
    logs.meet({"clicks": "a"}, {"clicks": 3, "recommendations": 7})
    assert logs.others({"clicks": "a"}) == []
    assert logs.others({"clicks": "a", "recommendations": "b"}) == ["recommendations"]


async def test_of_flushes_side_by_side_none_writes_rows_of_a_former_log(memory: Memory) -> None:
    for n in range(60):
        memory.events.click(f"u{n % 20}", f"i{n % 7}")
    async with memory.worker() as worker:
        await worker.deliver()
        await save(worker)
        old = memory.events.clicks()
        memory.log.recreate("clicks")
        for n in range(200):
            memory.events.click(f"u{n % 20}", f"i{n % 7}")
        await worker.deliver()  # both partitions have something to write
        written = len(memory.log.records("user-state"))
        await save(worker)
        assert len(memory.log.records("user-state")) == written
        await worker.assign(range(2))
        await worker.deliver()
        assert worker.digest() == fold_of(memory, old, memory.events.clicks())


@pytest.mark.parametrize(
    ("name", "rejoins"),
    [
        ("requests", True),
        ("content", True),
        ("feedback", False),
        ("dead-letters", False),
        ("experiments", False),
    ],
)
async def test_topics_that_nothing_was_folded_from_leave_the_shards_as_they_are(
    memory: Memory, name: str, rejoins: bool
) -> None:
    clicks(memory, 40)
    async with memory.worker() as worker:
        await worker.deliver()
        await save(worker)
        await worker.parts.watch.look()
        memory.log.recreate(name)
        await worker.parts.watch.look()
        assert len(worker.parts.partitions.live()) == 2
        assert worker.consumer.rejoining is rejoins


@pytest.mark.parametrize("lost", ["policy-state", "user-state"])
async def test_either_changelog_may_be_made_anew_after_clicks_were(memory: Memory, lost: str) -> None:
    clicks(memory, 40)
    await fold_and_save(memory)
    old = memory.events.clicks()
    memory.log.recreate("clicks")
    clicks(memory, 12, start=100)
    await fold_and_save(memory)
    memory.log.recreate(lost)
    memory.log.committed.clear()  # the offsets were committed for what is no more
    clicks(memory, 9, start=200)
    for _ in range(2):
        async with memory.worker() as worker:
            await worker.deliver()
            shards = worker.parts.partitions.live()
            newest = max(shard.profiles.newest_offset for shard in shards)
            assert newest >= max(shard.logs.of("clicks") for shard in shards) > 0
            if lost == "policy-state":  # users' rows have both logs
                events = sum(int(shard.profiles.rings.users[:, N].sum()) for shard in shards)
                assert events == sum(map(len, old.values())) + 12 + 9
            await save(worker)


async def test_what_an_older_version_saved_of_logs_is_saved_in_both_changelogs(memory: Memory) -> None:
    clicks(memory, 40)
    await fold_and_save(memory)
    for partition in range(2):  # it says names of actions alone
        value = encode(Actions(SCHEMA_VERSION, list(memory.settings.actions)))
        memory.log.append("user-state", partition, [(ACTIONS_KEY, value)])
    memory.events.click("u0", "i1")
    memory.events.click("u1", "i1")
    await fold_and_save(memory)
    for partition in range(2):
        said = {r.key: r.value for r in memory.log.records("user-state", partition)}[ACTIONS_KEY]
        shared = {r.key: r.value for r in memory.log.records("policy-state", partition)}
        assert decode(Actions, "user-state", ACTIONS_KEY, said).logs == shared[logs_key(partition)]


async def test_a_slate_that_was_read_of_former_recommendations_stands_for_none_of_the_new(
    memory: Memory,
) -> None:
    for n in range(9):
        memory.events.content(f"i{n}")
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.request("u", request_id="old", k=2)
        await worker.deliver()
        await save(worker)
        server = worker.parts.server
        again = Request(request_id="old", user_id="u", timestamp_ms=0, k=2)
        shard = await worker.parts.partitions.shard(PLACE)
        assert (await server.answer(again, shard, received=0.0)).request_id == "old"
        memory.log.recreate("recommendations")
        await worker.parts.watch.look()
        await worker.assign(range(2))
        memory.events.request("u", request_id="new", k=2)  # it has the offset that the old one had
        await worker.deliver()
        shard = await worker.parts.partitions.shard(PLACE)
        asked = Request(request_id="new", user_id="u", timestamp_ms=0, k=2)
        found = await server.answer(asked, shard, received=0.0)
        assert found is not None
        assert found.request_id == "new"


async def test_a_worker_is_not_ready_before_its_consumer_knows_all_inputs(memory: Memory) -> None:
    async with memory.worker() as worker:
        await worker.assign([])  # a topic is gone, and nobody has partitions of it
        partitions = worker.parts.partitions
        async with asyncio.timeout(120):
            while not partitions.is_ready():
                await asyncio.sleep(0.001)
        worker.consumer.unheard_of.add("clicks")  # it is back, and brokers have not told yet
        assert not partitions.is_ready()
        assert not partitions.readiness()["topics_as_wanted"]
        worker.consumer.unheard_of.clear()
        assert partitions.is_ready()
