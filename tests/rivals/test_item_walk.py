import numpy as np
import pytest
from scipy import sparse

from tests.benchmarks.rivals.interactions import Interactions
from tests.benchmarks.rivals.item_walk import WalkConfig, covisits, fit_walk, tune_walk

N_USERS, N_ITEMS, N_GROUPS = 50, 24, 3
GROUP = np.arange(N_ITEMS) % N_GROUPS
CONFIG = WalkConfig(kept=10, neighbours=5)


def split(seed: int = 0) -> tuple[Interactions, Interactions, dict[str, np.ndarray]]:
    """Users of one group each; the last three items, one of each group, are only in the held-out part."""
    rng = np.random.default_rng(seed)
    train, held = [], []
    for user in range(N_USERS):
        liked = rng.permutation(np.flatnonzero((user % N_GROUPS == GROUP) & (np.arange(N_ITEMS) < 21)))
        train += [(user, item) for item in liked[:3]]
        held += [(user, liked[3]), (user, 21 + user % N_GROUPS)]
    image = np.eye(N_GROUPS)[GROUP] + rng.normal(size=(N_ITEMS, N_GROUPS)) * 0.05
    features = {"image": image.astype(np.float32), "audio": rng.normal(size=(N_ITEMS, 4)).astype(np.float32)}
    return (*(Interactions(*np.array(rows).T, N_USERS, N_ITEMS) for rows in (train, held)), features)


def test_covisits_follow_their_formula() -> None:
    x = (np.random.default_rng(1).random((40, 12)) < 0.3).astype(np.float64)
    size = np.maximum(x.sum(1), 1)
    config = WalkConfig(user_discount=1.3, item_discount=0.4, kept=12)
    expected = x.T @ (x * size[:, None] ** -1.3)
    expected *= (x * size[:, None] ** -1.3).sum(0)[:, None] ** -0.4
    np.fill_diagonal(expected, 0)
    got = covisits(sparse.csr_matrix(x.astype(np.float32)), size, config).toarray()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_only_the_strongest_covisits_are_kept() -> None:
    x = sparse.csr_matrix((np.random.default_rng(1).random((40, 12)) < 0.5).astype(np.float32))
    size = np.asarray(x.sum(1)).ravel()
    whole, cut = (covisits(x, size, WalkConfig(kept=kept)).toarray() for kept in (12, 3))
    least = -np.sort(-whole, axis=1)[:, 2:3]
    np.testing.assert_array_equal(cut, np.where(whole >= least, whole, 0))


def test_each_path_brings_mass_one_on_the_mean() -> None:
    train, _, features = split()
    walk = fit_walk(train, features, CONFIG)
    assert set(walk.names) == {
        "met", "met+met", "popularity", "image", "met+image", "image+met", "audio", "met+audio", "audio+met"
    }  # fmt: skip
    for name in walk.names:
        assert walk.path(name, np.arange(N_USERS)).sum(1).mean() == pytest.approx(1.0, rel=1e-4)


def test_scores_are_the_weighted_sum_of_paths() -> None:
    train, _, features = split()
    walk = fit_walk(train, features, CONFIG)
    users = np.array([3, 1])
    got = walk.scores(users, {"met": 1.0, "image": 0.3, "popularity": 0.0})
    np.testing.assert_allclose(got, walk.path("met", users) + 0.3 * walk.path("image", users), rtol=1e-5)


def test_items_nobody_met_are_reached_by_a_modality_and_by_no_other_path() -> None:
    train, _, features = split()
    walk = fit_walk(train, features, CONFIG)
    users = np.arange(N_USERS)
    for name in ("met", "met+met", "popularity", "image+met"):
        assert not walk.path(name, users)[:, 21:].any()
    for name in ("image", "met+image"):
        assert (walk.path(name, users)[:, 21:].argmax(1) == users % N_GROUPS).mean() > 0.9


def test_an_item_without_features_is_not_reached_by_them() -> None:
    train, _, features = split()
    features["image"][21:] = np.nan
    walk = fit_walk(train, features, CONFIG)
    assert not walk.path("image", np.arange(N_USERS))[:, 21:].any()


def test_tuning_takes_what_helps_and_leaves_out_what_it_is_told() -> None:
    train, held, features = split()
    walk = fit_walk(train, features, CONFIG)
    weights, reached = tune_walk(walk, held, train, k=3)
    blind, without = tune_walk(walk, held, train, k=3, without={"image"})
    assert reached > without
    assert weights["image"] + weights["met+image"] > 0
    assert set(blind) == {name for name in weights if "image" not in name}
    scores = walk.scores(held.users, weights)
    scores[seen(train)[held.users] > 0] = -1.0
    place = (np.argsort(-scores, axis=1) == held.items[:, None]).argmax(1)
    assert reached == pytest.approx(np.where(place < 3, 1 + 1 / np.log2(place + 2), 0).mean())


def seen(train: Interactions) -> np.ndarray:
    matrix = np.zeros((N_USERS, N_ITEMS))
    matrix[train.users, train.items] = 1
    return matrix
