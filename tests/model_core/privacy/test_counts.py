"""What differential privacy rests on: how far one user moves the counts, and how much noise there is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model_core.privacy.config import Privacy
from model_core.privacy.counts import (
    PrivateCounts,
    clipped_counts,
    clipped_popularity,
    denoised,
    liked_enough,
    noises,
    private_counts,
)
from model_core.privacy.gaussian import gaussian_delta, gaussian_sigma
from model_core.signals.ease import DENSE_ITEMS, fit_ease
from model_core.training.private import private_ease

N = 12


@settings(max_examples=100, deadline=None)
@given(
    liked=arrays.arrays(np.bool_, st.tuples(st.integers(2, 8), st.just(N))),
    who=st.integers(0, 7),
    clip=st.floats(0.1, 20.0),
)
def test_a_user_more_or_less_moves_the_counts_by_the_clip_at_most(
    liked: np.ndarray, who: int, clip: float
) -> None:
    users, items = np.nonzero(liked)
    there = users != who % len(liked)
    twice = np.concatenate((users, users)), np.concatenate((items, items))  # repeats count once
    moved = clipped_counts(*twice, N, clip) - clipped_counts(users[there], items[there], N, clip)
    upper = moved[np.triu_indices(N)]
    assert np.linalg.norm(upper) <= clip * (1 + 1e-9)


def test_a_user_with_much_moves_the_counts_by_exactly_the_clip() -> None:
    counts = clipped_counts(np.zeros(N, np.int64), np.arange(N), N, 5.0)
    assert np.linalg.norm(counts[np.triu_indices(N)]) == pytest.approx(5.0)


@settings(max_examples=100, deadline=None)
@given(liked=arrays.arrays(np.bool_, st.tuples(st.integers(2, 8), st.just(N))), who=st.integers(0, 7))
def test_a_user_more_or_less_moves_the_popularity_of_items_by_one_at_most(
    liked: np.ndarray, who: int
) -> None:
    users, items = np.nonzero(liked)
    there = users != who % len(liked)
    twice = np.concatenate((users, users)), np.concatenate((items, items))  # repeats count once
    moved = clipped_popularity(*twice, N) - clipped_popularity(users[there], items[there], N)
    assert np.linalg.norm(moved) <= 1 + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 50.0), st.floats(1e-9, 0.01), st.floats(0.5, 9.0))
def test_both_noises_together_spend_what_is_promised(epsilon: float, delta: float, clip: float) -> None:
    # dp-accounting 0.6.0 composes sigmas of 1.0811618 / sqrt(.1) and / sqrt(.9) to an epsilon of 4.0000002.
    on_items, on_pairs = noises(Privacy(epsilon=epsilon, delta=delta, clip=clip))
    together = 1.0 / math.hypot(1.0 / on_items, clip / on_pairs)
    assert together == pytest.approx(gaussian_sigma(epsilon, delta))
    assert gaussian_delta(epsilon, together) == pytest.approx(delta, rel=1e-6)


def test_without_a_promise_the_counts_and_ease_are_those_without_privacy() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(30, size=400).astype(np.int32), rng.integers(40, size=400).astype(np.int32)
    x = np.zeros((30, 50))
    x[users, items] = 1.0
    counts = private_counts(users, items, 50, Privacy(), rng)
    assert (counts.popularity == x.sum(0)).all()
    assert (counts.pairs == (x.T @ x)[np.ix_(counts.known, counts.known)]).all()
    assert counts.edge == 0.0
    assert (private_ease(counts, 50, keep=20).dense() == fit_ease(users, items, 50, keep=20).dense()).all()


def test_the_noise_is_symmetric_drawn_once_and_as_large_as_the_accounting_says() -> None:
    rng = np.random.default_rng(1)
    users, items = np.repeat(np.arange(3000), 4), rng.integers(200, size=12_000)
    privacy = Privacy(epsilon=4.0, clip=3.0)
    counts = private_counts(users, items, 200, privacy, rng)
    assert len(counts.known) == 200  # all are liked enough
    noise = counts.pairs - clipped_counts(users, items, 200, 3.0)
    assert np.allclose(noise, noise.T)
    drawn, on_pairs = noise[np.triu_indices(200)], 3.0 * 1.0811618 / math.sqrt(0.9)
    assert noises(privacy) == pytest.approx((1.0811618 / math.sqrt(0.1), on_pairs), rel=1e-6)
    assert drawn.std() == pytest.approx(on_pairs, rel=0.03)
    assert abs(drawn.mean()) < 4 * on_pairs / math.sqrt(len(drawn))
    told = counts.popularity - clipped_popularity(users, items, 200)
    assert told.std() == pytest.approx(1.0811618 / math.sqrt(0.1), rel=0.2)
    assert np.abs(np.linalg.eigvalsh(noise)).max() == pytest.approx(counts.edge, rel=0.1)


def test_pairs_are_counted_of_items_that_are_liked_enough_to_be_told_from_noise() -> None:
    popularity = np.array([0.0, 90.0, 1.0, 80.0, 70.0, *np.linspace(0.5, 0.0, 40)])
    assert liked_enough(popularity, 100.0).tolist() == sorted(np.argsort(-popularity)[:20].tolist())
    assert set(liked_enough(popularity, 0.01)) > {1, 2, 3, 4}
    steady = np.full(400, 7.0)
    assert len(liked_enough(steady, 1.0)) == 100  # 7 = .7 * sqrt(100)
    assert len(liked_enough(steady, 2.0)) == 25


def test_denoising_finds_the_eigenvalues_that_noise_has_moved() -> None:
    rng = np.random.default_rng(3)
    n, sigma = 300, 1.0
    edge = 2 * sigma * math.sqrt(n)
    one = np.linalg.qr(rng.normal(size=(n, 2)))[0]
    pure = one @ np.diag([4 * edge, edge]) @ one.T
    noise = np.triu(rng.normal(0.0, sigma, (n, n)))
    found = np.linalg.eigvalsh(denoised(pure + noise + np.triu(noise, 1).T, edge))
    assert found[-2:] == pytest.approx([edge, 4 * edge], rel=0.05)
    assert np.abs(found[:-3]).max() < 0.6 * edge  # what is left of noise is at most half its edge


def test_ease_of_noise_alone_says_next_to_nothing() -> None:
    nobody = np.zeros(0, np.int64)
    counts = private_counts(nobody, nobody, 60, Privacy(epsilon=1.0), np.random.default_rng(2))
    assert len(counts.known) >= 20
    ease = private_ease(counts, 60, keep=60)
    assert np.isfinite(ease.weights).all()
    assert np.abs(ease.weights).max() < 0.2


def test_more_items_than_a_matrix_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"items must be at most 4096 where epsilon is set.*got 4097"):
        private_ease(
            PrivateCounts(np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 0)), 0.0), DENSE_ITEMS + 1
        )
