import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from online_learning.experiments.assignment import OUTSIDE, assign

KEYS = np.random.default_rng(0).integers(0, 2**64, 60_000, dtype=np.uint64)
SEQUENTIAL = np.arange(60_000, dtype=np.uint64)  # keys that are no hashes at all


@pytest.mark.parametrize("keys", [KEYS, SEQUENTIAL])
def test_users_are_split_by_the_weights(keys: np.ndarray) -> None:
    variants = assign(keys, "colours", ["a", "b", "c"], [1, 2, 5])
    observed = np.bincount(variants, minlength=3)
    assert chisquare(observed, np.array([1, 2, 5]) / 8 * len(keys)).pvalue > 1e-3


@pytest.mark.parametrize("keys", [KEYS, SEQUENTIAL])
def test_two_experiments_split_users_independently_of_each_other(keys: np.ndarray) -> None:
    one = assign(keys, "first", ["control", "b"], [1, 1], share=0.6)
    two = assign(keys, "second", ["control", "b"], [1, 2], share=0.6)
    table = np.zeros((3, 3))
    np.add.at(table, (one + 1, two + 1), 1)
    assert chi2_contingency(table).pvalue > 1e-3


def test_taking_part_says_nothing_of_the_variant() -> None:
    for share in (0.05, 0.5):
        variants = assign(KEYS, "colours", ["a", "b"], [1, 1], share=share)
        inside = np.bincount(variants[variants != OUTSIDE], minlength=2)
        assert abs(inside.sum() / len(KEYS) - share) < 0.01
        assert chisquare(inside).pvalue > 1e-3


def test_a_user_keeps_the_variant_whatever_the_rest_of_the_batch_and_the_order_of_the_variants() -> None:
    whole = assign(KEYS, "colours", ["a", "b"], [1, 3], share=0.5)
    assert np.array_equal(assign(KEYS[100:200], "colours", ["a", "b"], [1, 3], share=0.5), whole[100:200])
    turned = assign(KEYS, "colours", ["b", "a"], [3, 1], share=0.5)
    assert np.array_equal(np.where(turned == OUTSIDE, OUTSIDE, 1 - turned), whole)


def test_a_larger_share_moves_nobody_who_takes_part() -> None:
    before = assign(KEYS, "colours", ["a", "b"], [1, 1], share=0.2)
    after = assign(KEYS, "colours", ["a", "b"], [1, 1], share=0.7)
    inside = before != OUTSIDE
    assert np.array_equal(after[inside], before[inside])


def test_a_larger_weight_moves_users_to_its_variant_only_and_as_few_as_can_be() -> None:
    before = assign(KEYS, "colours", ["a", "b", "c"], [1, 1, 1])
    after = assign(KEYS, "colours", ["a", "b", "c"], [1, 2, 1])
    moved = before != after
    assert (after[moved] == 1).all()
    assert abs(moved.mean() - (1 / 2 - 1 / 3)) < 0.01


def test_a_name_is_a_salt() -> None:
    one, two = (assign(KEYS, name, ["a", "b"], [1, 1]) for name in ("one", "two"))
    assert 0.48 < (one == two).mean() < 0.52


@pytest.mark.parametrize(
    ("variants", "weights", "share", "message"),
    [
        ([], [], 1.0, r"variants must have names, each its own, got \[\]"),
        (["a", "a"], [1, 1], 1.0, "variants must have names, each its own, got"),
        (["a", "b"], [1], 1.0, "weights must be 2, one for each variant, got 1"),
        (["a", "b"], [1, 0], 1.0, "weights must be finite and above 0, got 0 for 'b'"),
        (["a", "b"], [np.nan, 1], 1.0, "weights must be finite and above 0, got nan for 'a'"),
        (["a"], [1], 1.4, r"share must be in \[0, 1\], got 1.4"),
    ],
)
def test_what_is_no_split_is_refused(variants: list, weights: list, share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(KEYS[:2], "colours", variants, weights, share=share)
