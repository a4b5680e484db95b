import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.evaluation.topn import popularity_buckets
from tests.benchmarks.random_split import random_split, recall_by_bucket

seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(seeds, st.integers(1, 400))
def test_a_split_divides_each_users_items_and_repeats_by_its_seed(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = rng.integers(7, size=n), rng.integers(60, size=n)
    parts = random_split(users, items, 7, 60, seed=seed)
    every = np.zeros((7, 60), int)
    every[users, items] = 1
    together = sum(part.astype(int) for part in (parts.train, parts.validation, parts.test))
    np.testing.assert_array_equal(together, every)
    again = random_split(users[::-1], items[::-1], 7, 60, seed=seed)
    np.testing.assert_array_equal(again.test, parts.test)
    for user, size in enumerate(every.sum(1)):
        held = [int(part[user].sum()) for part in (parts.validation, parts.test)]
        if size >= 3:
            assert held == [max(size // 10, 1)] * 2
        else:
            assert held == [0, int(size == 2)]


def test_the_held_out_fractions_must_leave_something() -> None:
    none = np.zeros(0, int)
    with pytest.raises(ValueError, match="must be at least 0 and sum to less than 1"):
        random_split(none, none, 1, 1, seed=0, fractions=(0.5, 0.5))


def test_buckets_hold_equal_shares_and_their_recall_adds_up() -> None:
    met = np.zeros((8, 5), bool)
    for item, count in enumerate((8, 1, 4, 2, 1)):
        met[:count, item] = True
    buckets = popularity_buckets(met, 2)
    assert buckets.tolist() == [1, 0, 0, 0, 0]
    relevant = np.array([[1, 0, 1, 1, 0], [1, 0, 0, 0, 1]], bool)
    top = np.array([[0, 1], [1, 4]])
    np.testing.assert_allclose(recall_by_bucket(top, relevant, buckets), [1 / 3, 1 / 2])
    np.testing.assert_allclose(
        recall_by_bucket(top, relevant[:, :1].repeat(5, 1) & (np.arange(5) == 0), buckets), [np.nan, 1 / 2]
    )
