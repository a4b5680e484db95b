"""Private sums: how far one user moves them, how much noise there is, and what a policy infers from them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from online_learning.statistics.posterior import LinearPosterior, posterior_of
from online_learning.statistics.private import (
    LEVEL,
    NO_NOISE,
    SHARES,
    Clips,
    SlateRows,
    Sums,
    clipped_sums,
    noises,
    private_sums,
    statistics_of,
)
from online_learning.statistics.relative import RelativeStatistics

DIM = 4
EXPECTED = np.array([1.0, 1.0, 0.0, 0.0])
EVERYTHING = Clips(math.inf, math.inf, math.inf)
LOWER = np.tril_indices(DIM)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
PRECISION = 12.5


def made_rows(users: int = 200, seed: int = 0, dim: int = DIM) -> SlateRows:
    """Rows of users with about ten each, in no order."""
    rng = np.random.default_rng(seed)
    n = 10 * users
    rows = rng.normal(0.0, 0.1, (n, dim)).astype(np.float32)
    rows[:, 0] = 0.3
    rewards = (rng.random(n) < 0.3).astype(np.float64)
    return SlateRows(rng.integers(users, size=n), rows, rng.random(n), rewards)


def chosen(slates: SlateRows, which: np.ndarray) -> SlateRows:
    return SlateRows(*(column[which] for column in slates))


def inferred(statistics: RelativeStatistics, noise: float) -> LinearPosterior:
    """What is believed of the weights with a prior that believes what is expected."""
    gram = statistics.gram / noise + PRECISION * np.eye(DIM)
    return posterior_of(gram, PRECISION * EXPECTED + statistics.moment / noise, version=0)


def lengths(sums: Sums) -> list[float]:
    parts = sums.gram[np.tril_indices(len(sums.gram))], sums.surprises, sums.counts
    return [float(np.linalg.norm(part)) for part in parts]


@settings(max_examples=50, deadline=None)
@given(
    users=arrays.arrays(np.int64, 8, elements=st.integers(0, 2)),
    rows=arrays.arrays(np.float32, (8, DIM), elements=FINITE),
    weights=arrays.arrays(np.float64, 8, elements=st.floats(0.0, 1.0)),
    rewards=arrays.arrays(np.float64, 8, elements=st.floats(allow_nan=False, allow_infinity=False)),
    clips=st.tuples(*[st.floats(1e-3, 1e3)] * 3),
)
def test_a_user_more_or_less_moves_the_sums_by_the_clips_at_most(
    users: np.ndarray, rows: np.ndarray, weights: np.ndarray, rewards: np.ndarray, clips: tuple[float, ...]
) -> None:
    slates = SlateRows(users, rows, weights, rewards)
    total = clipped_sums(slates, EXPECTED, Clips(*clips))
    for user in range(3):
        others = clipped_sums(chosen(slates, users != user), EXPECTED, Clips(*clips))
        moved = Sums(*(whole - part for whole, part in zip(total, others, strict=True)))
        for length, clip in zip(lengths(moved), clips, strict=True):
            assert length <= clip * (1 + 1e-9)


@pytest.mark.parametrize("longest", range(3))
def test_a_user_with_much_moves_one_of_the_sums_by_exactly_its_clip_and_the_others_as_far(
    longest: int,
) -> None:
    slates = chosen(made_rows(), np.arange(500))._replace(users=np.zeros(500, np.int64))
    whole = lengths(clipped_sums(slates, EXPECTED, EVERYTHING))
    clips = np.full(3, math.inf)
    clips[longest] = 0.1 * whole[longest]
    told = lengths(clipped_sums(slates, EXPECTED, Clips(*clips)))
    assert told == pytest.approx([0.1 * length for length in whole])


@pytest.mark.parametrize("name", ["rows", "weights", "rewards"])
def test_numbers_that_are_none_are_refused(name: str) -> None:
    slates = made_rows(2)
    getattr(slates, name)[3] = np.nan
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        clipped_sums(slates, EXPECTED, EVERYTHING)


def test_without_a_promise_the_statistics_are_those_of_the_slates() -> None:
    slates, exact = made_rows(), RelativeStatistics(DIM)
    exact.add_impressions(slates.rows, weights=slates.weights)
    hit = slates.rewards > 0.0
    exact.add_rewards(slates.rows[hit], slates.rewards[hit])
    found = statistics_of(clipped_sums(slates, EXPECTED, EVERYTHING), NO_NOISE, EXPECTED)
    np.testing.assert_allclose(found.gram, exact.gram, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.moment, exact.moment, rtol=1e-9, atol=1e-9)
    assert (found.impressions, found.rewards) == (exact.impressions, exact.rewards)


def test_the_noise_is_symmetric_drawn_once_and_as_large_as_the_accounting_says() -> None:
    dim, sigma, clips = 60, 1.5, Clips(3.0, 0.5, 20.0)
    slates, expected = made_rows(50, dim=dim), np.zeros(dim)
    exact, rng = clipped_sums(slates, expected, clips), np.random.default_rng(1)
    told = [private_sums(slates, expected, clips=clips, sigma=sigma, rng=rng) for _ in range(60)]
    assert all(np.array_equal(sums.gram, sums.gram.T) for sums, _ in told)
    lower = np.tril_indices(dim)
    drawn = (
        np.concatenate([(sums.gram - exact.gram)[lower] for sums, _ in told]),
        np.concatenate([sums.surprises - exact.surprises for sums, _ in told]),
        np.concatenate([sums.counts - exact.counts for sums, _ in told]),
    )
    for noise, deviation in zip(drawn, noises(sigma, clips), strict=True):
        spread = 4.0 / math.sqrt(2.0 * len(noise))  # four standard deviations of the estimate
        assert noise.std() == pytest.approx(deviation, rel=spread)
        assert abs(noise.mean()) < 4.0 * deviation / math.sqrt(len(noise))
    assert {noise for _, noise in told} == {noises(sigma, clips)}


@settings(max_examples=20)
@given(st.floats(0.01, 100.0), st.tuples(*[st.floats(0.01, 100.0)] * 3))
def test_all_noises_together_spend_what_is_promised(sigma: float, clips: tuple[float, ...]) -> None:
    together = math.hypot(
        *(clip / noise for clip, noise in zip(clips, noises(sigma, Clips(*clips)), strict=True))
    )
    assert 1.0 / together == pytest.approx(sigma)
    assert sum(SHARES) == pytest.approx(1.0)


def test_what_is_inferred_is_the_posterior_given_surprises_with_noise() -> None:
    sums, noise = clipped_sums(made_rows(20), EXPECTED, EVERYTHING), 0.3
    surprises = sums.surprises + np.random.default_rng(0).normal(0.0, noise, DIM)
    statistics = statistics_of(sums._replace(surprises=surprises), Clips(0.0, noise, 0.0), EXPECTED)
    rate = sums.counts[1] / sums.counts[0]
    variance = rate * (1.0 - rate)
    found = inferred(statistics, variance)
    # surprises ~ N(gram w, variance gram + noise^2 I) of w ~ N(0, scale^-2 / precision): weights, less the
    # expected, of rows with their level shortened
    scale = np.array([LEVEL, 1.0, 1.0, 1.0])
    told = sums.gram @ np.linalg.inv(variance * sums.gram + noise**2 * np.eye(DIM))
    precision = np.diag(PRECISION * scale**2) + told @ sums.gram
    weights = np.linalg.solve(precision, told @ surprises)
    np.testing.assert_allclose(found.mean, EXPECTED + weights * scale, rtol=1e-6)
    spread = np.linalg.inv(precision) * scale * scale[:, None]
    np.testing.assert_allclose(found.root @ found.root.T, spread, atol=1e-9)


def test_nothing_is_inferred_from_noise_alone() -> None:
    nobody, rng = chosen(made_rows(), np.zeros(0, np.int64)), np.random.default_rng(0)
    clips = Clips.of(20.0, 0.3)
    told = [private_sums(nobody, EXPECTED, clips=clips, sigma=3.7, rng=rng) for _ in range(100)]
    found = [statistics_of(sums, noise, EXPECTED) for sums, noise in told]
    assert sum(not one.gram.any() for one in found) >= 80  # else an eigenvalue was beyond the edge
    for one in found:
        assert one.impressions >= one.rewards >= 0
        assert inferred(one, 0.25).mean == pytest.approx(EXPECTED, abs=0.1)


def test_with_many_users_the_noise_is_little() -> None:
    slates, clips = made_rows(4_000), Clips.of(20.0, 0.3)
    exact = statistics_of(clipped_sums(slates, EXPECTED, clips), NO_NOISE, EXPECTED)
    told = private_sums(slates, EXPECTED, clips=clips, sigma=1.0811618, rng=np.random.default_rng(0))
    found = statistics_of(*told, EXPECTED)
    np.testing.assert_allclose(inferred(found, 0.2).mean, inferred(exact, 0.2).mean, atol=0.03)
    assert found.rewards / found.impressions == pytest.approx(exact.rewards / exact.impressions, rel=0.03)
