from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.ope.diagnostics import (
    Diagnostics,
    Limits,
    check_bearable,
    check_propensities,
    diagnose,
    effective_size,
)
from online_learning.ope.estimators import LoggedActions, direct_method, ips
from online_learning.ope.types import Contributions, Refused

GOOD = Diagnostics(
    n=1000,
    effective_size=400.0,
    effective_rewards=40.0,
    mean_weight=1.01,
    mean_weight_error=0.02,
    unchosen=0.0,
    quantiles=(0.8, 2.0, 5.0, 9.0),
)


@given(seed=st.integers(0, 1000), n=st.integers(1, 50), scale=st.floats(1e-3, 1e3))
def test_the_effective_size_is_between_one_row_and_all_and_has_no_unit(seed, n, scale) -> None:
    weights = np.random.default_rng(seed).random(n) + 1e-3
    size = effective_size(weights)
    assert 1.0 - 1e-9 <= size <= n + 1e-9
    np.testing.assert_allclose(effective_size(weights * scale), size)


def test_the_effective_size_counts_equal_weights_and_ignores_zeros() -> None:
    np.testing.assert_allclose(effective_size(np.array([[2.0, 2.0, 2.0], [5.0, 0.0, 0.0]])), [3.0, 1.0])
    assert effective_size(np.zeros(4)) == 0.0


def test_diagnostics_say_what_the_weights_are() -> None:
    log = LoggedActions(
        np.array([1.0, 0.0, 0.5, 0.0]), np.array([[0.5, 0.5, 1.0, 0.0], [0.5] * 4]), np.full(4, 0.5)
    )
    first, second = diagnose(ips(log), log.rewards[None])
    assert asdict(first) == pytest.approx(
        {
            "n": 4,
            "effective_size": 16 / 6,
            "effective_rewards": 9 / 5,
            "mean_weight": 1.0,
            "mean_weight_error": np.std([1, 1, 2, 0], ddof=1) / 2,
            "unchosen": 0.25,
            "quantiles": pytest.approx((1.0, 1.7, 1.97, 2.0)),
            "effective_clusters": None,
        }
    )
    assert second.effective_size == 4.0
    assert second.mean_weight_error == 0.0


def test_clusters_are_counted_by_the_weight_that_they_have_together() -> None:
    log = LoggedActions(np.ones(6), np.array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.0]]), np.full(6, 0.5))
    users = np.array(["ann", "bob", "ann", "bob", "cyd", "dan"])
    (found,) = diagnose(ips(log), log.rewards[None], users)
    assert found.effective_clusters == pytest.approx(25 / 9)  # 2, 2, 1 and 0
    assert found.effective_size == pytest.approx(5.0)


def test_an_estimator_without_weights_has_no_diagnostics() -> None:
    log = LoggedActions(np.ones(2), np.ones((3, 2)), predicted=np.ones(2), expected=np.ones((3, 2)))
    assert diagnose(direct_method(log), log.rewards[None]) == [None] * 3


def test_several_positions_are_judged_by_the_worst() -> None:
    weights = np.ones((1, 2, 4))
    weights[0, 1] = [8.0, 0.0, 0.0, 0.0]
    (found,) = diagnose(Contributions(np.zeros((1, 4)), weights=weights), np.ones((2, 4)))
    assert (found.effective_size, found.mean_weight, found.unchosen) == (1.0, 2.0, 0.75)
    assert found.quantiles[-1] == 8.0


def test_a_log_that_bears_the_estimate_passes() -> None:
    check_bearable(GOOD, Limits(), modelled=False)
    enough = replace(GOOD, effective_size=100 - 1e-12, effective_clusters=30 - 1e-12)  # as sums of floats are
    check_bearable(enough, Limits(), modelled=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"effective_clusters": 7.0}, "effective clusters must be at least 30, got 7: rows of one cluster"),
        ({"effective_clusters": 29.9999}, "effective clusters must be at least 30, got 29.99: rows"),
        ({"effective_size": 12.34}, "effective sample size must be at least 100, got 12.34 of 1000 rows"),
        ({"effective_rewards": 0.0}, "effective rewarded rows must be at least 5, got 0:"),
        ({"mean_weight": 0.6}, r"mean weight must be within 0.1 of 1, got 0.6 ± 0.02"),
        ({"mean_weight": 1.5}, r"mean weight must be within 0.1 of 1, got 1.5 ± 0.02"),
    ],
)
def test_what_the_log_cannot_bear_is_refused_with_value_and_remedy(
    changes: dict[str, float], message: str
) -> None:
    with pytest.raises(Refused, match=f"{message}.*direct method"):
        check_bearable(replace(GOOD, **changes), Limits(), modelled=False)


def test_a_mean_weight_is_judged_by_its_error_and_not_where_a_model_stands_in() -> None:
    noisy = replace(GOOD, mean_weight=0.6, mean_weight_error=0.2)
    check_bearable(noisy, Limits(), modelled=False)
    check_bearable(replace(noisy, mean_weight_error=0.01), Limits(), modelled=True)


def test_limits_can_be_moved() -> None:
    poor = replace(GOOD, effective_size=12.0)
    check_bearable(poor, Limits(effective_size=10.0), modelled=False)
    with pytest.raises(Refused, match="at least 500, got 400 of"):
        check_bearable(GOOD, Limits(effective_size=500.0), modelled=False)


@pytest.mark.parametrize(
    ("bad", "text"), [(0.0, "0.0"), (-0.1, "-0.1"), (1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_propensities_that_are_none_are_refused(bad: float, text: str) -> None:
    propensities = np.array([0.5, bad, 1.0, bad])
    message = rf"propensities must be in \(0, 1\], got {text} at \(1,\) and 2 such of 4; the direct method"
    with pytest.raises(Refused, match=message):
        check_propensities(propensities)


def test_missing_propensities_are_refused() -> None:
    with pytest.raises(Refused, match="must be logged for importance weights, got none; the direct method"):
        check_propensities(None)


def test_propensities_are_not_read_where_nothing_was_shown() -> None:
    propensities = np.array([[0.5, np.nan]])
    assert check_propensities(propensities, shown=np.array([[True, False]])) is propensities
