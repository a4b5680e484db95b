"""What differential privacy rests on: how far one user moves the counts, and how much noise there is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model_core.privacy.config import Privacy
from model_core.privacy.counts import (
    clipped_counts,
    gaussian_delta,
    gaussian_sigma,
    noise_of,
    private_counts,
)
from model_core.signals.ease import DENSE_ITEMS, fit_ease
from model_core.training.private import private_ease

N = 12


@pytest.mark.parametrize(
    ("epsilon", "delta", "sigma"),
    [(1.0, 1e-5, 3.7306316), (4.0, 1e-5, 1.0811618), (8.0, 1e-5, 0.6002291), (0.5, 1e-6, 8.0576185)],
)
def test_the_noise_is_that_of_another_accountant(epsilon: float, delta: float, sigma: float) -> None:
    # Of dp-accounting 0.6.0: calibrate_dp_mechanism, PLDAccountant, GaussianDpEvent.
    assert gaussian_sigma(epsilon, delta) == pytest.approx(sigma, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 500.0), st.floats(1e-12, 0.5))
def test_the_noise_spends_delta_and_no_more(epsilon: float, delta: float) -> None:
    sigma = gaussian_sigma(epsilon, delta)
    assert gaussian_delta(epsilon, sigma) == pytest.approx(delta, rel=1e-6)
    assert gaussian_delta(epsilon, 0.99 * sigma) > delta


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


def test_without_a_promise_the_counts_and_ease_are_those_without_privacy() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(30, size=400).astype(np.int32), rng.integers(40, size=400).astype(np.int32)
    x = np.zeros((30, 50))
    x[users, items] = 1.0
    counts = private_counts(users, items, 50, Privacy(), rng)
    assert (counts == x.T @ x).all()
    assert (
        private_ease(counts, Privacy(), keep=20).dense() == fit_ease(users, items, 50, keep=20).dense()
    ).all()


def test_the_noise_is_symmetric_drawn_once_and_as_large_as_the_accounting_says() -> None:
    rng = np.random.default_rng(1)
    users, items = rng.integers(20, size=300), rng.integers(200, size=300)
    privacy = Privacy(epsilon=4.0, clip=3.0)
    noise = private_counts(users, items, 200, privacy, rng) - clipped_counts(users, items, 200, 3.0)
    assert np.allclose(noise, noise.T)
    drawn = noise[np.triu_indices(200)]
    assert noise_of(privacy) == pytest.approx(3.0 * 1.0811618, rel=1e-6)
    assert drawn.std() == pytest.approx(noise_of(privacy), rel=0.03)
    assert abs(drawn.mean()) < 4 * noise_of(privacy) / math.sqrt(len(drawn))


def test_ease_of_noise_alone_is_small_and_knows_every_item() -> None:
    """Which items nobody likes is told by no gap."""
    nobody = np.zeros(0, np.int64)
    privacy = Privacy(epsilon=1.0)
    ease = private_ease(
        private_counts(nobody, nobody, 60, privacy, np.random.default_rng(2)), privacy, keep=60
    )
    assert (np.diff(ease.bounds) == 60).all()
    assert np.isfinite(ease.weights).all()


def test_more_items_than_a_matrix_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"items must be at most 4096 where epsilon is set.*got 4097"):
        private_ease(np.broadcast_to(0.0, (DENSE_ITEMS + 1, DENSE_ITEMS + 1)), Privacy(epsilon=1.0))
