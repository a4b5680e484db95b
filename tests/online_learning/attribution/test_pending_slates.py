import tracemalloc
from typing import Any

import numpy as np
import pytest
import xxhash

from online_learning.attribution.pending_slates import CLOCKS_MS, OpenSlate, Outcome, PendingSlates
from online_learning.attribution.rewards import Shaping
from streams.events import Recommendation, SlateItem
from tests.online_learning.attribution.slates import ITEMS, WEIGHTS, WINDOW, features, store


def served(*slates: tuple[str, str, tuple[str, ...], int]) -> PendingSlates:
    pending = store()
    for request_id, user_id, item_ids, timestamp_ms in slates:
        pending.add(request_id, user_id, item_ids, features(len(item_ids)), timestamp_ms)
    return pending


def test_a_click_that_names_its_request_rewards_that_slate() -> None:
    pending = served(("r1", "u", ITEMS, 100), ("r2", "u", ITEMS, 200))
    found = pending.attribute("u", "b", "click", 300, "r1")
    assert found.outcome is Outcome.BY_REQUEST
    assert found.slate is not None
    assert (found.slate.request_id, found.position, found.reward) == ("r1", 1, 1.0)
    assert found.features.tolist() == [2.0, 3.0]


def test_a_click_without_a_request_rewards_the_latest_slate_with_the_item() -> None:
    pending = served(("r1", "u", ITEMS, 100), ("r3", "u", ("x", "y"), 300), ("r2", "u", ITEMS, 200))
    found = pending.attribute("u", "c", "click", 400)
    assert found.outcome is Outcome.BY_USER_ITEM
    assert found.slate is not None
    assert (found.slate.request_id, found.position) == ("r2", 2)


def test_a_click_rewards_no_slate_served_after_it() -> None:
    pending = served(("r1", "u", ITEMS, 100), ("r2", "u", ITEMS, 200))
    found = pending.attribute("u", "a", "click", 150)
    assert found.slate is not None
    assert found.slate.request_id == "r1"


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (("u", "a", "click", 200, "r9"), Outcome.UNKNOWN_SLATE),
        (("v", "a", "click", 200, "r1"), Outcome.UNKNOWN_SLATE),  # another user's request
        (("v", "a", "click", 200, None), Outcome.UNKNOWN_SLATE),
        (("u", "z", "click", 200, "r1"), Outcome.NOT_IN_SLATE),
        (("u", "z", "click", 200, None), Outcome.NOT_IN_SLATE),
        (("u", "a", "click", 100 - CLOCKS_MS, "r1"), Outcome.BY_REQUEST),
        (("u", "a", "click", 99 - CLOCKS_MS, "r1"), Outcome.OUTSIDE_WINDOW),
        (("u", "a", "click", 99, None), Outcome.OUTSIDE_WINDOW),
        (("u", "a", "click", 100 + WINDOW, "r1"), Outcome.OUTSIDE_WINDOW),
        (("u", "a", "click", 100 + WINDOW, None), Outcome.OUTSIDE_WINDOW),
        (("u", "a", "teleport", 200, "r1"), Outcome.UNKNOWN_ACTION),
        (("u", "a", "click", 100, "r1"), Outcome.BY_REQUEST),
        (("u", "a", "click", 99 + WINDOW, None), Outcome.BY_USER_ITEM),
    ],
)
def test_every_interaction_has_a_defined_outcome(event: tuple[Any, ...], outcome: Outcome) -> None:
    found = served(("r1", "u", ITEMS, 100)).attribute(*event)
    assert found.outcome is outcome
    rewarded = outcome in (Outcome.BY_REQUEST, Outcome.BY_USER_ITEM)
    assert (found.slate is not None) == (found.position >= 0) == (found.reward != 0.0) == rewarded


def test_features_of_a_click_that_rewards_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="got outcome unknown_slate"):
        _ = store().attribute("u", "a", "click", 0).features


def test_the_same_action_rewards_a_position_once_and_other_actions_add_up() -> None:
    pending = served(("r1", "u", ITEMS, 100))
    outcomes = [
        pending.attribute("u", item, action, 200, request_id).outcome
        for item, action, request_id in [
            ("a", "click", "r1"),
            ("a", "click", None),
            ("a", "click", "r1"),
            ("a", "view", None),
            ("b", "click", "r1"),
        ]
    ]
    assert outcomes == [
        Outcome.BY_REQUEST,
        Outcome.ALREADY_REWARDED,
        Outcome.ALREADY_REWARDED,
        Outcome.BY_USER_ITEM,
        Outcome.BY_REQUEST,
    ]
    (closed,) = pending.close(100 + WINDOW)
    assert closed.rewards.tolist() == [1.2, 1.0, 0.0]
    assert closed.slate.actions == [["click", "view"], ["click"], []]


def test_a_repeated_click_does_not_move_on_to_an_older_slate() -> None:
    pending = served(("r1", "u", ITEMS, 100), ("r2", "u", ITEMS, 200))
    pending.attribute("u", "a", "click", 300)
    assert pending.attribute("u", "a", "click", 300).outcome is Outcome.ALREADY_REWARDED


def test_a_penalty_lowers_the_reward() -> None:
    pending = served(("r1", "u", ITEMS, 100))
    assert pending.attribute("u", "c", "dislike", 200).reward == -1.0
    (closed,) = pending.close(10**6)
    assert closed.rewards.tolist() == [0.0, 0.0, -1.0]


def test_slates_close_when_their_window_has_ended_in_order_of_time_then_request() -> None:
    pending = served(("r2", "u", ITEMS, 100), ("r1", "v", ITEMS, 100), ("r0", "u", ITEMS, 101))
    assert pending.close(99 + WINDOW) == []
    assert [closed.slate.request_id for closed in pending.close(100 + WINDOW)] == ["r1", "r2"]
    assert [slate.request_id for slate in pending.slates()] == ["r0"]
    assert [closed.slate.request_id for closed in pending.close(10**6)] == ["r0"]
    assert pending.close(10**6) == []
    assert len(pending) == 0


def test_a_closed_slate_is_unknown_and_its_user_is_forgotten() -> None:
    pending = served(("r1", "u", ITEMS, 100), ("r2", "u", ITEMS, 200))
    pending.close(100 + WINDOW)
    assert pending.attribute("u", "a", "click", 150, "r1").outcome is Outcome.UNKNOWN_SLATE
    assert pending.has_open("u")
    pending.close(200 + WINDOW)
    assert not pending.has_open("u")
    assert pending.users == {}


def test_the_record_and_the_features_come_back_with_the_closed_slate() -> None:
    pending, record = store(), object()
    pending.add("r1", "u", ITEMS, features(), 100, record=record)
    (closed,) = pending.close(10**6)
    assert closed.slate.record is record
    assert np.array_equal(closed.slate.features, features())
    assert not closed.correction


def test_a_request_that_is_open_already_is_not_added_again() -> None:
    pending = served(("r1", "u", ITEMS, 100))
    pending.attribute("u", "a", "click", 200)
    assert not pending.add("r1", "u", ITEMS, features(), 100)
    assert len(pending) == 1
    assert pending.close(10**6)[0].rewards.tolist() == [1.0, 0.0, 0.0]


def room_for(n: int) -> int:
    """Bytes of n slates of three items."""
    return n * OpenSlate("r", "u", ITEMS, features(), 0).nbytes


def test_beyond_the_bound_the_oldest_slate_is_given_up_without_a_word() -> None:
    pending = store(max_bytes=room_for(2))
    pending.add("r1", "u", ITEMS, features(), 100)
    pending.attribute("u", "b", "click", 150)
    pending.add("r3", "w", ITEMS, features(), 300)
    pending.add("r2", "v", ITEMS, features(), 200)
    assert (len(pending), pending.evicted, pending.nbytes) == (2, 1, room_for(2))
    assert not pending.has_open("u")
    assert pending.attribute("u", "a", "click", 160, "r1").outcome is Outcome.UNKNOWN_SLATE
    assert pending.close(0) == []
    assert [closed.slate.request_id for closed in pending.close(10**6)] == ["r2", "r3"]
    assert pending.nbytes == 0


def test_a_slate_larger_than_the_bound_is_kept_alone() -> None:
    pending = store(max_bytes=1)
    for number in range(3):
        pending.add(f"r{number}", "u", ITEMS, features(), number)
        assert f"r{number}" in pending
    assert (len(pending), pending.evicted) == (1, 2)


def test_a_correction_that_is_known_is_told_though_its_slate_is_given_up() -> None:
    pending = store(lateness_ms=10 * WINDOW, max_bytes=room_for(2))
    pending.add("r1", "u", ITEMS, features(), 100)
    pending.close(100 + WINDOW)
    pending.attribute("u", "a", "click", 150, "r1")
    for number in range(2, 5):
        pending.add(f"r{number}", "v", ITEMS, features(), 100 * number)
    told = pending.close(0)
    assert [(one.slate.request_id, one.correction, one.rewards.tolist()) for one in told] == [
        ("r1", True, [1.0, 0.0, 0.0])
    ]
    assert pending.evicted == 1  # r2: its window was open


def test_what_slates_are_said_to_take_is_what_they_take() -> None:
    def add(number: int) -> None:
        rows = np.random.default_rng(number).random((10, 40), np.float32)
        items = tuple(f"item-{number}-{i}" for i in range(10))
        slate = [SlateItem(item, number, 0.1 * number, 0.5) for item in items]
        record = Recommendation(
            f"request-{number}", f"user-{number}", slate, "thompson", number + 1000, "estimated", "release",
            rows.tobytes(), 40, 10**12 + number, 1.5 * number, number + 10**6,
        )  # fmt: skip
        pending.add(record.request_id, record.user_id, items, rows, record.timestamp_ms, record=record)

    pending = store(max_bytes=10**9)
    add(0)
    tracemalloc.start()
    before, told = tracemalloc.get_traced_memory()[0], pending.nbytes
    for number in range(1, 2001):
        add(number)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.7 < (pending.nbytes - told) / taken < 1.5


def test_an_event_consumed_before_the_slate_was_added_does_not_reward_it() -> None:
    pending = store()
    pending.add("r1", "u", ITEMS, features(), 100, after_offset=7)
    assert pending.attribute("u", "a", "click", 200, "r1", offset=7).outcome is Outcome.UNKNOWN_SLATE
    assert pending.attribute("u", "a", "click", 200, "r1", offset=8).outcome is Outcome.BY_REQUEST


def test_slates_that_make_no_sense_are_refused() -> None:
    pending = store()
    with pytest.raises(ValueError, match=r"features must have shape \(3, F\), got \(2, 2\)"):
        pending.add("r1", "u", ITEMS, features(2), 100)
    with pytest.raises(ValueError, match=r"item_ids must be distinct, got \('a', 'a'\)"):
        pending.add("r1", "u", ("a", "a"), features(2), 100)
    assert len(pending) == 0
    assert not pending.has_open("u")


@pytest.mark.parametrize(("name", "least"), [("window_ms", 1), ("max_bytes", 1), ("lateness_ms", 0)])
def test_bounds_must_be_positive(name: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least {least}, got {least - 1}"):
        store(**{name: least - 1})


def test_an_action_with_a_window_of_its_own_corrects_the_closed_slate_once() -> None:
    pending = store(shaping=Shaping(WEIGHTS | {"purchase": 4.0}, windows_ms={"purchase": 7 * WINDOW}))
    pending.add("r1", "u", ITEMS, features(), 100)
    pending.attribute("u", "b", "click", 200, "r1")
    (closed,) = pending.close(100 + WINDOW)
    assert (closed.correction, closed.rewards.tolist()) == (False, [0.0, 1.0, 0.0])
    late_click = pending.attribute("u", "c", "click", 200 + WINDOW, "r1")
    assert late_click.outcome is Outcome.OUTSIDE_WINDOW
    bought = pending.attribute("u", "b", "purchase", 100 + 5 * WINDOW)
    assert (bought.outcome, bought.position, bought.reward) == (Outcome.BY_USER_ITEM, 1, 4.0)
    assert pending.attribute("u", "b", "purchase", 100 + 5 * WINDOW).outcome is Outcome.ALREADY_REWARDED
    (again,) = pending.close(100 + 5 * WINDOW)
    assert (again.correction, again.rewards.tolist()) == (True, [0.0, 5.0, 0.0])
    assert again.slate.actions == [[], ["click", "purchase"], []]
    assert pending.close(100 + 7 * WINDOW) == []
    assert pending.attribute("u", "b", "purchase", 100 + 6 * WINDOW).outcome is Outcome.UNKNOWN_SLATE
    assert (len(pending), pending.users) == (0, {})


@pytest.mark.parametrize(("lateness_ms", "outcome"), [(0, Outcome.UNKNOWN_SLATE), (50, Outcome.BY_USER_ITEM)])
def test_an_event_that_arrives_late_counts_as_long_as_lateness_is_allowed(
    lateness_ms: int, outcome: Outcome
) -> None:
    pending = store(lateness_ms=lateness_ms)
    pending.add("r1", "u", ITEMS, features(), 100)
    pending.close(149 + WINDOW)
    assert pending.attribute("u", "a", "click", 150).outcome is outcome
    assert len(pending.close(149 + WINDOW)) == (outcome is Outcome.BY_USER_ITEM)
    pending.close(150 + WINDOW)
    assert pending.attribute("u", "a", "view", 150).outcome is Outcome.UNKNOWN_SLATE


def test_closed_slates_that_are_kept_make_room_for_new_ones_first() -> None:
    pending = store(lateness_ms=10 * WINDOW, max_bytes=room_for(2))
    pending.add("r1", "u", ITEMS, features(), 100)
    pending.close(100 + WINDOW)
    pending.add("r0", "v", ITEMS, features(), 50)
    pending.add("r2", "v", ITEMS, features(), 300)
    assert [slate.request_id for slate in pending.slates()] == ["r0", "r2"]
    assert pending.evicted == 0


def test_time_spent_earns_its_share() -> None:
    pending = store(shaping=Shaping(WEIGHTS, dwell_half_ms={"view": 10_000}))
    pending.add("r1", "u", ITEMS, features(), 100)
    for item, dwell_ms, share in (("a", 10_000, 0.5), ("b", 30_000, 0.75), ("c", None, 1.0)):
        found = pending.attribute("u", item, "view", 200, "r1", dwell_ms)
        assert found.quality == share
        assert found.reward == pytest.approx(0.2 * share)
    assert pending.attribute("u", "a", "click", 200, "r1", 10_000).quality == 1.0
    assert pending.close(10**6)[0].rewards.tolist() == pytest.approx([1.1, 0.15, 0.2])


def test_a_forgotten_users_slates_are_gone_without_a_word_and_the_others_stay() -> None:
    pending = store()
    for request_id, user_id, time_ms in (("r1", "u", 1), ("r2", "v", 2), ("r3", "u", 3), ("r4", "v", 4)):
        pending.add(request_id, user_id, ITEMS, features(), time_ms)
    assert pending.forget("u") == 2
    assert pending.forget("u") == 0
    assert pending.attribute("u", "a", "click", 5).outcome is Outcome.UNKNOWN_SLATE
    assert pending.hashes == {xxhash.xxh3_64_intdigest(b"v"): 1}
    assert pending.attribute("v", "a", "click", 5, "r2").reward == 1.0
    assert [closed.slate.request_id for closed in pending.close(10_000)] == ["r2", "r4"]
    assert (len(pending), pending.nbytes) == (0, 0)
    assert pending.add("r1", "u", ITEMS, features(), 20_000)


def test_a_request_that_was_forgotten_may_come_again() -> None:
    pending = served(("r1", "u", ITEMS, 100))
    pending.forget("u")
    assert pending.add("r1", "v", ITEMS, features(), 100)
    assert pending.attribute("v", "a", "click", 150, "r1").reward == 1.0
    assert [closed.slate.user_id for closed in pending.close(10_000)] == ["v"]


def test_what_a_record_takes_beside_its_slate_counts_against_the_bound() -> None:
    pending = store(max_bytes=100_000)
    for number in range(10):
        pending.add(f"r{number}", "u", ITEMS, features(), 100 + number, extra_bytes=40_000)
    assert [slate.request_id for slate in pending.slates()] == ["r8", "r9"]
    assert pending.evicted == 8


def test_a_slate_that_was_not_served_after_all_is_gone() -> None:
    pending = served(("r1", "u", ITEMS, 100), ("r2", "u", ITEMS, 200))
    pending.withdraw("r1")
    pending.withdraw("r1")
    assert pending.attribute("u", "b", "click", 300, "r1").outcome is Outcome.UNKNOWN_SLATE
    assert [slate.slate.request_id for slate in pending.close(10_000)] == ["r2"]
    assert (len(pending), pending.nbytes) == (0, 0)
