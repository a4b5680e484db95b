"""Scores of the last minutes are told from those before."""

import pytest

from streams.console.drift import Drift, DriftWatch, Scored


def scored(low: float, high: float, responses: float = 0.0, predicted: float = 0.0) -> Scored:
    return Scored({"0.1": low, "1": high}, responses, predicted)


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
