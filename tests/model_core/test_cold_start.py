import numpy as np
import pytest

from model_core.cold_start import extend_ease, item_mapping
from model_core.ease import Ease, fit_ease

N_ITEMS, N_USERS = 24, 200


def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two tastes; even items are of one, odd items of the other, and their features say so."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(N_USERS, size=4000), rng.integers(N_ITEMS, size=4000)
    same = (users % 2 == items % 2) | (rng.random(4000) < 0.05)
    features = np.stack((np.arange(N_ITEMS) % 2 == 0, np.arange(N_ITEMS) % 2 == 1), 1) + 0.0
    features += rng.normal(scale=0.1, size=features.shape)
    return users[same].astype(np.int32), items[same].astype(np.int32), features @ features.T


def parts() -> tuple[Ease, np.ndarray, np.ndarray, np.ndarray]:
    users, items, kernel = world()
    new, known = np.arange(N_ITEMS - 4, N_ITEMS), np.arange(N_ITEMS - 4)
    old = items < N_ITEMS - 4
    return fit_ease(users[old], items[old], N_ITEMS, penalty=10.0), kernel, known, new


def test_the_mapping_is_that_of_kernel_ridge_regression() -> None:
    _, kernel, known, new = parts()
    expected = np.linalg.inv(kernel[:20, :20] + 0.7 * np.eye(20)) @ kernel[:20, 20:]
    np.testing.assert_allclose(item_mapping(kernel, known, new, penalty=0.7), expected, atol=1e-5)


def test_a_new_item_is_scored_as_the_regression_on_known_scores_says_and_known_ones_as_before() -> None:
    ease, kernel, known, new = parts()
    mapping = item_mapping(kernel, known, new, penalty=1.0)
    extended = extend_ease(ease, mapping, known, new)
    np.testing.assert_array_equal(extended.dense()[:, known], ease.dense()[:, known])
    liked = [np.array([0, 2, 6], np.int32), np.array([1, 5], np.int32)]
    raw = np.stack([ease.dense()[rows].sum(0) for rows in liked])
    made = ease.dense()[:, known] @ mapping
    factor = np.sqrt(np.square(ease.dense()[:, known]).mean() / np.square(made).mean())
    expected = np.maximum(raw[:, known] @ mapping * factor, 0.0)
    np.testing.assert_allclose(extended.scores(liked)[:, new], expected, atol=1e-5)
    assert np.square(extended.dense()[:, new]).mean() == pytest.approx(
        np.square(extended.dense()[:, known]).mean(), rel=1e-5
    )


def test_items_unlike_all_others_get_no_weights() -> None:
    ease, kernel, known, new = parts()
    kernel[:, new] = 0.0
    extended = extend_ease(ease, item_mapping(kernel, known, new), known, new)
    np.testing.assert_array_equal(extended.dense(), ease.dense())


def test_a_new_item_goes_to_those_who_like_its_kind() -> None:
    ease, kernel, known, new = parts()
    extended = extend_ease(ease, item_mapping(kernel, known, new, penalty=1.0), known, new)
    scores = extended.scores([np.array([0, 2, 4], np.int32), np.array([1, 3, 5], np.int32)])[:, new]
    assert scores[0, [0, 2]].min() > scores[0, [1, 3]].max()
    assert scores[1, [1, 3]].min() > scores[1, [0, 2]].max()


def test_the_largest_weights_on_new_items_are_kept() -> None:
    ease, kernel, known, new = parts()
    mapping = item_mapping(kernel, known, new, penalty=1.0)
    every, few = (extend_ease(ease, mapping, known, new, keep=k).dense()[:, new] for k in (256, 2))
    assert ((few != 0).sum(1)[known] == 2).all()
    kept = np.argsort(-np.abs(every[3]))[:2]
    np.testing.assert_array_equal(np.sort(np.flatnonzero(few[3])), np.sort(kept))


def test_what_cannot_be_mapped_is_refused() -> None:
    ease, kernel, known, new = parts()
    with pytest.raises(ValueError, match=r"penalty must be positive, got 0\.0"):
        item_mapping(kernel, known, new, penalty=0.0)
    with pytest.raises(ValueError, match=r"kernel must be square, got \(24, 3\)"):
        item_mapping(kernel[:, :3], known, new)
    with pytest.raises(ValueError, match="no item in common, got row 5 in both"):
        item_mapping(kernel, known, np.array([5]))
    kernel[2, 3] = np.nan
    with pytest.raises(ValueError, match="kernel must be finite, got NaN"):
        item_mapping(kernel, known, new)
    with pytest.raises(ValueError, match=r"mapping must be of shape \(20, 4\), got \(20, 3\)"):
        extend_ease(ease, np.zeros((20, 3), np.float32), known, new)
    with pytest.raises(ValueError, match="new items must have no weights in EASE, got some"):
        extend_ease(ease, np.zeros((4, 4), np.float32), new, np.arange(4))
