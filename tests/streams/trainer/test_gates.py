from dataclasses import replace

import numpy as np
import pytest

from model_core.signals.sample_signals import Log
from streams.trainer import gates
from streams.trainer.gates import Measured
from streams.trainer.training_run import held_out_from

RNG = np.random.default_rng(0)
NAMES = [f"i{n}" for n in range(100)]
LIVE = Measured(
    top=np.array([RNG.permutation(100)[:10] for _ in range(50)]),
    ndcg=RNG.random(50),
    probability=np.linspace(0, 1, 1000, dtype=np.float32),
    relevant=RNG.random(1000) < np.linspace(0, 1, 1000),
    nbytes=1000,
)


@pytest.mark.parametrize(
    ("lead", "noise", "users", "passed"),
    [
        (0.05, 0.3, 50, True),
        (0.0, 0.0, 50, True),
        (-0.01, 0.0, 50, True),
        (-0.01, 0.5, 50, False),
        (-0.2, 0.1, 50, False),
        (0.5, 0.1, 19, False),
    ],
)
def test_a_release_is_better_or_surely_not_much_worse(lead: float, noise: float, users: int, passed: bool):
    off = noise * np.random.default_rng(1).normal(size=users)
    theirs = np.full(users, 0.5)
    found = gates.held_out(theirs + lead + off - off.mean(), theirs, than="abc", margin=0.1)
    assert (found.name, found.passed) == ("held out", passed)
    assert str(users) in found.reason


def test_probabilities_that_are_none_or_far_off_are_refused():
    assert gates.calibration(LIVE, LIVE).passed
    half = replace(LIVE, probability=LIVE.probability / 2)
    assert not gates.calibration(half, LIVE).passed
    assert gates.calibration(half, half).passed
    unknown = replace(LIVE, probability=np.full(1000, np.nan, np.float32))
    assert gates.calibration(unknown, LIVE).reason == "probabilities must be finite"


def test_who_lists_few_items_or_one_to_all_or_popular_ones_only_is_refused():
    counts = np.arange(100, dtype=np.float64)
    assert gates.coverage(LIVE, LIVE).passed
    assert gates.exposure(LIVE, LIVE, NAMES).passed
    assert gates.popularity(LIVE, LIVE, counts).passed
    same = replace(LIVE, top=np.tile(np.arange(90, 100), (50, 1)))
    assert not gates.coverage(same, LIVE).passed
    assert not gates.popularity(same, LIVE, counts).passed
    pushed = LIVE.top.copy()
    pushed[:, 0] = 7
    found = gates.exposure(replace(LIVE, top=pushed), LIVE, NAMES)
    assert not found.passed
    assert found.reason.startswith("'i7' is in 1")


def test_who_is_slower_or_larger_is_refused():
    assert gates.latency(4.9, 2.0).passed
    assert not gates.latency(5.1, 2.0).passed
    assert gates.size(replace(LIVE, nbytes=2000), LIVE).passed
    assert not gates.size(replace(LIVE, nbytes=2001), LIVE).passed


@pytest.mark.parametrize(
    ("times_h", "users", "row"),
    [
        (np.arange(10_000) / 5, 200, 9_800),
        (np.arange(10_000) / 40, 200, 9_040),
        (np.arange(10_000) / 1000, 200, 8_000),
        (np.append(np.arange(9_999), 10**6), 200, 9_800),
        (np.arange(10_000) / 5, 50, 8_000),
    ],
    ids=["few hours", "a day", "one burst", "a clock that jumps", "few users"],
)
def test_the_latest_hours_are_held_out_within_bounds_whatever_a_clock_says(times_h, users: int, row: int):
    rng = np.random.default_rng(0)
    log = Log(
        users=rng.integers(users, size=10_000).astype(np.int32),
        items=rng.integers(2_000, size=10_000).astype(np.int32),
        actions=np.ones(10_000, np.int64),
        positive=np.ones(10_000, np.bool_),
        times_ms=(times_h * 3_600_000).astype(np.int64),
        n_users=users,
        n_items=2_000,
    )
    assert abs(held_out_from(log, 24.0) - row) <= 1
