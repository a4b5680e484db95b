import numpy as np
import pytest

from model_core.evaluation.slices import (
    HISTORY,
    attribute_features,
    history_slice,
    new_items,
    popularity_slice,
)
from model_core.evaluation.topn import bootstrap, estimate
from model_core.signals.sample_signals import Log


def log(users: list[int], items: list[int], positive: list[bool], n_users: int, n_items: int) -> Log:
    n = len(users)
    return Log(
        np.array(users, np.int32), np.array(items, np.int32), np.ones(n, np.int64), np.array(positive),
        np.arange(n), n_users, n_items,
    )  # fmt: skip


def test_users_are_sliced_by_their_events_before_the_split_alone() -> None:
    counts = (0, 1, 5, 6, 20, 21)
    users = [user for user, count in enumerate(counts) for _ in range(count)]
    split = len(users)
    events = log([*users, *([0] * 30)], [0] * (split + 30), [True] * (split + 30), 6, 1)
    found = history_slice(events, split, np.arange(6, dtype=np.int32))
    assert [list(HISTORY)[place] for place in found] == [
        "no event", "1 to 5", "1 to 5", "6 to 20", "6 to 20", "21 and more",
    ]  # fmt: skip


def test_items_are_sliced_by_distinct_likes_and_new_ones_stand_alone() -> None:
    # Items: 0 liked by four users, one of them twice; 1 and 2 by two; 3 met and not liked; 4 later only.
    users = [0, 1, 2, 3, 3, 0, 1, 2, 3, 0, 0]
    items = [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4]
    events = log(users, items, [True] * 9 + [False, True], 4, 5)
    labels, bucket = popularity_slice(events, 10, buckets=2)
    assert bucket.tolist() == [2, 1, 1, 1, 0]
    assert labels == ["new", "3 items", "1 items"]
    assert new_items(events, 10).tolist() == [False, False, False, False, True]


def test_genres_count_alone_and_without_them_all_attributes_do() -> None:
    genres = attribute_features([{"genre": ["a", "b"], "by": ["x"]}, {"genre": ["b"]}, {}])
    assert genres is not None
    assert sorted(genres.T.tolist()) == [[1, 0, 0], [1, 1, 0]]
    others = attribute_features([{"by": ["x"], "in": ["x"]}, {"by": ["y"]}, {"by": ["y"]}])
    assert others is not None
    assert others.shape == (3, 3)
    few = attribute_features([{"by": ["x"], "in": ["x"]}, {"by": ["y"]}, {"by": ["y"]}], most=1)
    assert few is not None
    assert few.tolist() == [[0], [1], [1]]
    assert attribute_features([{}, {}]) is None


def test_a_bootstrap_agrees_with_student_on_a_large_sample() -> None:
    values = np.random.default_rng(0).normal(0.05, 1.0, 800)
    values[3] = np.nan
    ours = bootstrap(values, rng=np.random.default_rng(1), draws=4000)
    student = estimate(values)
    assert ours.mean == pytest.approx(student.mean)
    assert [ours.low, ours.high] == pytest.approx([student.low, student.high], abs=0.01)
    assert ours.p_value == pytest.approx(student.p_value, abs=0.03)


def test_a_bootstrap_of_a_ratio_draws_users_and_not_pairs() -> None:
    found, wanted = np.array([5.0, 0.0, 1.0]), np.array([10.0, 1.0, 1.0])
    ratio = bootstrap(found, wanted, rng=np.random.default_rng(0), draws=500)
    assert ratio.mean == 0.5
    assert ratio.low == pytest.approx(0.0)
    assert ratio.high == pytest.approx(1.0)


def test_a_bootstrap_repeats_by_its_seed_and_finds_no_difference_where_none_is() -> None:
    values = np.random.default_rng(2).random(30)
    first, second = (bootstrap(values, rng=np.random.default_rng(7), draws=200) for _ in range(2))
    assert first == second
    assert bootstrap(np.zeros(9), rng=np.random.default_rng(0), draws=100).p_value == 1.0
    alone = bootstrap(np.array([0.3]), rng=np.random.default_rng(0))
    assert (alone.low, alone.high, alone.p_value) == (-np.inf, np.inf, 1.0)


def test_a_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="values must hold at least one number with a weight"):
        bootstrap(np.array([np.nan]), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="values must hold at least one number with a weight"):
        bootstrap(np.ones(2), np.zeros(2), rng=np.random.default_rng(0))
