"""Scores of the last minutes are told from those before."""

import pytest

from streams.console.drift import Drift, DriftWatch, Scored, population_stability


def scored(low: float, high: float, responses: float = 0.0, predicted: float = 0.0) -> Scored:
    return Scored({"0.1": low, "1": high}, responses, predicted)


def test_shares_that_swap_have_the_index_of_the_formula() -> None:
    # (.75 - .25) ln(.75 / .25), twice
    assert population_stability({"a": 3, "b": 1}, {"a": 1, "b": 3}) == pytest.approx(1.0986, abs=1e-4)


def test_a_band_that_nothing_falls_into_any_more_is_no_infinity() -> None:
    assert 0.5 < population_stability({"a": 9}, {"a": 5, "b": 5}) < 10.0


def test_the_window_is_held_against_all_that_came_before_it() -> None:
    watch = DriftWatch(every_s=10.0, window_s=20.0)
    readings = [
        scored(500, 500),
        scored(1_000, 1_000),
        scored(1_500, 1_000, 60, 100),
        scored(2_500, 1_000, 260, 200),
    ]
    assert watch.now() is None
    for number, reading in enumerate(readings):
        watch.take(10.0 * number, reading)
        watch.take(10.0 * number + 1.0, scored(0, 0))  # too early to be taken
    found = watch.now()
    assert found is not None
    assert (found.recent, found.earlier) == (1_500.0, 2_000.0)
    assert found.psi is not None
    assert found.psi > 0.25
    assert found.calibration == pytest.approx(260 / 200)


def test_of_few_impressions_nothing_is_said() -> None:
    watch = DriftWatch(every_s=1.0)
    watch.take(0.0, scored(900, 0))
    watch.take(1.0, scored(1_800, 900, 50, 40))
    assert watch.now() == Drift(1_800.0, 900.0, None, 1.25)
