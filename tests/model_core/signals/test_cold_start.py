from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.data.batches import ItemBatch
from model_core.signals.cold_start import (
    ItemFeatures,
    ItemMapping,
    Ridge,
    choose_ridge,
    extend_ease,
    fit_mapping,
    weights_as_new,
)
from model_core.signals.ease import Ease, fit_ease
from tests.model_core.signals.test_ease import dense_scores

N_ITEMS, N_USERS, N_ENTITIES, N_KNOWN = 24, 200, 6, 20
KNOWN, NEW = np.arange(N_KNOWN), np.arange(N_KNOWN, N_ITEMS)
RIDGE = Ridge(graph_weight=2.0, penalty=0.7)


def items(n: int = N_ITEMS) -> ItemBatch:
    """Even items are of one kind, odd ones of the other: their text and their first edge say so."""
    rng = np.random.default_rng(1)
    kind = np.arange(n) % 2
    text = rng.normal(scale=0.3, size=(n, 5)).astype(np.float32)
    text[:, 0] += 2.0 * kind
    entities = np.stack((1 + kind, rng.integers(3, N_ENTITIES + 1, n)), 1)
    there = np.ones(n, np.bool_)
    return ItemBatch(
        text, there, np.zeros((n, 0), np.float32), ~there, np.zeros((n, 0), np.float32), ~there,
        entities, np.ones_like(entities), np.ones(entities.shape, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip


def ease_of_known() -> Ease:
    rng = np.random.default_rng(0)
    users, liked = rng.integers(N_USERS, size=4000), rng.integers(N_ITEMS, size=4000)
    kept = ((users % 2 == liked % 2) | (rng.random(4000) < 0.05)) & (liked < N_KNOWN)
    return fit_ease(users[kept].astype(np.int32), liked[kept].astype(np.int32), N_ITEMS, penalty=10.0)


def kernel(batch: ItemBatch) -> np.ndarray:
    one_hot = np.zeros((len(batch.text), N_ENTITIES + 1))
    np.put_along_axis(one_hot, batch.entities, 2**-0.5, 1)
    text = batch.text - batch.text.mean(0)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return RIDGE.graph_weight * one_hot @ one_hot.T + text @ text.T


def by_mapping(mapping: ItemMapping, batch: ItemBatch) -> np.ndarray:
    return mapping.weights.T @ mapping.places(batch).T


def test_new_items_weigh_what_kernel_ridge_regression_says() -> None:
    ease, batch = ease_of_known(), items()
    similar, wanted = kernel(batch), ease.dense()[:N_KNOWN, :N_KNOWN]
    regular = similar[:N_KNOWN, :N_KNOWN] + RIDGE.penalty * np.eye(N_KNOWN)
    expected = wanted @ np.linalg.solve(regular, similar[:N_KNOWN, N_KNOWN:])
    made = by_mapping(fit_mapping(ease, ItemFeatures(batch, N_ENTITIES), RIDGE), batch)[:N_KNOWN, N_KNOWN:]
    factor = np.linalg.norm(made) / np.linalg.norm(expected)
    np.testing.assert_allclose(made, factor * expected, atol=1e-5)


def test_known_items_are_weighed_as_if_they_were_left_out_one_by_one() -> None:
    ease, batch = ease_of_known(), items()
    similar, wanted = kernel(batch), ease.dense()[:N_KNOWN, :N_KNOWN]
    expected = np.zeros((N_KNOWN, N_KNOWN))
    for out in KNOWN:
        rest = np.delete(KNOWN, out)
        regular = similar[np.ix_(rest, rest)] + RIDGE.penalty * np.eye(N_KNOWN - 1)
        expected[:, out] = wanted[:, rest] @ np.linalg.solve(regular, similar[rest, out])
    made = weights_as_new(ease, ItemFeatures(batch, N_ENTITIES), RIDGE).dense()[:N_KNOWN, :N_KNOWN]
    np.testing.assert_allclose(made, expected * np.linalg.norm(made) / np.linalg.norm(expected), atol=1e-5)
    assert np.linalg.norm(made) == pytest.approx(np.linalg.norm(wanted), rel=1e-4)


def test_a_mapping_and_the_weights_of_training_agree_on_items_without_likes() -> None:
    ease, batch = ease_of_known(), items()
    features = ItemFeatures(batch, N_ENTITIES)
    mapping = fit_mapping(ease, features, RIDGE)
    as_new = weights_as_new(ease, features, RIDGE).dense()
    np.testing.assert_allclose(by_mapping(mapping, batch)[:, NEW], as_new[:, NEW], atol=1e-5)
    np.testing.assert_allclose(features.places(mapping, NEW), mapping.places(batch)[NEW], atol=1e-6)


def test_a_new_item_goes_to_those_who_like_its_kind_and_known_items_stay() -> None:
    ease, batch = ease_of_known(), items()
    weights = by_mapping(fit_mapping(ease, ItemFeatures(batch, N_ENTITIES)), batch)
    extended = extend_ease(ease, weights[:, NEW], NEW)
    np.testing.assert_array_equal(extended.dense()[:, KNOWN], ease.dense()[:, KNOWN])
    scores = dense_scores(extended, [np.array([0, 2, 4]), np.array([1, 3, 5])])[:, NEW]
    assert scores[0, [0, 2]].min() > scores[0, [1, 3]].max()
    assert scores[1, [1, 3]].min() > scores[1, [0, 2]].max()


def test_an_item_that_says_nothing_has_no_weights() -> None:
    ease, batch = ease_of_known(), items()
    mapping = fit_mapping(ease, ItemFeatures(batch, N_ENTITIES))
    batch.edge_mask[NEW], batch.text_mask[NEW] = False, False
    np.testing.assert_array_equal(by_mapping(mapping, batch)[:, NEW], 0.0)


def test_the_graph_counts_more_where_only_it_tells_kinds_apart() -> None:
    ease, batch = ease_of_known(), items()
    batch.text[:, 0] = np.random.default_rng(2).normal(size=N_ITEMS)
    noisy = choose_ridge(ease, ItemFeatures(batch, N_ENTITIES))
    assert noisy.graph_weight > 1.0


def test_the_largest_weights_on_new_items_are_kept() -> None:
    ease, batch = ease_of_known(), items()
    weights = by_mapping(fit_mapping(ease, ItemFeatures(batch, N_ENTITIES)), batch)[:, NEW]
    every, few = (extend_ease(ease, weights, NEW, keep=k).dense()[:, NEW] for k in (256, 2))
    assert ((few != 0).sum(1)[KNOWN] == 2).all()
    kept = np.argsort(-np.abs(every[3]))[:2]
    np.testing.assert_array_equal(np.sort(np.flatnonzero(few[3])), np.sort(kept))


def test_a_log_without_likes_maps_everything_to_nothing(tmp_path: Path) -> None:
    none = np.zeros(0, np.int32)
    ease, features = fit_ease(none, none, N_ITEMS), ItemFeatures(items(), N_ENTITIES)
    mapping = fit_mapping(ease, features)
    np.testing.assert_array_equal(by_mapping(mapping, items()), 0.0)
    np.testing.assert_array_equal(weights_as_new(ease, features, choose_ridge(ease, features)).weights, 0.0)


def test_a_mapping_is_read_as_it_was_written_and_what_is_none_is_refused(tmp_path: Path) -> None:
    batch = items()
    mapping = fit_mapping(ease_of_known(), ItemFeatures(batch, N_ENTITIES))
    mapping.save(tmp_path / "a.npz")
    np.testing.assert_array_equal(ItemMapping.load(tmp_path / "a.npz").places(batch), mapping.places(batch))
    (tmp_path / "b.npz").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"b\.npz' must hold an item mapping"):
        ItemMapping.load(tmp_path / "b.npz")
    for damaged in (
        replace(mapping, weights=mapping.weights[1:]),
        replace(mapping, entities=mapping.entities.astype(np.float64)),
        replace(mapping, entities=np.full_like(mapping.entities, np.inf)),
        replace(mapping, embeddings=dict(mapping.embeddings) | {"text": mapping.embeddings["text"][0]}),
    ):
        damaged.save(tmp_path / "b.npz")
        with pytest.raises(ValueError, match=r"b\.npz' must hold an item mapping: finite float32"):
            ItemMapping.load(tmp_path / "b.npz")


def test_weights_that_do_not_fit_are_refused() -> None:
    ease = ease_of_known()
    with pytest.raises(ValueError, match=r"weights must be of shape \(24, 4\), got \(20, 4\)"):
        extend_ease(ease, np.zeros((20, 4), np.float32), NEW)
    with pytest.raises(ValueError, match="new items must have no weights in EASE, got some"):
        extend_ease(ease, np.zeros((24, 4), np.float32), np.arange(4))
