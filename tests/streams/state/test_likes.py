"""What users liked last: a table of it, what events say, and what it comes to for a user of friends."""

import numpy as np
import pytest

from streams.state.item_index import ItemIndex, key_of
from streams.state.likes import MOST_LIKES, Likes, liked_by, user_keys
from streams.state.own_likes import follow_likes, stances
from streams.state.profiles import Profiles

WEIGHTS = {"view": 0.1, "like": 1.0, "share": 3.0, "hide": -2.0}
POSITIVE = ("like", "share")


def rows(*likes: tuple[list[int], list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Items and times as `Likes.put` takes them."""
    items, times = np.zeros((len(likes), MOST_LIKES), np.uint64), np.zeros((len(likes), MOST_LIKES), np.int64)
    for row, (its_items, its_times) in enumerate(likes):
        items[row, : len(its_items)], times[row, : len(its_times)] = its_items, its_times
    return items, times


class World:
    """Users of one partition whose events are folded one by one."""

    def __init__(self, history_limit: int = 64) -> None:
        self.index = ItemIndex()
        self.profiles = Profiles(0, history_limit=history_limit, actions=tuple(WEIGHTS), positive=POSITIVE)
        self.profiles.stances = stances(WEIGHTS, POSITIVE)
        self.offset = 0

    def event(self, user: str, item: str, action: str, time_ms: int = 0) -> None:
        self.profiles.append(
            self.profiles.rows_of([user]), self.index.rows_of([item]),
            np.array([list(WEIGHTS).index(action)], np.uint8),
            np.array([time_ms or 1000 + self.offset], np.int64), np.array([self.offset], np.uint64),
            np.array([self.offset], np.int64), window=2,
        )  # fmt: skip
        self.offset += 1

    def likes(self, user: str) -> list[str]:
        """Ids of the items that a user liked last, the newest first."""
        follow_likes(self.profiles, self.index, self.profiles.rows_of([user]))
        _, items, times = self.profiles.likes.of(user_keys([user]))
        names = {key_of(one): one for one in self.index.ids}
        return [names[key] for key, ms in zip(items.ravel().tolist(), times.ravel(), strict=True) if ms]


def test_the_last_likes_are_kept_an_item_once_and_what_is_hidden_since_is_none() -> None:
    world = World()
    for item, action in [("a", "like"), ("b", "share"), ("c", "view"), ("a", "like"), ("d", "like")]:
        world.event("u", item, action)
    assert world.likes("u") == ["d", "a", "b"]
    world.event("u", "a", "hide")
    assert world.likes("u") == ["d", "b"]
    world.event("u", "a", "like")
    assert world.likes("u") == ["a", "d", "b"]


@pytest.mark.parametrize("events", [3, 15, 16, 17, 40, 200])
def test_they_are_the_last_of_a_ring_however_full(events: int) -> None:
    world = World()
    for n in range(events):
        world.event("u", f"i{n}", "like")
    assert world.likes("u") == [f"i{n}" for n in range(events - 1, -1, -1)][:MOST_LIKES]


def test_clicks_in_quarantine_are_no_likes_and_while_it_lasts_there_are_none() -> None:
    world, held = World(), None
    world.event("u", "before", "like")
    world.event("v", "other", "like")
    held = world.profiles.quarantine
    held.hold("u", world.profiles.row_of("u"), world.offset, now_ms=1, why="test")
    world.event("u", "fake", "like")
    assert world.likes("u") == []
    assert world.likes("v") == ["other"]
    assert held.take_turned().tolist() == [world.profiles.row_of("u")]
    assert held.take_turned().tolist() == []
    held.release("u", world.offset)
    world.event("u", "after", "like")
    assert world.likes("u") == ["after", "before"]


def test_who_is_forgotten_likes_nothing_and_another_takes_the_room() -> None:
    world = World()
    world.event("u", "a", "like")
    assert world.likes("u") == ["a"]
    world.profiles.likes.dirty.clear()
    world.profiles.erase("u")
    assert world.profiles.likes.dirty == set(user_keys(["u"]).tolist())
    assert len(world.profiles.likes) == 0
    world.event("w", "b", "like")
    assert world.likes("w") == ["b"]
    assert not world.profiles.likes.of(user_keys(["u"]))[0].any()


def test_where_likes_are_not_kept_nothing_is() -> None:
    world = World()
    world.profiles.stances = None
    world.event("u", "a", "like")
    assert world.likes("u") == []
    world.profiles.erase("u")
    assert not world.profiles.likes.dirty


def test_only_what_has_changed_is_told() -> None:
    likes, keys = Likes(), np.array([1, 2, 3], np.uint64)
    first = rows(([7], [10]), ([8], [11]), ([], []))
    assert likes.put(keys, *first) == [1, 2]
    assert likes.put(keys, *first) == []
    assert likes.put(keys, *rows(([7], [10]), ([8], [12]), ([9], [13]))) == [2, 3]
    assert likes.forget(np.array([2, 99], np.uint64)) == [2]
    assert likes.keys == [1, 3]


def test_a_table_that_grows_and_shrinks_is_what_a_dictionary_is() -> None:
    rng, likes, expected = np.random.default_rng(0), Likes(), {}
    for _ in range(60):
        keys = np.unique(rng.integers(1, 900, 40)).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        sizes = rng.integers(0, 3, len(keys)).tolist()
        told = rows(*(([k + 1] * n, [5 + k] * n) for k, n in enumerate(sizes)))
        changed = likes.put(keys, *told)
        for key, size, its_items, its_times in zip(keys.tolist(), sizes, *told, strict=True):
            before = expected.pop(key, None)
            if size:
                expected[key] = its_items.tolist(), its_times.tolist()
            assert (key in changed) == (before != expected.get(key))
    assert sorted(likes.keys) == sorted(expected)
    asked = np.array(sorted(expected), np.uint64)
    there, items, times = likes.of(asked)
    assert there.all()
    assert [*zip(items.tolist(), times.tolist(), strict=True)] == [expected[key] for key in asked.tolist()]
    assert likes.nbytes / len(likes) < 400


def test_friends_of_all_partitions_are_counted_an_item_each_once_and_late_likes_only() -> None:
    parts = Likes(), Likes()
    parts[0].put(np.array([1, 2], np.uint64), *rows(([7, 8], [50, 9]), ([7], [40])))
    parts[1].put(np.array([3, 4], np.uint64), *rows(([8, 7], [60, 30]), ([7], [70])))
    keys, counts, last_ms = liked_by(parts, np.array([1, 2, 3, 5], np.uint64), 10)
    assert (keys.tolist(), counts.tolist(), last_ms.tolist()) == ([7, 8], [3, 1], [50, 60])
    assert not len(liked_by(parts, np.zeros(0, np.uint64), 10)[0])
    assert not len(liked_by(parts, np.array([1], np.uint64), 51)[0])
    assert liked_by(parts, np.array([1], np.uint64), -5)[0].tolist() == [7, 8]
