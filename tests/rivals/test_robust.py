import re

import numpy as np
import pytest

from model_core.evaluation.evaluate import Truth
from tests.benchmarks.quality_robust import ASKED, _asked, _interval

VALUES = np.array([0.1, 0.5, 0.3, 0.9]), np.array([0.2, 0.4, 0.1, 0.7])


def ends(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-][\d.]+", text)]


def test_a_user_who_is_asked_at_several_splits_is_drawn_with_all_of_them() -> None:
    middle, low, high = ends(_interval(VALUES, np.array([7, 7, 7, 7]), np.subtract))
    assert middle == low == high == pytest.approx(0.1)
    middle, low, high = ends(_interval(VALUES, np.array([1, 2, 3, 4]), np.subtract))
    assert low < middle < high


def test_a_ratio_is_of_means_over_all_that_is_asked() -> None:
    middle, low, high = ends(_interval(VALUES, np.array([1, 1, 2, 2]), np.divide))
    assert middle == pytest.approx(1.8 / 1.4, abs=1e-4)
    assert (low, high) == pytest.approx((0.6 / 0.6, 1.2 / 0.8), abs=1e-4)


def test_users_that_choose_a_step_are_not_those_that_it_is_measured_on() -> None:
    truth = Truth(np.array([2, 3, 5, 8]), np.eye(4, dtype=np.bool_))
    even, odd = (_asked(truth, ASKED[name]) for name in ("even", "odd"))
    assert even.users.tolist() == [2, 8]
    assert odd.users.tolist() == [3, 5]
    assert odd.relevant.argmax(1).tolist() == [1, 2]
