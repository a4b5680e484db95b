import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.evaluation.topn import (
    coverage,
    estimate,
    gini,
    intra_list_diversity,
    novelty,
    paired_difference,
    ranking_metrics,
    top_items,
)

seeds = st.integers(0, 2**32 - 1)


def naive(top: list[int], relevant: set[int]) -> dict[str, float]:
    """One user's metrics as RecBole's documentation words them."""
    hits = [item in relevant for item in top]
    gained = sum(1 / math.log2(place + 1) for place, hit in enumerate(hits, start=1) if hit)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(len(relevant), len(top)) + 1))
    first = next((1 / place for place, hit in enumerate(hits, start=1) if hit), 0.0)
    return {
        "recall": sum(hits) / len(relevant),
        "ndcg": gained / ideal,
        "mrr": first,
        "hit": float(any(hits)),
    }


def test_metrics_equal_those_computed_by_hand() -> None:
    relevant = np.zeros((3, 6), bool)
    relevant[0, [1, 4]] = True
    relevant[1, [0]] = True
    found = ranking_metrics(np.array([[3, 1, 4], [2, 3, 4], [0, 1, 2]]), relevant)
    np.testing.assert_allclose(found["recall"], [1.0, 0.0, np.nan])
    np.testing.assert_allclose(found["mrr"], [0.5, 0.0, np.nan])
    np.testing.assert_allclose(found["hit"], [1.0, 0.0, np.nan])
    expected = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    np.testing.assert_allclose(found["ndcg"], [expected, 0.0, np.nan])


@given(seeds, st.integers(1, 8))
def test_metrics_equal_a_naive_loop(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random((6, 9)) < 0.3
    top = np.argsort(rng.random((6, 9)), axis=1)[:, :k]
    found = ranking_metrics(top, relevant)
    for user in range(6):
        truth = set(np.flatnonzero(relevant[user]).tolist())
        for name, values in found.items():
            expected = naive(top[user].tolist(), truth)[name] if truth else np.nan
            np.testing.assert_allclose(values[user], expected)


@given(seeds, st.integers(1, 7))
def test_the_top_is_that_of_a_stable_sort(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 3, (5, 12)).astype(np.float32)
    seen = rng.random((5, 12)) < 0.3
    expected = np.argsort(np.where(seen, np.inf, -scores), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(top_items(scores, seen, k), expected)


@pytest.mark.parametrize("k", [0, 4])
def test_a_list_must_fit_the_catalogue(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k must be in \[1, 3\], got {k}"):
        top_items(np.zeros((1, 3)), np.zeros((1, 3), bool), k)


def test_figures_beyond_accuracy_equal_those_computed_by_hand() -> None:
    top = np.array([[0, 1], [0, 2]])
    assert coverage(top, 4) == 0.75
    # Counts in order 0, 1, 1, 2 of mean 1: the sum of |a - b| over ordered pairs is 12, over 2 * 4 * 4 * 1.
    assert gini(top, 4) == pytest.approx(10 / 32 * 1.2)
    assert gini(np.array([[0, 1], [2, 3]]), 4) == 0.0
    met = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]], bool)
    assert novelty(top, met) == pytest.approx((2 * math.log2(4 / 3) + 1.0 + 2.0) / 4)
    features = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert intra_list_diversity(top, features) == pytest.approx((0.0 + 1.0) / 2)


@given(seeds)
def test_diversity_is_the_mean_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(9, 3))
    top = np.stack([rng.permutation(9)[:4] for _ in range(5)])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    pairs = [1 - unit[a] @ unit[b] for row in top for a in row for b in row if a != b]
    assert intra_list_diversity(top, features) == pytest.approx(np.mean(pairs))


@given(seeds)
def test_gini_is_half_the_relative_mean_difference(seed: int) -> None:
    top = np.random.default_rng(seed).integers(8, size=(6, 3))
    counts = np.bincount(top.ravel(), minlength=8)
    expected = np.abs(counts[:, None] - counts).sum() / (2 * 8 * counts.sum())
    assert gini(top, 8) == pytest.approx(expected)


def test_an_interval_is_students() -> None:
    found = estimate(np.array([1.0, 2.0, 3.0, np.nan]))
    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t of 2 at 97.5 %
    assert found.low + found.high == pytest.approx(4.0)
    assert found.p_value == pytest.approx(0.0741799, rel=1e-5)
    assert estimate(np.array([5.0])).high == np.inf
    with pytest.raises(ValueError, match="at least one number"):
        estimate(np.array([np.nan]))


def test_a_pair_is_compared_over_users_not_over_seeds_times_users() -> None:
    theirs = np.array([[0.1, 0.2, np.nan, np.nan], [0.1, 0.4, 0.3, np.nan]])
    gain = np.array([0.1, 0.2, 0.3, 0.0])
    found = paired_difference(theirs + gain, theirs)
    alone = estimate(gain[:3])
    assert found.mean == pytest.approx(alone.mean)
    assert found.low == pytest.approx(alone.low)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 4\) and \(1, 4\)"):
        paired_difference(theirs, theirs[:1])


@given(seeds)
def test_a_model_does_not_differ_from_itself(seed: int) -> None:
    values = np.random.default_rng(seed).random((2, 5))
    found = paired_difference(values, values)
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
