"""What of a user counts in what users share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_core.robust.influence import NO_BOUND, Bound, counted, likes_share
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import CovisitReplay, Log
from streams.state.fold_kernels import BOUNDED
from streams.state.profiles import Profiles

HOUR = 3_600_000
ACTIONS, POSITIVE = ("view", "like"), ("like",)
N_USERS, N_ITEMS = 3, 6

STEPS_MS = (0, 1, HOUR // 3, -HOUR)
THREE = Bound(3, 9)

events = st.tuples(
    st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.booleans(), st.sampled_from(STEPS_MS)
)  # fmt: skip


def of_one_user(items, *, positive=True, hours=0.0, bound=THREE):
    n = len(items)
    times = np.broadcast_to(np.int64(100 * HOUR) + np.int64(HOUR * np.array(hours)), n)
    likes = np.broadcast_to(np.array(positive), n)
    users, items = np.zeros(n, np.int32), np.array(items, np.int32)
    return counted(users, items, likes.copy(), times.copy(), 1, bound).tolist()


def test_of_an_hour_a_users_first_events_count():
    found = of_one_user([1, 2, 3, 4, 5, 6], hours=[0, 0.5, 0.9, 0.99, 1.0, 1.5])

    assert found == [True, True, True, False, True, True]


def test_the_pairs_of_more_likes_count_less_by_their_root_and_sums_are_exact_in_any_order():
    likes = np.array([1, 4, 5, 16, 10**9])

    shares = likes_share(likes, 4)

    assert shares.tolist() == [1.0, 1.0, round(256 * np.sqrt(0.8)) / 256, 0.5, 1 / 256]
    assert likes_share(likes, 0).tolist() == [1.0] * 5
    many = likes_share(np.random.default_rng(0).integers(1, 500, 10_000), 40)
    assert sum(many.tolist()) == many.sum(dtype=np.float32) == many[::-1].cumsum(dtype=np.float32)[-1]


def test_without_a_bound_everything_counts():
    assert all(of_one_user([1] * 50, bound=NO_BOUND))


def test_an_item_counts_once_and_once_more_when_it_is_responded_to():
    found = of_one_user([1, 1, 1, 1, 1], positive=[False, False, True, True, False], hours=[0, 0, 0, 9, 99])

    assert found == [True, False, True, False, False]


def test_an_item_counts_again_when_it_is_out_of_sight():
    found = of_one_user([1, 2, 3, 1, 1], hours=[0, 1, 2, 3, 4], bound=Bound(2, 2))

    assert found == [True, True, True, True, False]


def test_a_look_goes_half_as_deep_as_events_are_kept():
    assert Bound.of(100, kept=1009, window=20) == (100, 494)
    assert Bound.of(100, kept=49, window=20) == (14, 14)
    assert Bound.of(0, kept=1009, window=20) == Bound.of(100, kept=17, window=17) == NO_BOUND


def test_an_event_that_comes_late_is_bounded_with_those_that_came_before_it():
    assert of_one_user([1, 2, 3, 4], hours=[5, 5, 5, 1]) == [True, True, True, False]


def test_users_are_bounded_apart():
    users = np.array([0, 0, 1, 0, 1], np.int32)
    items = np.arange(5, dtype=np.int32)

    found = counted(users, items, np.ones(5, np.bool_), np.zeros(5, np.int64), 2, Bound(2, 9))

    assert found.tolist() == [True, True, True, False, True]


@given(st.lists(events, max_size=120), st.sampled_from((0, 1, 2, 5, 30)))
def test_a_worker_counts_what_training_replays(rows, bound):
    n = len(rows)
    users, items = (np.array([row[k] for row in rows], np.int32) for k in (0, 1))
    positive = np.array([row[2] for row in rows], np.bool_)
    times = np.int64(10**12) + np.cumsum(np.array([row[3] for row in rows], np.int64))
    log = Log(users, items, positive + 1, positive, times, N_USERS, N_ITEMS)
    config = SignalConfig(influence_per_hour=bound, window=4, depth=40)
    replay = CovisitReplay(log, config)
    replay.advance(n)

    profiles = Profiles(0, history_limit=1024, actions=ACTIONS, positive=POSITIVE)
    covisits = CoVisitation(neighbours=config.neighbours, **config.pairing)
    covisits.grow(np.arange(N_ITEMS, dtype=np.uint64))
    rows_of = profiles.rows_of([f"u{user}" for user in range(N_USERS)])
    outcomes, pairs = profiles.append(
        rows_of[users], items, positive.astype(np.uint8), times, np.arange(n, dtype=np.uint64),
        np.arange(n), window=covisits.window, bound=covisits.bound,
    )  # fmt: skip
    covisits.observe(*pairs)

    np.testing.assert_array_equal(
        outcomes != BOUNDED, counted(users, items, positive, times, N_USERS, covisits.bound)
    )
    np.testing.assert_array_equal(covisits.popularity, replay.counts.popularity)
    everything = np.arange(N_ITEMS, dtype=np.int32)
    for ours, theirs in zip(
        covisits.neighbours_of(everything), replay.counts.neighbours_of(everything), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert profiles.rings.users[:, 0].sum() == n  # what does not count is in the history all the same


@given(st.lists(events, max_size=120), st.integers(1, 4))
def test_nobody_counts_more_in_an_hour_than_the_bound_when_events_come_in_time_order(rows, bound):
    users, items = (np.array([row[k] for row in rows], np.int32) for k in (0, 1))
    positive = np.array([row[2] for row in rows], np.bool_)
    times = np.cumsum(np.array([abs(row[3]) for row in rows], np.int64))
    kept = counted(users, items, positive, times, N_USERS, Bound(bound, 99))

    hours = np.stack([users, times // HOUR], axis=1)[kept] if len(rows) else np.zeros((0, 2), np.int64)
    _, sizes = np.unique(hours, axis=0, return_counts=True)
    assert sizes.max(initial=0) <= bound
