"""Sums are subtracted as they were added, in whatever order; what cannot be subtracted stays as it was."""

import numpy as np
import pytest

from online_learning.policies.registry import Learning
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from tests.online_learning.statistics.test_changes import PRIOR, fold

SEPARABLE = ("thompson", "thompson-disjoint")


def learned(learning: Learning, *seeds: int) -> Statistics:
    statistics = learning.empty()
    for seed in seeds:
        fold(statistics, seed)
    return statistics


@pytest.mark.parametrize("name", SEPARABLE)
@pytest.mark.parametrize("half_life_ms", [None, 700])
@pytest.mark.parametrize("taken", [1, 3])
def test_what_is_left_is_the_sum_of_the_others(name: str, half_life_ms: int | None, taken: int) -> None:
    learning = Learning.of(name, PRIOR, half_life_ms=half_life_ms)
    whole, part = learned(learning, 1, 2, 3), learned(learning, taken)
    assert whole.take_out(part)
    rest = learned(learning, *{1, 2, 3} - {taken})
    # Discounted to the latest time, which is that of what was taken out, where that was the latest.
    scale = 1.0 if half_life_ms is None else 2.0 ** ((whole.latest_ms - rest.latest_ms) / half_life_ms)
    assert (whole.impressions, whole.rewards) == (rest.impressions, rest.rewards)
    by_arm = [np.argsort(one.parts) if len(one.parts) else slice(None) for one in (whole, rest)]
    for found, wanted in ((whole.gram, rest.gram), (whole.moment, rest.moment)):  # type: ignore[attr-defined]
        np.testing.assert_allclose(found[by_arm[0]] * scale, wanted[by_arm[1]], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SEPARABLE)
def test_of_what_is_taken_out_in_whole_not_a_bit_is_left(name: str) -> None:
    learning = Learning.of(name, PRIOR)
    whole = learned(learning, 1, 2)
    for seed in (2, 1):
        assert whole.take_out(learned(learning, seed))
    assert not whole.gram.any()  # type: ignore[attr-defined]
    assert not whole.moment.any()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*SEPARABLE, "thompson-logistic"])
def test_what_was_never_added_is_not_taken_out(name: str) -> None:
    learning = Learning.of(name, PRIOR)
    whole = learned(learning, 1)
    before = whole.to_bytes()
    strange = learning.empty()
    fold(strange, 2, n=20)
    assert not whole.take_out(strange)
    assert not whole.take_out(learned(learning, 1, 2))
    assert whole.to_bytes() == before


def test_an_arm_that_has_been_forgotten_is_not_begun_again() -> None:
    learning = Learning.of("thompson-disjoint", PRIOR)
    whole, part = learned(learning, 1, 2), learned(learning, 1)
    arm = int(part.parts[0])
    whole.forget([arm])
    whole.take_rows()
    assert whole.take_out(part)
    assert arm not in whole.parts.tolist()
    assert {number for number, _ in whole.take_rows()} == set(part.parts.tolist()) - {arm}


def test_statistics_of_other_features_are_refused() -> None:
    other = Learning.of("thompson", LinearPrior(PRIOR.weights, feature_space="another"))
    with pytest.raises(ValueError, match="feature_space"):
        Learning.of("thompson", PRIOR).empty().take_out(other.empty())
