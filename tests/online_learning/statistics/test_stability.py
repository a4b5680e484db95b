"""The population stability index of counts in bins."""

import numpy as np
import pytest

from online_learning.statistics.stability import population_stability


def test_shares_that_swap_have_the_index_of_the_formula() -> None:
    # (.75 - .25) ln(.75 / .25), twice
    found = population_stability(np.array([3.0, 1.0]), np.array([10.0, 30.0]))
    assert found == pytest.approx(1.0986, abs=1e-4)


def test_a_bin_that_nothing_falls_into_is_no_infinity() -> None:
    empty, both = np.array([9.0, 0.0]), np.array([5.0, 5.0])
    assert 0.5 < population_stability(empty, both) < 10.0
    assert 0.5 < population_stability(both, empty) < 10.0


def test_nothing_is_not_compared() -> None:
    with pytest.raises(ValueError, match="both sides must have counts, got 0 and 2"):
        population_stability(np.zeros(2), np.ones(2))
