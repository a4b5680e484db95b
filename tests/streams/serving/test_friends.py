"""What friends liked lately among the candidates: how many must, which come first, and what it adds."""

import numpy as np
import pytest

from streams.serving.friends import MOST_ITEMS, Friends, friends_by_row
from streams.settings import load_settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex, key_of
from streams.state.likes import MOST_LIKES, Likes, user_keys
from streams.state.prerequisites import Prerequisites
from streams.state.shared import SharedState
from streams.state.stated import NOTHING_STATED, Stated

NOW = 1_700_000_000_000
DAY = 86_400_000


def shared(**likes: list[str]) -> SharedState:
    """Users, each with the items liked, the newest first, one a minute, on partitions in turn."""
    index = ItemIndex()
    parts = {0: Likes(), 1: Likes()}
    for n, (user, items) in enumerate(likes.items()):
        index.rows_of(items)
        keys, times = np.zeros((1, MOST_LIKES), np.uint64), np.zeros((1, MOST_LIKES), np.int64)
        keys[0, : len(items)] = [key_of(one) for one in items]
        times[0, : len(items)] = NOW - 60_000 * np.arange(1, len(items) + 1)
        parts[n % 2].put(user_keys([user]), keys, times)
    catalogue = Catalogue(index)
    nothing = Prerequisites(catalogue, index, None, np.zeros(0, np.bool_))
    return SharedState(index, catalogue, prerequisites=nothing, likes=parts)


def of_friends(*friends: str) -> Stated:
    return Stated(0, {}, [], np.zeros(0, np.int32), 0, user_keys(friends))


def found(state: SharedState, *friends: str, now_ms: int = NOW, **settings) -> dict[str, tuple[int, float]]:
    """By item: how many friends, and the boost."""
    told = Friends(load_settings(**settings), state).of([of_friends(*friends)], np.array([now_ms]))
    if told is None:
        return {}
    (one,) = told
    names = [state.index.ids[row] for row in one.rows.tolist()]
    return {
        name: (n, boost)
        for name, n, boost in zip(names, one.friends.tolist(), one.boosts.tolist(), strict=True)
    }


STATE = {"a": ["x", "y"], "b": ["y"], "c": ["z", "y"]}


def test_so_many_friends_must_have_liked_an_item_and_each_more_adds_half_of_what_is_left() -> None:
    told = found(shared(**STATE), "a", "b", "c", "stranger", friends_boost=0.8)
    assert told == {"y": (3, pytest.approx(0.7))}
    alone = found(shared(**STATE), "a", "b", "c", friends_boost=0.8, friends_at_least=1)
    assert list(alone) == ["y", *sorted("xz", key=key_of)]
    assert alone["x"] == (1, pytest.approx(0.4))
    assert found(shared(**STATE), "a", friends_boost=0.8) == {}  # of one friend alone it would tell


def test_without_the_setting_friends_say_nothing() -> None:
    assert found(shared(**STATE), "a", "b", "c") == {}


def test_likes_of_long_ago_say_nothing() -> None:
    settings = {"friends_boost": 1.0, "friends_at_least": 1, "friends_days": 2}
    assert found(shared(**STATE), "b", now_ms=NOW + DAY, **settings)
    assert not found(shared(**STATE), "b", now_ms=NOW + 2 * DAY, **settings)


def test_of_many_items_those_that_most_friends_liked_last_are_taken() -> None:
    likes = {f"u{n}": [f"i{n}-{k}" for k in range(MOST_LIKES)] for n in range(20)}
    likes |= {"v": ["i3-7"]}
    told = found(shared(**likes), *likes, friends_boost=1.0, friends_at_least=1)
    assert len(told) == MOST_ITEMS
    assert next(iter(told)) == "i3-7"
    assert {name[-2:] for name in list(told)[1:21]} == {"-0"}


def test_an_item_that_has_no_row_any_more_is_left_out() -> None:
    state = shared(**STATE)
    state.index.forget(state.index.known_rows(["y"]))
    assert found(state, "a", "b", "c", friends_boost=1.0) == {}


def test_requests_of_a_batch_do_not_mix() -> None:
    state = shared(**STATE)
    asked = [NOTHING_STATED, of_friends("a", "b"), of_friends("a", "nobody")]
    told = Friends(load_settings(friends_boost=1.0), state).of(asked, np.full(3, NOW))
    y = state.index.row_of("y")
    assert friends_by_row(told) == [{}, {y: 2}, {}]
    assert friends_by_row(None) is None
