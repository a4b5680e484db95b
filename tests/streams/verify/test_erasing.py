"""An erased user's share leaves what users share, and a fold of the logs says so, too."""

import numpy as np
import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from streams.kafka.partitioner import partition_of
from streams.state.item_index import ItemIndex
from streams.state.rows import erased_key
from streams.state.shard import Shard
from streams.testing.log import MemoryLog
from streams.testing.worker import MemoryWorker
from streams.verify.offline import Counting, Offline
from tests.streams.conftest import MakeMemory, Memory
from tests.streams.verify.test_verify import counting, live, traffic, verifier

USER, PLACE = "u1", partition_of("u1", 2)
HOUR = 3_600_000


async def shard_of(worker: MemoryWorker):
    return await worker.parts.partitions.shard(PLACE)


def without(memory: Memory, user_id: str) -> MemoryLog:
    """The log with none of a user's records; the others keep their offsets."""
    log = MemoryLog.of(memory.settings, memory.clock)
    for name in ("clicks", "recommendations"):
        for record in memory.log.records(name, PLACE):
            while log.end_offset(name, PLACE) < record.offset:  # where a transaction ended
                log.append(name, PLACE, [(b"", b"")])
            value = b"" if record.key == user_id.encode() else record.value
            log.append(name, PLACE, [(record.key, value)])
    return log


async def clean_fold(memory: Memory, of: Counting) -> Offline:
    offline = Offline(memory.settings, without(memory, USER), PLACE, of, tell=lambda n: None)
    ends = {name: memory.log.end_offset(name, PLACE) - 1 for name in ("clicks", "recommendations")}
    await offline.fold(clicks=ends["clicks"], recommendations=ends["recommendations"], users=0)
    return offline


def items_of(shard: Shard, index: ItemIndex) -> dict[int, tuple[int, dict[int, int], np.ndarray]]:
    """By key: popularity, what it was met with and how often, and rates; of items that count anything."""
    covisits, found = shard.covisits, {}
    for row in range(covisits.n_items):
        _, others, counts = covisits.neighbours_of(np.array([row], np.int32))
        met = dict(zip(index.keys[others].tolist(), counts.tolist(), strict=True))
        if met or covisits.popularity[row]:
            found[int(index.keys[row])] = int(covisits.popularity[row]), met, covisits.tables.rates[row]
    return found


async def lived(memory: Memory, worker: MemoryWorker, begin: int, end: int) -> None:
    """Traffic, with all slates closed for good that were made before its last third."""
    for part in (begin, (2 * begin + end) // 3):
        await traffic(memory, worker, part, part + (end - begin) // (3 if part == begin else 1))
        memory.clock.move(48 * HOUR)
    await traffic(memory, worker, (begin + 2 * end) // 3, end)
    await worker.flush()
    worker.commit()


@pytest.mark.parametrize(
    "overrides",
    [
        {"policy": "thompson-disjoint"},
        {"policy": "thompson", "click_model": "cascade", "learn_from": "reward"},
        {"policy": "thompson-logistic"},
    ],
    ids=lambda overrides: "-".join(map(str, overrides.values())),
)
async def test_a_worker_equals_its_logs_whenever_one_looks(make_memory: MakeMemory, overrides) -> None:
    memory = make_memory(**overrides, erase_share_hours=20.0)
    async with memory.worker() as worker:
        await lived(memory, worker, 0, 60)
        memory.events.erase(USER)
        await worker.deliver("users")
        assert (await live(memory, worker, PLACE)).differences == []
        await lived(memory, worker, 60, 90)
        memory.events.erase(USER)  # who had come back
        memory.events.erase("u3")
        await worker.deliver()
        assert (await live(memory, worker, PLACE)).differences == []
        shard = await shard_of(worker)
        assert len(shard.profiles.erasures.marks[erased_key(USER)].lives) == 2
    async with memory.worker() as again:
        await again.deliver()
        assert (await live(memory, again, PLACE)).differences == []
        memory.clock.move(11 * HOUR)
        await again.parts.erased_shares.sweep()
        shard = await shard_of(again)
        assert not shard.profiles.erasures.unsettled
        assert (await live(memory, again, PLACE)).differences == []
        await traffic(memory, again, 90, 120)
        assert (await live(memory, again, PLACE)).differences == []
        assert (await live(memory, again, PLACE, from_changelog=True)).differences == []
        await again.flush()
        again.commit()
        of = counting(again)
    assert (await verifier(memory).stored(PLACE, of)).differences == []


@pytest.mark.parametrize("backwards", [False, True])
async def test_several_erased_after_one_click_leave_in_the_order_of_their_records(
    make_memory: MakeMemory, backwards: bool, caplog: pytest.LogCaptureFixture
):
    memory = make_memory()
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        users = [f"u{n}" for n in range(12)]
        for user_id in sorted(users, key=erased_key, reverse=backwards):
            memory.events.erase(user_id)
        await worker.deliver("users")
        shard = await shard_of(worker)
        marks = shard.profiles.erasures.marks.values()
        assert len(marks) > 2
        assert len({mark.clicks_offset for mark in marks}) == 1
        assert shard.statistics.serving.impressions == 0
        assert "stays" not in caplog.text
        assert (await live(memory, worker, PLACE)).differences == []


@pytest.mark.parametrize(
    "overrides",
    [
        {"policy": "thompson-disjoint"},
        {"policy": "thompson", "click_model": "cascade", "learn_from": "reward"},
        {"policy": "thompson", "reward_half_life_ms": HOUR, "position_bias": 0.5},
    ],
    ids=lambda overrides: "-".join(map(str, overrides.values())),
)
async def test_what_is_left_is_what_the_others_did(make_memory: MakeMemory, overrides) -> None:
    memory = make_memory(**overrides)
    async with memory.worker() as worker:
        await lived(memory, worker, 0, 90)
        memory.events.erase(USER)
        await worker.deliver()
        memory.clock.move(13 * HOUR)
        await worker.parts.erased_shares.sweep()
        await traffic(memory, worker, 91, 92)
        shard, clean = await shard_of(worker), await clean_fold(memory, counting(worker))
        found, expected = (
            items_of(shard, worker.parts.shared.index),
            items_of(clean.shard, clean.index),
        )
        clean.close()
        assert expected.keys() == found.keys()
        assert len(expected) > 5
        for key, (likes, met, rates) in expected.items():
            assert found[key][:2] == (likes, met)
            np.testing.assert_allclose(found[key][2], rates, rtol=1e-5, atol=1e-6)
        there, wanted = shard.statistics.serving, clean.shard.statistics.serving
        assert (there.impressions, there.rewards) == (wanted.impressions, wanted.rewards)
        assert wanted.rewards > 3
        assert there.parts.tolist() == wanted.parts.tolist()
        for one, other in ((there.gram, wanted.gram), (there.moment, wanted.moment)):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(other).max())


async def test_a_worker_that_may_not_read_feedback_says_so_and_tries_again(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise TopicAuthorizationFailedError("feedback")

    memory = make_memory(policy="thompson")
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 30)
        memory.events.erase(USER)
        await worker.deliver("users")
        shard, shares = await shard_of(worker), worker.parts.erased_shares
        await shares.sweep()
        assert shard.profiles.erasures.unsettled  # it has not waited for half of its time
        memory.clock.move(13 * HOUR)
        with monkeypatch.context() as without_right:
            without_right.setattr(MemoryLog, "read", refused)
            await shares.sweep()
        assert "feedback cannot be read" in caplog.text
        await shares.sweep()
        assert shard.profiles.erasures.unsettled
        memory.clock.move(60_000)
        await shares.sweep()
        assert not shard.profiles.erasures.unsettled
