import numpy as np
import pytest

from model_core.signals import ease, low_pass
from model_core.signals.ease import fit_ease

N_USERS, N_ITEMS = 60, 30


def likes(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.unique(np.random.default_rng(seed).integers(N_USERS * N_ITEMS, size=n))
    return (pairs // N_ITEMS).astype(np.int32), (pairs % N_ITEMS).astype(np.int32)


def by_definition(users: np.ndarray, items: np.ndarray, rank: int) -> np.ndarray:
    x = np.zeros((N_USERS, N_ITEMS))
    x[users, items] = 1
    degree = x.sum(0) ** low_pass.TEMPER
    vectors = np.linalg.svd(x / np.sqrt(x.sum(1, keepdims=True)) / degree)[2][:rank].T
    weights: np.ndarray = (vectors / degree[:, None]) @ (vectors * degree[:, None]).T
    return weights


@pytest.mark.parametrize("rank", [4, 29])
def test_likes_are_projected_on_the_first_singular_vectors(
    monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    monkeypatch.setattr(low_pass, "RANK", rank)
    users, items = likes()
    left, right = low_pass.low_pass(users, items)
    assert left.shape == (N_ITEMS, rank)
    np.testing.assert_allclose(left @ right.T, by_definition(users, items, rank), atol=1e-5)


def test_it_is_the_same_every_time_and_of_any_size() -> None:
    users, items = likes()
    for n in (0, 1, 3, len(users)):
        who, what = (np.unique(rows[:n], return_inverse=True)[1] for rows in (users, items))
        one, other = (low_pass.low_pass(who, what) for _ in range(2))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.isfinite(a).all()


def test_users_of_a_few_tastes_have_no_more_directions_than_tastes() -> None:
    users, items = np.repeat(np.arange(N_USERS), 10), (np.arange(N_USERS)[:, None] % 3 * 10 + np.arange(10))
    left, right = low_pass.low_pass(users, items.ravel())
    assert left.shape == right.shape == (N_ITEMS, 3)
    np.testing.assert_allclose(left @ right.T, by_definition(users, items.ravel(), 3), atol=1e-5)


@pytest.mark.parametrize("dense_items", [ease.DENSE_ITEMS, 5])
def test_ease_takes_a_share_of_it_in_catalogues_of_any_size(
    monkeypatch: pytest.MonkeyPatch, dense_items: int
) -> None:
    monkeypatch.setattr(ease, "DENSE_ITEMS", dense_items)
    monkeypatch.setattr(ease, "BLOCK", 7)
    users, items = likes()
    twice = np.tile(users, 2), np.tile(items, 2) + 2  # two items that nobody likes
    plain, mixed = (
        fit_ease(*twice, N_ITEMS + 4, penalty=7.0, low_pass_share=share).dense() for share in (0.0, 0.5)
    )
    expected = 0.5 * by_definition(users, items, low_pass.RANK)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose((mixed - plain)[2:-2, 2:-2], expected, atol=1e-5)
    assert not mixed[:2].any()
    assert not mixed[:, -2:].any()
    few = fit_ease(*twice, N_ITEMS + 4, penalty=7.0, keep=3, low_pass_share=0.5)
    assert ((few.dense() != 0).sum(1) <= 3).all()
