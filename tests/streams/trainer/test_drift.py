"""When the scores of a release have moved."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.kafka.topics import topic_name
from streams.releases.changes import ReleaseChange
from streams.settings import Settings
from streams.testing.clock import HandClock
from streams.testing.log import MemoryLog
from streams.trainer.drift import SCORES, ScoreDrift
from streams.trainer.drift_follower import LOOK_S, DriftFollower

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


async def test_a_drift_that_a_training_has_answered_is_not_seen_again_when_slates_are_read_again() -> None:
    clock, settings, version = HandClock(), Settings(trainer_drift=0.2, partitions=1), "a" * 12
    log = MemoryLog.of(settings, clock)
    topic, rng = topic_name(settings, "feedback"), np.random.default_rng(0)
    changes = [ReleaseChange("promote", version, "ann", clock.now_ms)]

    def write(a: float) -> None:
        scores = rng.beta(a, 8, (SCORES // 10, 10)).tolist()
        for slate in scores:
            clock.move(60_000)
            row = {
                "model_version": version,
                "timestamp_ms": clock.now_ms,
                "slate": [{"score": score} for score in slate],
            }
            log.append(topic, 0, [(None, msgspec.json.encode(row))])

    async def said() -> list[ReleaseChange]:
        return changes

    async def look(*, wanted: int) -> float | None:
        clock.move(int(LOOK_S * 1000))
        await follower.look()
        assert follower._tail is not None
        async with asyncio.timeout(60):
            await follower._tail.caught_up.wait()
            while follower._tail.position(topic, 0) < wanted:
                await asyncio.sleep(0)
        return await follower.look()

    follower = DriftFollower(settings, log, changes=said, clock=clock)
    write(2)
    write(4)
    drifted = await look(wanted=log.end_offset(topic, 0))
    assert drifted is not None
    assert drifted > 0.2
    follower.answer()
    assert await look(wanted=0) is None
    await follower.stop()  # as when the brokers have been away
    assert await look(wanted=0) is None, "what was answered is read again"
    write(4)
    write(4)
    again = await look(wanted=log.end_offset(topic, 0))
    assert again is not None
    assert again < 0.2
    await follower.stop()
