"""Rows of likes: what is written is read, and after any deaths it is what the users' events say."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.signals.config import SignalConfig
from streams.durability.digest import fold
from streams.durability.likes_rows import read_likes, settle_likes, take_likes
from streams.kafka.columns import RecordColumns
from streams.state.likes import MOST_LIKES, Likes
from streams.state.own_likes import stances
from streams.state.profiles import Profiles
from streams.state.rows import LIKES_PREFIX
from tests.streams.conftest import Memory
from tests.streams.durability.test_restore import PHASES, Story, bursts, deeds, erased, gaps, stated


def held(likes: Likes) -> dict[int, tuple[Any, Any]]:
    keys = sorted(likes.keys)
    there, items, times = likes.of(np.array(keys, np.uint64))
    assert there.all()
    return dict(zip(keys, zip(items.tolist(), times.tolist(), strict=True), strict=True))


def records(rows: Any) -> RecordColumns:
    return RecordColumns.of_rows(list(rows))


def some() -> Likes:
    likes = Likes()
    items, times = np.zeros((2, MOST_LIKES), np.uint64), np.zeros((2, MOST_LIKES), np.int64)
    items[0], times[0] = np.arange(1, MOST_LIKES + 1) << 60, 1_700_000_000_000
    items[1, :2], times[1, :2] = [2**64 - 1, 7], [20, 10]
    likes.dirty.update(likes.put(np.array([3, 2**64 - 1], np.uint64), items, times))
    return likes


def test_what_is_written_is_read_and_who_likes_nothing_any_more_is_taken_back() -> None:
    likes, others = some(), Likes()
    first, second = (take_likes(likes, 1, most=1) for _ in range(2))
    assert not likes.dirty
    others.put(*read_likes(records([*first.rows, *second.rows])))
    assert held(others) == held(likes)
    second.put_back()
    assert len(likes.dirty) == 1
    likes.dirty.update(likes.forget(np.array([3], np.uint64)))
    others.put(*read_likes(records(take_likes(likes, 1, most=9).rows)))
    assert held(others) == held(likes)
    assert len(others) == 1


def test_of_several_rows_of_a_user_the_last_counts() -> None:
    likes, others = some(), Likes()
    rows = list(take_likes(likes, 0, most=9).rows)
    likes.dirty.update(likes.forget(np.array(likes.keys, np.uint64)))
    others.put(*read_likes(records([*rows, *take_likes(likes, 0, most=9).rows])))
    assert held(others) == {}


@pytest.mark.parametrize("cut", [slice(None, -1), slice(None, 3)])
def test_damaged_rows_are_refused(cut: slice) -> None:
    for key, value in take_likes(some(), 0, most=9).rows:
        for damaged in ((key, value[cut]), (key[:-1], value)):
            with pytest.raises(ValueError, match="policy-state row .* is damaged"):
                read_likes(records([damaged]))


def rows_of(memory: Memory, partition: int) -> dict[int, tuple[Any, Any]]:
    likes = Likes()
    found = [
        (row.key, row.value)
        for row in memory.log.records("policy-state", partition)
        if row.key.startswith(LIKES_PREFIX)
    ]
    if found:
        likes.put(*read_likes(records(found)))
    return held(likes)


def as_events_say(profiles: Profiles, index: Any, memory: Memory) -> dict[int, tuple[Any, Any]]:
    profiles.likes, profiles.stances = (
        Likes(),
        stances(memory.settings.actions, memory.settings.positive_actions),
    )
    settle_likes(profiles, index)
    return held(profiles.likes)


async def ended(memory: Memory, *, erases: bool) -> None:
    """Let a last worker come to the end of the logs, and compare what it has written with their fold."""
    config = memory.settings
    async with memory.worker() as worker:
        await worker.deliver("clicks", "users")
        await worker.flush()
        assert [shard.profiles.likes.dirty for shard in worker.parts.partitions.live()] == [set(), set()]
        for shard in worker.parts.partitions.live():
            written = rows_of(memory, shard.partition)
            assert written == held(shard.profiles.likes)
            if erases:
                assert written == as_events_say(shard.profiles, worker.parts.shared.index, memory)
    if not erases:
        state = fold(
            memory.events.clicks(),
            actions=tuple(config.actions),
            positive=config.positive_actions,
            history_limit=config.history_limit,
            neighbours=config.covisit_neighbours,
            pairing=SignalConfig().pairing,
        )
        for partition, profiles in state.profiles.items():
            assert rows_of(memory, partition) == as_events_say(profiles, state.index, memory)


@settings(max_examples=15, phases=PHASES, deadline=None)
@given(st.lists(st.one_of(bursts, bursts, stated, gaps, deeds), min_size=8, max_size=16))
def test_after_a_death_at_any_batch_the_rows_are_what_a_fold_of_the_log_says(
    script: list[tuple[Any, ...]],
) -> None:
    memory = Memory.of(batch_bytes=400, history_limit=32, friends_boost=1.0)

    async def told() -> None:
        await Story(memory).play(script)
        await ended(memory, erases=False)

    asyncio.run(told())


@settings(max_examples=15, phases=PHASES, deadline=None)
@given(st.lists(st.one_of(bursts, stated, erased, deeds), min_size=8, max_size=16))
def test_after_erasures_and_deaths_the_rows_are_those_of_the_users_there_are(
    script: list[tuple[Any, ...]],
) -> None:
    memory = Memory.of(batch_bytes=400, history_limit=32, friends_boost=1.0)

    async def told() -> None:
        await Story(memory).play(script)
        await ended(memory, erases=True)

    asyncio.run(told())
