import numpy as np
import pytest

from model_core.signals import ease, neighbourhoods
from model_core.signals.ease import fit_ease
from model_core.signals.neighbourhoods import neighbourhood_weights

N_USERS, N_ITEMS = 60, 14


def likes(seed: int = 0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(N_USERS * N_ITEMS, size=n))
    rng.shuffle(pairs)
    return (pairs // N_ITEMS).astype(np.int32), (pairs % N_ITEMS).astype(np.int32)


def closed_form(
    users: np.ndarray, items: np.ndarray, shares: np.ndarray, target: int, over: np.ndarray
) -> np.ndarray:
    x = np.zeros((N_USERS, N_ITEMS))
    x[users, items] = 1
    gram = x.T @ (shares[:, None] * x)
    return np.linalg.solve(gram[np.ix_(over, over)] + 7.0 * np.eye(len(over)), gram[over, target])


@pytest.mark.parametrize("most", [64, 4])
def test_the_weights_on_an_item_are_those_of_ridge_regression_over_its_neighbours(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(neighbourhoods, "NEIGHBOURS", most)
    users, items = likes()
    shares = np.random.default_rng(2).integers(1, 257, N_USERS).astype(np.float32) / 256
    neighbours, weights = neighbourhood_weights(users, items, shares, penalty=7.0)
    for target in range(N_ITEMS):
        over = neighbours[target][neighbours[target] >= 0]
        assert len(over) == min(most, N_ITEMS - 1)
        assert target not in over
        expected = closed_form(users, items, shares, target, over)
        np.testing.assert_allclose(weights[target][: len(over)], expected, atol=1e-5)


def test_over_all_items_they_are_ease(monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = likes()
    exact = fit_ease(users, items, N_ITEMS + 2, penalty=7.0, full_likes=5)
    monkeypatch.setattr(ease, "DENSE_ITEMS", 5)
    near = fit_ease(np.tile(users, 2), np.tile(items, 2), N_ITEMS + 2, penalty=7.0, full_likes=5)
    np.testing.assert_allclose(near.dense(), exact.dense(), atol=1e-5)
    assert (np.diff(near.bounds)[:N_ITEMS] > 0).all()
    assert not np.diff(near.bounds)[N_ITEMS:].any()
    few = fit_ease(users, items, N_ITEMS + 2, penalty=7.0, keep=3)
    assert ((few.dense() != 0).sum(1) <= 3).all()


def test_counts_are_bounded_and_the_highest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = likes(n=2000)
    alike = np.ones(N_USERS, np.float32)
    full, _ = neighbourhood_weights(users, items, alike, penalty=7.0)
    monkeypatch.setattr(neighbourhoods, "COUNTED", 6)
    monkeypatch.setattr(neighbourhoods, "NEIGHBOURS", 6)
    few, weights = neighbourhood_weights(users, items, alike, penalty=7.0)
    x = np.zeros((N_USERS, N_ITEMS))
    x[users, items] = 1
    gram = x.T @ x
    np.fill_diagonal(gram, 0.0)
    for target in range(N_ITEMS):
        kept = gram[target][few[target]]
        assert kept.min() >= np.sort(gram[target])[-6]
    assert np.isfinite(weights).all()
    assert (full >= 0).sum(1).max() == N_ITEMS - 1
