"""When the scores of a release have moved."""

import math
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.trainer.drift import ScoreDrift

N = 1_000


def told(scores: np.ndarray, version: str = "now", **fields: Any) -> list[Any]:
    """Records of slates of ten with these scores, one a second."""
    records = [
        {"model_version": version, "timestamp_ms": 1_000 * n, "slate": [{"score": score} for score in ten]}
        for n, ten in enumerate(scores.reshape(-1, 10).tolist())
    ]
    return [SimpleNamespace(value=msgspec.json.encode(record | fields)) for record in records]


def test_scores_that_stay_what_they_were_have_an_index_near_zero_and_those_that_move_have_not() -> None:
    rng = np.random.default_rng(0)
    drift = ScoreDrift("now", n=N)
    drift.add("feedback", 0, told(rng.beta(2, 8, N)))
    assert drift.index is None
    drift.add("feedback", 0, told(rng.beta(2, 8, N)))
    assert drift.index is not None
    assert drift.index < 0.05
    drift.add("feedback", 1, told(rng.beta(4, 8, N)))  # takes the place of the ones before
    assert drift.index > 0.5
    drift.rebase()
    assert drift.index is None
    drift.add("feedback", 0, told(rng.beta(4, 8, N)))
    assert drift.index < 0.05


def test_the_index_is_the_sum_over_tenths_of_the_first_scores() -> None:
    drift = ScoreDrift("now", n=100)
    drift.add("feedback", 0, told(np.arange(100) / 100))
    drift.add("feedback", 0, told(np.full(100, 0.05)))
    expected = (1 - 0.1) * math.log(1 / 0.1) + 9 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert drift.index == pytest.approx(expected)


def test_what_is_of_another_release_or_a_correction_or_no_record_says_nothing() -> None:
    drift = ScoreDrift("now", n=10)
    scores = np.linspace(0, 1, 10)
    drift.add("feedback", 0, told(scores))
    drift.add("feedback", 0, told(scores, "before"))
    drift.add("feedback", 0, told(scores, correction=True))
    drift.add("feedback", 0, [SimpleNamespace(value=value) for value in (None, b"", b"{", b"[1]")])
    assert drift.index is None
    drift.add("feedback", 0, told(scores))
    assert drift.index == pytest.approx(0.0)


def test_slates_of_one_moment_are_passed_over() -> None:
    drift = ScoreDrift("now", n=20, every_ms=5_000)
    drift.add("feedback", 0, told(np.linspace(0, 1, 200)))  # 20 slates in 20 s, of which 4 are read
    assert drift.index is not None
    drift = ScoreDrift("now", n=30, every_ms=5_000)
    drift.add("feedback", 0, told(np.linspace(0, 1, 200)))
    assert drift.index is None
