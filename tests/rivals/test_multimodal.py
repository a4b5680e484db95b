from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.network.fusion import MODES
from tests.benchmarks.rivals.interactions import Interactions, interaction_graph
from tests.benchmarks.rivals.multimodal import MultimodalConfig, MultimodalGraph, fit_multimodal

N_USERS, N_ITEMS, N_GROUPS, N_NEW = 60, 40, 4, 4
QUICK = MultimodalConfig(dim=8, neighbours=3, batch=64, negatives=20, epochs=16, learning_rate=0.03)
Halves = tuple[Interactions, Interactions, Interactions, dict[str, np.ndarray]]


def pairs(users: object, items: object) -> Interactions:
    return Interactions(np.asarray(users, np.int64), np.asarray(items, np.int64), N_USERS, N_ITEMS)


def tastes(seed: int = 0) -> Halves:
    """Users who like one group of items each: train, validation, cold items' pairs, features.

    The last items of each group are in nobody's training part; "image" tells the group, "audio" is noise.
    """
    rng = np.random.default_rng(seed)
    group = np.arange(N_ITEMS) % N_GROUPS
    known = np.arange(N_ITEMS) < N_ITEMS - N_NEW
    parts: dict[str, list[tuple[int, int]]] = {"train": [], "validation": [], "cold": []}
    for user in range(N_USERS):
        liked = rng.permutation(np.flatnonzero((group == user % N_GROUPS) & known))[:6]
        parts["train"] += [(user, item) for item in liked[:4]]
        parts["validation"] += [(user, item) for item in liked[4:]]
        parts["cold"] += [(user, item) for item in np.flatnonzero((group == user % N_GROUPS) & ~known)]
    image = np.eye(N_GROUPS)[group] + rng.normal(size=(N_ITEMS, N_GROUPS)) * 0.1
    features = {"image": image, "audio": rng.normal(size=(N_ITEMS, 3))}
    return (
        *(pairs(*np.array(parts[name]).T) for name in ("train", "validation", "cold")),
        {name: values.astype(np.float32) for name, values in features.items()},
    )


def share_found(scores: np.ndarray, held: Interactions, seen: Interactions, k: int) -> float:
    scores = scores.copy()
    scores[seen.users, seen.items] = -np.inf
    rank = (scores[held.users] > scores[held.users, held.items][:, None]).sum(1)
    return float((rank < k).mean())


@pytest.mark.parametrize("mode", MODES)
def test_every_fusion_learns_what_users_like(mode: str) -> None:
    train, validation, _, features = tastes()
    model = fit_multimodal(train, validation, features, replace(QUICK, fusion=mode), k=5)
    counts = np.bincount(train.items, minlength=N_ITEMS)
    scores = model.scores(np.arange(N_USERS))
    assert scores.shape == (N_USERS, N_ITEMS)
    floor = share_found(np.tile(counts.astype(float), (N_USERS, 1)), validation, train, 5)
    assert share_found(scores, validation, train, 5) > 2 * floor


def test_lightgcn_learns_what_users_like() -> None:
    train, validation, _, _ = tastes()
    config = replace(MultimodalConfig.lightgcn(), dim=8, negatives=20, epochs=16)
    assert max(fit_multimodal(train, validation, {}, config, k=5).curve) > 0.5


def test_items_that_nobody_met_are_found_by_their_features() -> None:
    train, _, cold, features = tastes()
    unmet = cold.items
    found = {}
    for name in ("image", "audio"):
        # Looking at cold items says which epoch is best for them, alike for both.
        model = fit_multimodal(train, cold, {name: features[name]}, QUICK, k=2)
        scores = model.scores(np.arange(N_USERS))[:, np.unique(unmet)]
        own = np.unique(unmet)[None, :] % N_GROUPS == (np.arange(N_USERS) % N_GROUPS)[:, None]
        found[name] = (scores.argmax(1) == own.argmax(1)).mean()
    assert found["image"] > 0.9
    assert found["image"] > found["audio"] + 0.3


def test_the_epoch_that_validates_best_is_kept() -> None:
    train, validation, _, features = tastes()
    model = fit_multimodal(train, validation, features, replace(QUICK, learning_rate=0.2), k=3)
    assert min(model.curve) < max(model.curve)
    assert share_found(model.scores(np.arange(N_USERS)), validation, train, 3) == max(model.curve)


def test_the_same_seed_gives_the_same_model() -> None:
    train, validation, _, features = tastes()
    config = replace(QUICK, epochs=2)
    first, second, other = (
        fit_multimodal(train, validation, features, replace(config, seed=seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.items, second.items)
    assert (first.items != other.items).any()


def test_a_user_is_what_the_met_items_are_and_an_unmet_items_id_means_nothing() -> None:
    train, _, cold, features = tastes()
    without = pairs(train.users[train.users > 0], train.items[train.users > 0])
    model = MultimodalGraph(without, features, QUICK)
    graph = interaction_graph(without, 0.5)
    with torch.no_grad():
        users, items = model(model.parts(), model.present, graph)
        assert not users[0].any()
        assert users[1:].norm(dim=1).allclose(torch.ones(N_USERS - 1))
        model.ids.weight[cold.items] += 5.0
        again = model(model.parts(), model.present, graph)
    torch.testing.assert_close(again, (users, items))


def test_an_item_may_lack_a_modality() -> None:
    train, validation, _, features = tastes()
    features["image"][::3] = np.nan
    model = fit_multimodal(train, validation, features, QUICK, k=5)
    assert np.isfinite(model.items).all()
    assert max(model.curve) > 0.5
