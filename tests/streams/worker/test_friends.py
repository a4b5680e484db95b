"""What friends liked is served, whichever worker has them, and nothing of it beyond its time."""

from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest

from streams.events import MAX_FRIENDS, UserUpdate, encode
from streams.kafka.partitioner import partition_of
from streams.state import rows as changelog
from streams.state.likes import user_keys
from streams.state.rows import LIKES_PREFIX, Liked, likes_key
from streams.testing.source import Aborted
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory, Memory

ON = {"friends_boost": 1.0, "actions": {"view": 0.1, "like": 1.0, "hide": -2.0}}
DAY_MS = 86_400_000


def user_of(partition: int, name: str) -> str:
    """A user of a partition."""
    return next(one for n in range(99) if partition_of(one := f"{name}-{n}", 2) == partition)


ASKS, NEAR, FAR, CROWD = user_of(0, "asks"), user_of(0, "near"), user_of(1, "far"), user_of(1, "crowd")
REASON = "liked by 2 of your friends"


def told(memory: Memory) -> None:
    """A catalogue of which a crowd likes all but the last item, which two friends of a user like."""
    for n in range(6):
        memory.events.content(f"i{n}")
    memory.events.user(ASKS, friends=[NEAR, FAR, "nobody", ASKS])
    for k in range(5):
        for n in range(5):
            memory.events.click(f"{CROWD}{k}", f"i{n}", "like")
    for friend in (NEAR, FAR):
        memory.events.click(friend, "i5", "like")


async def first(memory: Memory, worker: MemoryWorker, user: str = ASKS, k: int = 1) -> tuple[str, list[str]]:
    """The first item of a slate for a user, and why."""
    memory.events.request(user, k=k)
    await worker.deliver("requests")
    top = memory.events.recommendations()[-1].slate[0]
    return top.item_id, top.reasons


async def saved(*workers: MemoryWorker) -> None:
    for worker in workers:
        await worker.deliver()
        await worker.flush()
        worker.commit()
    for worker in workers:
        await worker.settle()


def stored(memory: Memory, partition: int | None = None) -> dict[tuple[int, bytes], bytes]:
    """Rows of likes as the changelog has them in the end."""
    held = {
        (row.partition, row.key): row.value
        for row in memory.log.records("policy-state", partition)
        if row.key.startswith(LIKES_PREFIX)
    }
    return {key: value for key, value in held.items() if value is not None}


def key_of(user: str) -> bytes:
    (key,) = user_keys([user]).tolist()
    return likes_key(partition_of(user, 2), key)


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_two_friends_like_comes_first_wherever_they_are(
    make_memory: MakeMemory, workers: int
) -> None:
    memory = make_memory(**ON, friends_days=36_500)  # an explanation is of today
    told(memory)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(memory.worker())
        if workers == 2:
            other = await stack.enter_async_context(memory.worker())
            await one.assign([0])
            await other.assign([1])
            await saved(one, other)
        await saved(one)
        assert await first(memory, one) == ("i5", [REASON])
        assert (await first(memory, one, NEAR))[0] != "i5"  # who names nobody sees nobody's likes
        said = [record.value for record in memory.log.records("recommendations")]
        assert not any(name.encode() in value for name in (FAR, CROWD) for value in said)
        explained = await one.parts.lanes.serving.explainer.explain(ASKS, "i5", 0)
        assert REASON in explained.reasons
        user = one.parts.inspector.user(ASKS, await one.parts.partitions.shard(0))
        assert user is not None
        assert user.friends == 3


async def test_without_the_setting_no_likes_are_written_and_slates_are_as_before(memory: Memory) -> None:
    told(memory)
    async with memory.worker() as worker:
        await saved(worker)
        assert stored(memory) == {}
        assert (await first(memory, worker))[0] != "i5"


async def test_a_user_sees_nothing_of_a_friend_alone_unless_one_is_enough(make_memory: MakeMemory) -> None:
    for least, top in ((2, False), (1, True)):
        memory = make_memory(**ON, friends_at_least=least)
        told(memory)
        memory.events.user(ASKS, friends=[FAR])
        async with memory.worker() as worker:
            await saved(worker)
            item, reasons = await first(memory, worker)
            assert (item == "i5") is top
            assert ("liked by 1 of your friends" in reasons) is top


@pytest.mark.parametrize("batches", range(6))
async def test_a_friends_like_counts_once_whenever_the_friends_worker_dies(
    make_memory: MakeMemory, batches: int
) -> None:
    memory = make_memory(**ON)
    told(memory)
    memory.events.click(FAR, "i5", "like")  # again: it is one friend all the same
    async with memory.worker() as one, memory.worker() as other:
        await one.assign([0])
        await other.assign([1])
        await saved(one)
        await other.deliver()
        memory.log.die_after(batches)
        try:
            await other.flush()
            if batches % 2:
                raise Aborted  # after the rows and before the offsets
            other.commit()
        except Aborted:
            pass
        memory.log.revive()
    async with memory.worker() as one, memory.worker() as again:
        await one.assign([0])
        await again.assign([1])
        await saved(one, again)
        assert await first(memory, one) == ("i5", [REASON])
        assert len(stored(memory)) == 7


async def test_an_erased_friend_is_gone_from_slates_and_from_the_changelog(make_memory: MakeMemory) -> None:
    memory = make_memory(**ON)
    told(memory)
    async with memory.worker() as one, memory.worker() as other:
        await one.assign([0])
        await other.assign([1])
        await saved(one, other)
        assert (1, key_of(FAR)) in stored(memory)
        memory.events.erase(FAR)
        await other.deliver("users")
        await one.settle()
        assert (await first(memory, one))[0] != "i5"
        assert (1, key_of(FAR)) not in stored(memory)
        other.commit()
    async with memory.worker() as again:
        await saved(again)
        assert (await first(memory, again))[0] != "i5"
    for topic in ("user-state", "policy-state"):
        memory.log.compact(topic, tombstones=True)
        assert not any(FAR.encode() in row.key + row.value for row in memory.log.records(topic))


@pytest.mark.parametrize("restarted", [False, True])
async def test_who_is_in_quarantine_reaches_no_friend_and_what_was_done_in_it_never_does(
    make_memory: MakeMemory, restarted: bool
) -> None:
    memory = make_memory(**ON)
    told(memory)
    memory.events.content("fake")
    async with memory.worker() as one, memory.worker() as other:
        await one.assign([0])
        await other.assign([1])
        await saved(one, other)
        shard = await other.parts.partitions.shard(1)
        await other.parts.quarantines.hold(shard, FAR, why="test")
        await one.settle()
        assert (await first(memory, one))[0] != "i5"
        memory.events.click(FAR, "fake", "like")
        memory.events.click(NEAR, "fake", "like")
        await saved(one, other)
        await other.parts.quarantines.release(shard, FAR)
        await saved(one, other)
        if not restarted:
            assert await first(memory, one) == ("i5", [REASON])
    async with memory.worker() as one:
        await saved(one)
        memory.events.request(ASKS, k=6)
        await one.deliver()
        slate = memory.events.recommendations()[-1].slate
        assert {item.item_id for item in slate if REASON in item.reasons} == {"i5"}


async def test_an_item_that_a_friend_hides_is_not_liked_any_more_nor_is_one_of_long_ago(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(**ON, user_ttl_days=None)
    told(memory)
    async with memory.worker() as worker:
        await saved(worker)
        memory.clock.move(8 * DAY_MS)
        assert (await first(memory, worker))[0] != "i5"
        for friend in (NEAR, FAR):
            memory.events.click(friend, "i4", "like")
        await saved(worker)
        assert await first(memory, worker) == ("i4", [REASON])
        memory.events.click(FAR, "i4", "hide")
        await saved(worker)
        assert REASON not in (await first(memory, worker))[1]


async def test_likes_are_known_once_the_setting_is_on_and_gone_once_it_is_off(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory()
    told(memory)

    def turned(**settings: Any) -> Memory:
        return Memory(memory.settings.model_copy(update=settings), memory.clock, memory.log, memory.events)

    async with memory.worker() as worker:
        await saved(worker)
    async with turned(friends_boost=1.0).worker() as worker:
        await saved(worker)
        assert await first(memory, worker) == ("i5", [REASON])
        assert len(stored(memory)) == 7
    async with turned(friends_boost=1.0).worker() as worker:  # nothing has changed: nothing is written
        before = len(memory.log.records("policy-state"))
        likes = [shard.profiles.likes.dirty for shard in worker.parts.partitions.live()]
        assert likes == [set(), set()]
        assert await first(memory, worker) == ("i5", [REASON])
        assert len(memory.log.records("policy-state")) == before
    async with memory.worker() as worker:
        await saved(worker)
        assert stored(memory) == {}


async def test_who_is_forgotten_for_being_idle_has_no_likes(make_memory: MakeMemory) -> None:
    memory = make_memory(**ON, user_ttl_days=30)
    told(memory)
    async with memory.worker() as worker:
        await saved(worker)
        memory.clock.move(31 * DAY_MS)
        memory.events.click(CROWD, "i0", "like")
        await saved(worker)
        await worker.parts.idle_users.sweep()
        await saved(worker)
        assert [key for key in stored(memory) if key[0] == 1] == [(1, key_of(CROWD))]


async def test_a_partition_that_comes_back_says_what_its_log_says(make_memory: MakeMemory) -> None:
    memory = make_memory(**ON)
    told(memory)
    async with memory.worker() as one, memory.worker() as other:
        await other.assign([])
        await one.deliver()  # and no flush: what is read will be read again by another
        await one.assign([0])
        await other.assign([1])
        memory.events.click(FAR, "i3", "like")
        await saved(one, other)
        await other.assign([])
        await one.assign([0, 1])
        await saved(one)
        shard = await one.parts.partitions.shard(1)
        assert one.parts.shared.likes[1] is shard.profiles.likes
        assert {key for place, key in stored(memory) if place == 1} == {
            likes_key(1, key) for key in shard.profiles.likes.keys
        }
        row = changelog.decode(Liked, "policy-state", b"", stored(memory)[1, key_of(FAR)])
        assert len(np.frombuffer(row.items, "<u8")) == 2


@pytest.mark.parametrize(
    ("friends", "error"),
    [
        (["f"] * (MAX_FRIENDS + 1), "length <= 1000"),
        ([f"f{n}" for n in range(10_000)], "length <= 1000"),
        ([1, 2], "Expected `str`"),
        ("f", "Expected `array`"),
        ([""], "length >= 1"),
    ],
)
async def test_odd_friends_are_a_dead_letter_and_what_was_said_before_stays(
    make_memory: MakeMemory, friends: Any, error: str
) -> None:
    memory = make_memory(**ON)
    told(memory)
    bad = encode({"user_id": ASKS, "friends": friends})
    memory.events.raw("users", ASKS, bad)
    async with memory.worker() as worker:
        await saved(worker)
        (letter,) = memory.events.dead_letters()
        assert letter.reason == "invalid"
        assert error in letter.error
        assert await first(memory, worker) == ("i5", [REASON])


async def test_as_many_friends_as_there_may_be_are_kept_and_an_empty_list_ends_it(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(**ON)
    told(memory)
    many = [f"f{n}" for n in range(MAX_FRIENDS - 2)]
    memory.events.raw("users", ASKS, encode(UserUpdate(user_id=ASKS, friends=[NEAR, FAR, *many])))
    async with memory.worker() as worker:
        await saved(worker)
        assert await first(memory, worker) == ("i5", [REASON])
        shard = await worker.parts.partitions.shard(0)
        assert len(shard.profiles.stated.of(shard.profiles.row_of(ASKS)).friends) == MAX_FRIENDS
    async with memory.worker() as again:
        assert await first(memory, again) == ("i5", [REASON])
        memory.events.user(ASKS)
        await again.deliver()
        assert (await first(memory, again))[0] != "i5"


async def test_rows_that_cannot_be_read_cost_no_neighbour(make_memory: MakeMemory) -> None:
    memory = make_memory(**ON)
    told(memory)
    async with memory.worker() as one, memory.worker() as other:
        await one.assign([0])
        await other.assign([1])
        await saved(one, other)
        good = stored(memory)[1, key_of(FAR)]
        bad = [
            (key_of("x"), b"\xff"), (LIKES_PREFIX + b"\0", good), (key_of("y"), b"\x93\x7f\xc4\0\xc4\0"),
            (key_of("z"), b"\x93\x01\xc4\x08" + b"1" * 8 + b"\xc4\0"),
        ]  # fmt: skip
        memory.log.append("policy-state", 1, bad)
        await one.settle()
        assert await first(memory, one) == ("i5", [REASON])
        text = one.parts.metrics.render()[0].decode()
        assert 'topic="policy-state"' in text
        assert 'outcome="unreadable"' in text
