"""What becomes of a canary, by records of its slates and of the live release's."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from streams.experiments.shares import in_share
from streams.releases.changes import ReleaseChange, Trial
from streams.releases.comparison import CANARY, LIVE, Comparison

FIRST, SECOND = "a" * 12, "b" * 12
HOUR_MS = 3_600_000
TRIAL = Trial(share=0.25, least_slates=500, longest_s=7200.0, harm=0.05)


@dataclass
class Told:
    """A record, as far as it is read."""

    value: bytes | None


def begun(trial: Trial = TRIAL) -> Comparison:
    return Comparison(ReleaseChange("canary", SECOND, "ann", 0, trial=trial), FIRST)


def record(user: str, version: str, reward: float, number: int, **fields: object) -> Told:
    said = {
        "request_id": f"r{number}", "user_id": user, "model_version": version, "rewards": [0.0, reward],
        **fields,
    }  # fmt: skip
    return Told(msgspec.json.encode(said))


def slates(live: float, canary: float, n: int, *, seed: int = 0, users: int = 5000) -> Iterable[Told]:
    """Slates of users of both sides, which are taken with such probabilities."""
    rng = np.random.default_rng(seed)
    names = [f"u{user}" for user in rng.integers(0, users, n)]
    inside = in_share(names, SECOND, TRIAL.share)
    taken = rng.random(n) < np.where(inside, canary, live)
    for number, (user, there, reward) in enumerate(zip(names, inside, taken, strict=True)):
        yield record(user, SECOND if there else FIRST, float(reward), number)


def after(comparison: Comparison, told: Iterable[Told]) -> Comparison:
    comparison.add("feedback", 0, list(told))
    return comparison


@pytest.mark.parametrize(
    ("live", "canary", "n", "hours", "promote", "said"),
    [
        (0.3, 0.4, 20_000, 0.1, True, "surely not less by 5%"),
        (0.3, 0.2, 20_000, 0.1, False, "surely less"),
        (0.3, 0.3, 4_000, 0.1, None, ""),
        (0.3, 0.31, 4_000, 2.0, True, "on average not less after 2 h"),
        (0.3, 0.28, 4_000, 2.0, False, "on average less after 2 h"),
        (0.3, 0.9, 1_000, 0.1, None, ""),
        (0.3, 0.9, 1_000, 2.0, False, "at least 500 of either"),
        (0.0, 0.0, 20_000, 0.1, None, ""),
        (0.0, 0.0, 20_000, 2.0, False, "that something was earned"),
    ],
)
def test_a_canary_is_promoted_or_rolled_back_as_soon_as_it_is_known_and_at_the_end_by_the_average(
    live: float, canary: float, n: int, hours: float, promote: bool | None, said: str
) -> None:
    outcome = after(begun(), slates(live, canary, n)).outcome(int(hours * HOUR_MS))
    assert (None if outcome is None else outcome.promote) is promote
    if outcome is not None:
        assert said in outcome.gate.reason
        assert outcome.gate.passed is promote
        assert all(np.isfinite(list(outcome.gate.figures.values())))


def test_few_users_say_nothing_however_many_slates_they_have() -> None:
    few = after(begun(), slates(0.1, 0.9, 20_000, users=60))
    assert few.counted.min() > TRIAL.least_slates
    assert few.outcome(0) is None


def test_records_in_any_pieces_and_told_again_say_the_same() -> None:
    told = list(slates(0.2, 0.4, 3_000))
    whole, pieces = after(begun(), told), begun()
    for start in range(0, len(told), 7):
        after(pieces, told[max(0, start - 3) : start + 7])
    assert np.array_equal(whole.slates, pieces.slates)
    assert np.array_equal(whole.earned, pieces.earned)


def test_what_is_of_neither_side_is_passed_over() -> None:
    names = [f"u{n}" for n in range(200)]
    inside = in_share(names, SECOND, TRIAL.share).tolist()
    user, other = names[inside.index(True)], names[inside.index(False)]
    comparison = after(begun(), [record(other, FIRST, 1.0, 0)])
    assert comparison.counted.tolist() == [0, 0]  # the canary has made none yet
    after(comparison, [record(user, SECOND, 1.0, 1), record(other, FIRST, 1.0, 2)])
    after(
        comparison,
        [
            record(user, FIRST, 1.0, 3),  # of before, or of a worker that has not read of it yet
            record(other, SECOND, 1.0, 4),
            record(other, "c" * 12, 1.0, 5),
            record(other, FIRST, 0.0, 2, correction=True),
            Told(None),
            Told(b"{}"),
            Told(b"\xff"),
        ],
    )
    assert comparison.counted.tolist() == [1, 1]
    assert comparison.earned.sum(axis=1)[[LIVE, CANARY]].tolist() == [1.0, 1.0]
