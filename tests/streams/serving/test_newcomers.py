"""Which items are on trial: new ones that hardly anybody has responded to, and nobody else."""

from typing import Any

import numpy as np
import pytest

from model_core.data.batches import SparseRows
from streams.events import Request
from streams.serving import newcomers
from streams.serving.allowed_rows import Allowed
from streams.serving.newcomers import SUITABLE, Newcomers, Trials
from streams.settings import load_settings
from streams.state import trial_counts
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.trial_counts import TrialCounts
from streams.testing.clock import HandClock
from tests.streams.state.test_catalogue import NOW, described

N, DAY = 60, 86_400_000
LATE = range(50, 60)  # published yesterday; all others a month ago


class World:
    def __init__(self, **settings: Any) -> None:
        self.index = ItemIndex()
        self.items = Catalogue(self.index)
        times = [NOW - DAY if n in LATE else NOW - 30 * DAY for n in range(N)]
        self.items.apply([described(f"i{n}", published_ms=time) for n, time in enumerate(times)])
        self.clock = HandClock(NOW)
        self.counts = TrialCounts()
        self.newcomers = Newcomers(load_settings(**settings), self.index, self.items, self.counts, self.clock)
        self.likes = np.zeros(N, np.float32)
        self.eligible = np.ones(N, np.bool_)
        self.unseen: list[list[int]] = []
        self.limited: list[Any] = []

    def ask(self, n: int, *, first: int = 0, **fields: Any) -> Trials | None:
        told = {"timestamp_ms": NOW} | fields
        requests = [Request(request_id=f"r{b}", user_id="u", **told) for b in range(n)]
        none = SparseRows.none(n)
        unseen = SparseRows.of([np.array(rows, np.int64) for rows in self.unseen]) if self.unseen else none
        limited = self.limited or [None] * n
        allowed = Allowed(self.eligible, none, unseen, limited, [None] * n)
        return self.newcomers.of(requests, allowed, self.likes, np.arange(first, first + n, dtype=np.uint64))


def drawn(trials: Trials | None) -> np.ndarray:
    assert trials is not None
    return trials.drawn.rows


def test_a_share_of_positions_is_tried_one_to_a_slate_in_its_lower_half() -> None:
    n = 5_000
    for k, share in ((10, 0.02), (5, 0.1), (1, 0.3)):
        trials = World(trial_share=share).ask(n, k=k)
        assert trials is not None
        sizes = np.diff(trials.drawn.bounds)
        there = sizes > 0
        expected = share * k
        assert abs(there.mean() - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n)
        positions = trials.positions[there]
        assert np.unique(positions).tolist() == list(range(k // 2, k))
        sizes = sizes[there]
        assert set(sizes.tolist()) <= {1, *range(2, SUITABLE + 1)}
        assert abs((sizes == 1).mean() - 0.5) < 4.5 * np.sqrt(0.25 / there.sum())


def test_only_new_items_that_may_be_given_are_tried_and_each_of_them() -> None:
    world = World(trial_share=1.0)
    world.likes[LATE[0]] = 10  # enough is known of it
    world.likes[LATE[1]] = 9
    world.eligible[LATE[2]] = False
    found = drawn(world.ask(300))
    assert np.unique(found).tolist() == [LATE[1], *LATE[3:]]


def test_what_a_user_has_met_or_a_request_leaves_out_is_not_tried() -> None:
    world = World(trial_share=1.0)
    world.unseen = [[*LATE[1:]], [*LATE], []]
    world.limited = [None, None, np.array([3, LATE[4]], np.int32)]
    trials = world.ask(3)
    assert trials is not None
    assert [trials.drawn.of_request(b).tolist() for b in range(3)] == [[LATE[0]], [], [LATE[4]]]


def test_nothing_is_tried_where_nothing_is_new_or_it_is_not_wanted() -> None:
    assert World(trial_share=0.0).ask(50) is None
    assert World(trial_share=1.0, fresh_ms=DAY // 2).ask(50) is None
    old = World(trial_share=1.0)
    assert old.ask(50, timestamp_ms=NOW + 7 * DAY) is None


def test_a_request_of_another_time_is_given_what_is_new_then() -> None:
    world = World(trial_share=1.0)
    assert len(drawn(world.ask(5))) > 0
    # Before it was published, and after it ceased to be new, though it is among the new ones of now.
    for time_ms in (NOW - 2 * DAY, NOW + 8 * DAY):
        assert world.ask(5, timestamp_ms=time_ms) is None


def test_what_is_new_is_looked_up_again_after_a_second() -> None:
    world = World(trial_share=1.0)
    before = np.unique(drawn(world.ask(100)))
    world.likes[LATE[0]] = 10
    assert np.unique(drawn(world.ask(100))).tolist() == before.tolist()
    world.clock.move(1_001)
    assert np.unique(drawn(world.ask(100))).tolist() == before[1:].tolist()


def test_without_a_time_of_publication_an_item_is_new_since_it_was_first_described() -> None:
    index = ItemIndex()
    items = Catalogue(index)
    first = described("a")
    first.timestamp = NOW - 3 * DAY
    items.apply([first, described("b", published_ms=5)])
    again = described("a", offset=1)
    items.apply([again])
    rows = np.array([index.row_of("a"), index.row_of("b")])
    assert items.since_ms(rows).tolist() == [NOW - 3 * DAY, 5]
    gone = described("a", offset=2)
    items.apply([gone, described("c")])
    assert items.since_ms(rows[:1]).tolist() == [NOW - 3 * DAY]


def shows(world: World, item: str, shown: int, taken: int) -> None:
    """Let an item have been shown last in so many slates of two, and taken."""
    for n in range(shown):
        world.counts.show(["i0", item], item)
        if n < taken:
            world.counts.take(["i0", item], 1)


def test_what_was_shown_enough_is_shown_on_as_far_as_it_is_taken_more_often_than_others() -> None:
    world = World(trial_share=0.0001)
    for _ in range(1_000):
        world.counts.show(["i1", "i2"], None)
    for _ in range(100):
        world.counts.take(["i1", "i2"], 1)
    assert abs(world.counts.usual - 0.1) < 0.01
    good, usual, bad, untried = (f"i{n}" for n in LATE[:4])
    shows(world, good, 60, 30)
    shows(world, usual, 60, 6)
    shows(world, bad, 60, 0)
    trials = world.ask(400)
    assert trials is not None
    found = [set(trials.drawn.of_request(b).tolist()) for b in range(400)]
    share = {
        name: np.mean([world.index.row_of(name) in rows for rows in found]) for name in (good, usual, bad)
    }
    assert share[good] > 0.98
    assert 0.2 < share[usual] < 0.8
    assert share[bad] < 0.1
    assert sum(world.index.row_of(untried) in rows for rows in found) <= 3  # by the share alone
    # It ages, like anything new.
    world.clock.move(1_001)
    assert world.ask(50, timestamp_ms=NOW + 7 * DAY) is None


def test_what_was_hardly_shown_is_not_judged_yet() -> None:
    world = World(trial_share=1.0)
    shows(world, f"i{LATE[0]}", 7, 0)
    assert LATE[0] in drawn(world.ask(100))
    shows(world, f"i{LATE[0]}", 30, 0)
    world.clock.move(1_001)
    assert LATE[0] not in drawn(world.ask(100, k=1))  # where nothing competes


def test_the_upper_half_of_slates_and_what_was_never_tried_do_not_count_as_trials() -> None:
    counts = TrialCounts()
    counts.show(["a", "b", "c", "d"], "d")
    counts.show(["d", "b", "c", "a"], None)
    counts.take(["d", "b", "c", "a"], 0)
    counts.take(["a", "b", "c", "d"], 3)
    counts.take(["a", "b", "c", "d"], 2)
    assert counts.of(["d", "a"]) == [(1, 1), (0, 0)]
    assert (counts.shown, counts.taken, counts.items) == (3, 1, ["d"])


def test_the_first_tried_are_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_counts, "MAX_ITEMS", 3)
    counts = TrialCounts()
    for n in range(5):
        counts.show([f"i{n}"], f"i{n}")
    assert counts.items == ["i2", "i3", "i4"]


def test_what_is_new_does_not_depend_on_who_asked_first() -> None:
    world = World(trial_share=1.0)
    world.eligible[list(LATE)] = False  # as what requires others is, where nobody of a batch has done them
    assert world.ask(5) is None
    world.eligible[:] = True
    assert np.unique(drawn(world.ask(300))).tolist() == list(LATE)


def test_untried_items_leave_half_of_long_slates_to_those_that_compete() -> None:
    world = World(trial_share=0.02)
    good = world.index.row_of(f"i{LATE[0]}")
    shows(world, f"i{LATE[0]}", 60, 59)
    trials = world.ask(1_000, k=200)  # of whose positions a share of .02 is four
    assert trials is not None
    assert 0.4 < np.mean([good in trials.drawn.of_request(b) for b in range(1_000)]) < 0.6


def test_slates_of_one_item_are_for_the_best_but_for_the_share_of_untried_ones() -> None:
    world = World(trial_share=0.1)
    shows(world, f"i{LATE[0]}", 60, 59)
    trials = world.ask(1_000, k=1)
    assert world.index.row_of(f"i{LATE[0]}") not in drawn(trials)
    assert trials is not None
    assert 0.05 < (np.diff(trials.drawn.bounds) > 0).mean() < 0.15


def test_of_many_that_compete_some_are_drawn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "DRAWN", 2)
    world = World(trial_share=0.0001)
    for n in LATE:
        shows(world, f"i{n}", 60, 59)
    looks = []
    for _ in range(30):
        looks.append(set(drawn(world.ask(100)).tolist()) & set(LATE))
        world.clock.move(1_001)
    assert max(map(len, looks)) <= 2
    assert set.union(*looks) == set(LATE)


def test_those_of_the_best_that_a_user_may_not_be_given_leave_their_place_to_others() -> None:
    world = World(trial_share=0.0001)
    for n in LATE[:9]:  # of which eight have spent their budget
        shows(world, f"i{n}", 60, 59)
    world.eligible[list(LATE[:8])] = False
    trials = world.ask(50)
    assert trials is not None
    assert [trials.drawn.of_request(b).tolist() for b in range(50)] == [[LATE[8]]] * 50


def test_a_request_for_few_of_many_new_items_tries_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "LOOKED_AT", 2)
    world = World(trial_share=1.0)
    world.limited = [np.array([3, LATE[4]], np.int32)] * 50
    trials = world.ask(50)
    assert trials is not None
    assert [trials.drawn.of_request(b).tolist() for b in range(50)] == [[LATE[4]]] * 50


def test_a_look_at_a_large_catalogue_serves_a_hundred_times_as_long_as_it_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, look = World(trial_share=1.0), Catalogue.eligible

    def slow(catalogue: Catalogue, now_ms: int, out: np.ndarray) -> None:
        world.clock.move(50)
        look(catalogue, now_ms, out)

    monkeypatch.setattr(Catalogue, "eligible", slow)
    before = np.unique(drawn(world.ask(100)))
    world.likes[LATE[0]] = 10
    world.clock.move(4_900)
    assert np.unique(drawn(world.ask(100))).tolist() == before.tolist()
    world.clock.move(200)
    assert np.unique(drawn(world.ask(100))).tolist() == before[1:].tolist()
