"""What differential privacy rests on: how far one user moves what is told, and how much noise there is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model_core.privacy.config import Privacy
from model_core.privacy.counts import (
    USER,
    PrivateCounts,
    denoised,
    directions_of,
    liked_enough,
    likely_pairs,
    noises,
    private_counts,
    told_of,
    user_vectors,
)
from model_core.privacy.gaussian import gaussian_delta, gaussian_sigma
from model_core.signals.ease import DENSE_ITEMS, fit_ease
from model_core.training.private import private_ease

N = 12


def not_alike(rows: np.ndarray) -> np.ndarray:
    return np.zeros((len(rows), len(rows)))


def told_by(liked: np.ndarray, clip: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Both sums without noise, and the length; what they are told by is the same whoever is in the log."""
    n_users, n = liked.shape
    some = np.sort(np.random.default_rng(0).permutation(n)[: n - 2])
    popularity = np.linspace(0.5, 4.0, n)
    nothing = np.zeros((0, 0))
    counts = PrivateCounts(popularity, 5.0, some, nothing, nothing, 0.0, not_alike(some))
    directions, length = directions_of(counts, clip)
    users, items = np.nonzero(liked)
    vectors = user_vectors(np.tile(users, 2), np.tile(items, 2), n)  # repeats count once
    told = told_of(vectors, counts._replace(directions=directions), length)
    first = np.append(np.asarray(vectors.sum(0)).ravel(), USER * vectors.shape[0])
    return first, told.T @ told, length


@settings(max_examples=100, deadline=None)
@given(
    liked=arrays.arrays(np.bool_, st.tuples(st.integers(2, 8), st.just(N))),
    who=st.integers(0, 7),
    clip=st.floats(0.1, 5.0),
)
def test_a_user_more_or_less_moves_both_sums_by_what_the_noise_is_for(
    liked: np.ndarray, who: int, clip: float
) -> None:
    there = np.arange(len(liked)) != who % len(liked)
    first, products, length = told_by(liked, clip)
    without, fewer, _ = told_by(liked & there[:, None], clip)
    assert np.linalg.norm(first - without) <= math.hypot(1.0, USER) + 1e-9
    # Off the diagonal a number has 1 / sqrt(2) of the noise, and stands twice: the whole matrix's length.
    assert np.linalg.norm(products - fewer) <= length**2 * (1 + 1e-9)


def test_a_user_with_much_moves_the_products_by_the_length_squared() -> None:
    _, products, length = told_by(np.ones((1, N), np.bool_), 0.1)
    assert np.linalg.norm(products) == pytest.approx(length**2)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 50.0), st.floats(1e-9, 0.01))
def test_both_noises_together_spend_what_is_promised(epsilon: float, delta: float) -> None:
    on_items, on_pairs = noises(Privacy(epsilon=epsilon, delta=delta))
    together = 1.0 / math.hypot(1.0 / on_items, 1.0 / on_pairs)
    assert together == pytest.approx(gaussian_sigma(epsilon, delta))
    assert gaussian_delta(epsilon, together) == pytest.approx(delta, rel=1e-6)


def test_without_a_promise_the_counts_and_ease_are_those_without_privacy() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(30, size=400).astype(np.int32), rng.integers(40, size=400).astype(np.int32)
    x = np.zeros((30, 50))
    x[users, items] = 1.0
    counts = private_counts(users, items, 50, not_alike, Privacy(), rng)
    assert (counts.popularity == x.sum(0)).all()
    assert (likely_pairs(counts) == (x.T @ x)[np.ix_(counts.known, counts.known)]).all()
    assert counts.users == 30
    assert counts.edge == 0.0
    assert (private_ease(counts, 50, keep=20).dense() == fit_ease(users, items, 50, keep=20).dense()).all()


def test_the_noise_is_symmetric_drawn_once_and_as_large_as_the_accounting_says() -> None:
    rng = np.random.default_rng(1)
    users, items = np.repeat(np.arange(3000), 4), rng.integers(200, size=12_000)
    privacy = Privacy(epsilon=4.0, clip=0.5)
    counts = private_counts(users, items, 200, not_alike, privacy, rng)
    assert len(counts.known) == 200  # all are liked enough
    vectors = user_vectors(users, items, 200)
    directions, length = directions_of(counts, privacy.clip)
    assert (directions == counts.directions).all()
    told = told_of(vectors, counts, length)
    noise = counts.products - told.T @ told
    assert np.allclose(noise, noise.T)
    on_items, on_pairs = noises(privacy)
    assert (on_items, on_pairs) == pytest.approx((1.0811618 / 0.25**0.5, 1.0811618 / 0.75**0.5), rel=1e-6)
    drawn, scale = noise[np.triu_indices(200, 1)], on_pairs * length**2
    assert drawn.std() == pytest.approx(scale / math.sqrt(2.0), rel=0.03)
    assert noise.diagonal().std() == pytest.approx(scale, rel=0.2)
    assert abs(drawn.mean()) < 4 * scale / math.sqrt(len(drawn))
    of_items = counts.popularity - np.asarray(vectors.sum(0)).ravel()
    assert of_items.std() == pytest.approx(on_items * math.hypot(1.0, USER), rel=0.2)
    assert np.abs(np.linalg.eigvalsh(noise)).max() == pytest.approx(counts.edge, rel=0.1)


def test_nothing_but_the_noisy_popularity_decides_what_the_products_are_told_by() -> None:
    counts = [
        private_counts(*events, 40, not_alike, Privacy(epsilon=4.0), np.random.default_rng(5))
        for events in (
            (np.repeat(np.arange(30), 2), np.tile([0, 1], 30)),
            (np.repeat(np.arange(30), 2), np.tile([0, 1, 0, 1], 15)),
        )
    ]
    assert (counts[0].popularity == counts[1].popularity).all()
    assert (counts[0].directions == counts[1].directions).all()


def test_pairs_are_counted_of_items_that_are_liked_enough_to_be_told_from_noise() -> None:
    popularity = np.array([0.0, 90.0, 1.0, 80.0, 70.0, *np.linspace(0.5, 0.0, 40)])
    assert liked_enough(popularity, 200.0).tolist() == sorted(np.argsort(-popularity)[:20].tolist())
    assert set(liked_enough(popularity, 0.01)) > {1, 2, 3, 4}
    steady = np.full(400, 7.0)
    assert len(liked_enough(steady, 2.0)) == 100  # 7 = .35 * 2 * sqrt(100)
    assert len(liked_enough(steady, 4.0)) == 25


def test_denoising_is_nearer_to_what_was_there_than_the_eigenvalues_themselves_are() -> None:
    rng = np.random.default_rng(3)
    n, sigma = 300, 1.0
    edge = 2 * sigma * math.sqrt(n)
    one = np.linalg.qr(rng.normal(size=(n, 2)))[0]
    pure = one @ np.diag([4 * edge, edge]) @ one.T
    noise = np.triu(rng.normal(0.0, sigma, (n, n)))
    noise += np.triu(noise, 1).T
    found = denoised(pure + noise, edge)
    values, vectors = np.linalg.eigh(pure + noise)
    cut = (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T
    assert np.linalg.matrix_rank(found, tol=0.1 * edge) == 2
    assert np.linalg.norm(found - pure) < 0.95 * np.linalg.norm(cut - pure)


def test_what_goes_together_stands_out_of_the_pairs_and_items_that_are_alike_help() -> None:
    rng = np.random.default_rng(4)
    kinds = np.arange(40) % 2
    x = rng.random((2000, 40)) < np.where(kinds == rng.integers(2, size=2000)[:, None], 0.3, 0.1)
    alike = np.equal.outer(kinds, kinds).astype(float)

    def apart(similar: object, users: int) -> float:
        """How much more weight items of a kind have on each other than on the others."""
        counts = private_counts(*np.nonzero(x[:users]), 40, similar, Privacy(epsilon=4.0), rng)  # type: ignore[arg-type]
        weights = private_ease(counts, 40, keep=40).dense()
        return float(weights[alike == 1].sum() - weights[alike == 0].sum())

    assert apart(not_alike, 2000) > 1.0
    few = [apart(similar, 60) for similar in (not_alike, lambda rows: alike[np.ix_(rows, rows)])]
    assert few[1] > few[0]


def test_ease_of_noise_alone_says_next_to_nothing() -> None:
    nobody = np.zeros(0, np.int64)
    counts = private_counts(nobody, nobody, 60, not_alike, Privacy(epsilon=1.0), np.random.default_rng(2))
    assert len(counts.known) >= 20
    ease = private_ease(counts, 60, keep=60)
    assert np.isfinite(ease.weights).all()
    assert np.abs(ease.weights).max() < 0.2


def test_a_catalogue_that_nobody_likes_anything_of_is_noise_and_finite() -> None:
    nobody = np.zeros(0, np.int64)
    for seed in range(8):  # in half of them the one item's popularity is below 0
        counts = private_counts(
            nobody, nobody, 1, not_alike, Privacy(epsilon=4.0), np.random.default_rng(seed)
        )
        assert np.isfinite(private_ease(counts, 1, keep=1).weights).all()
        assert np.isfinite(counts.products).all()


def test_more_items_than_a_matrix_holds_are_refused() -> None:
    none = private_counts(
        np.zeros(1, np.int64), np.zeros(1, np.int64), 1, not_alike, Privacy(), np.random.default_rng(0)
    )
    with pytest.raises(ValueError, match=r"items must be at most 4096 where epsilon is set.*got 4097"):
        private_ease(none._replace(popularity=np.zeros(DENSE_ITEMS + 1)), DENSE_ITEMS + 1)
