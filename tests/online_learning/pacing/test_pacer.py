"""Budgets are spent evenly, whatever traffic there is; never beyond, but for the lag."""

import numpy as np
import pytest

from online_learning.pacing.pacer import Pacer

STEPS = 1440  # minutes of a day


def day(units, daily, *, weights, seed, lag=1):
    """Spend a day; return what was spent of each budget by the end of each sixth: (6, n)."""
    rng = np.random.default_rng(seed)
    pacer, weights = Pacer(units), weights / weights.sum()
    spent = np.zeros(len(units))
    seen, path = [spent] * (lag + 1), []
    for step in range(STEPS):
        pacer.pace(seen[-1 - lag], elapsed=step / STEPS, since=1 / STEPS)
        assert (pacer.rates >= 0).all()
        assert (pacer.rates <= 1).all()
        spent = spent + rng.binomial(rng.poisson(daily * weights[step]), pacer.rates)
        seen.append(spent)
        if (step + 1) % (STEPS // 6) == 0:
            path.append(spent / units)
    return np.array(path)


def test_a_budget_is_spent_evenly_though_most_people_come_in_the_evening():
    units = np.array([100.0, 1_000.0, 10_000.0])
    minutes = np.arange(STEPS) / STEPS
    weights = 1 + 0.8 * np.sin(2 * np.pi * (minutes - 0.5))
    weights[600:660] *= 5  # and for an hour many come at once
    even = np.arange(1, 7)[:, None] / 6
    for seed in range(3):
        path = day(units, 20 * units, weights=weights, seed=seed)
        assert (np.abs(path - even) < np.array([0.08, 0.03, 0.02])).all()
        assert (path[-1] > 0.97).all()
        assert (path[-1] - 1 < np.array([0.02, 0.005, 0.003])).all()


def test_who_comes_too_seldom_for_a_budget_is_always_offered_it():
    path = day(np.array([1_000.0]), 400.0, weights=np.ones(STEPS), seed=0)
    assert 0.3 < path[-1, 0] < 0.45  # rises from a tenth in the first hours
    assert path[-1, 0] - path[2, 0] == pytest.approx(0.2, abs=0.04)


def test_a_budget_that_is_spent_or_none_is_not_offered():
    pacer = Pacer(np.array([10.0, 10.0, 0.0]))
    pacer.pace(np.array([10.0, 2.0, 0.0]), elapsed=0.5, since=0.1)
    assert pacer.rates[0] == pacer.rates[2] == 0
    assert pacer.rates[1] > 0
    pacer.pace(np.array([0.0, 0.0, 0.0]), elapsed=0.01, since=0.01)  # another day
    assert pacer.rates[0] > 0


def test_what_is_known_goes_on_with_other_budgets_beside():
    one = Pacer(np.array([100.0, 50.0]))
    for step in range(10):
        one.pace(np.array([2.0 * step, step]), elapsed=step / 100, since=0.01)
    other = Pacer(np.array([30.0, 50.0, 100.0]))
    other.taken_from(one, np.array([-1, 1, 0]))
    assert other.rates.tolist() == [0.0, *one.rates[::-1].tolist()]
    for pacer, spent in ((one, [20.0, 10.0]), (other, [0.0, 10.0, 20.0])):
        pacer.pace(np.array(spent), elapsed=0.1, since=0.01)
    assert other.rates[1:].tolist() == one.rates[::-1].tolist()
