import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.attribution.rewards import Shaping

WEIGHTS = {"view": 0.2, "dislike": -1.0}


@given(st.floats(0.0, allow_nan=False), st.floats(0.0, allow_nan=False))
def test_a_longer_stay_never_earns_less_and_never_more_than_the_weight(a: float, b: float) -> None:
    shaping = Shaping(WEIGHTS, dwell_half_ms={"view": 5_000})
    earned = [shaping.reward("view", dwell) for dwell in sorted((a, b))]
    assert 0.0 <= earned[0] <= earned[1] <= 0.2


def test_without_a_curve_or_a_time_the_whole_weight_is_earned() -> None:
    shaping = Shaping(WEIGHTS, dwell_half_ms={"view": 5_000})
    assert shaping.reward("view", None) == 0.2
    assert shaping.reward("dislike", 1.0) == -1.0


@pytest.mark.parametrize("name", ["dwell_half_ms", "windows_ms"])
def test_curves_and_windows_are_of_actions_with_a_weight(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must name actions with a weight, got 'buy'"):
        Shaping(WEIGHTS, **{name: {"buy": 1}})
    with pytest.raises(ValueError, match=f"{name} must be finite and above 0, got 0 for 'view'"):
        Shaping(WEIGHTS, **{name: {"view": 0}})
