import numpy as np
import pytest

from model_core.signals import co_visitation_scores as scores
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_reads import previous_items
from model_core.signals.ease import fit_ease
from model_core.signals.evidence import covisit_parts, ease_parts, strongest
from model_core.signals.sparse import scatter


@pytest.fixture
def log() -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    return rng.integers(20, size=600).astype(np.int32), rng.integers(30, size=600).astype(np.int32)


def test_summands_of_co_visits_make_the_signal(log) -> None:  # type: ignore[no-untyped-def]
    users, items = log
    parts = []
    for half in (users % 2 == 0, users % 2 == 1):
        part, n = CoVisitation(neighbours=64), int(half.sum())
        part.grow(np.arange(30, dtype=np.uint64))
        positive = np.ones(n, np.bool_)
        windows = previous_items(users[half], items[half], positive, part.window, 20)
        part.observe(items[half], positive, *windows, np.arange(n, dtype=np.int64))
        parts.append(part)
    history = np.array([-1, -1, 4, 9, 4, 17])
    weights = np.array([0, 0, 2, 3, 5, 10]) * (scores.WEIGHT_UNIT // 16)
    rows, summands = covisit_parts(parts, history, weights, np.arange(30))
    assert rows.tolist() == [4, 9, 17]
    popularity = scores.total_popularity(parts, 30)
    signal = scatter(scores.sparse_scores(parts, history[None], weights[None], popularity), 30)[0]
    tempered = summands.sum(0) / scores.WEIGHT_UNIT / np.sqrt(popularity + 10)
    np.testing.assert_allclose(tempered, signal, rtol=1e-5)


def test_summands_of_ease_make_the_signal(log) -> None:  # type: ignore[no-untyped-def]
    ease = fit_ease(*log, 30, penalty=5.0, keep=10)
    liked, items = np.array([3, 7, 21], np.int32), np.array([5, -1, 0, 29], np.int32)
    summands = ease_parts(ease, liked, items)
    np.testing.assert_allclose(summands[:, 0], ease.dense()[liked, 5])
    assert not summands[:, 1].any()
    signal = scatter(ease.sparse_scores(np.array([0, 3]), liked), 30)[0]
    np.testing.assert_allclose(np.maximum(summands.sum(0), 0)[[0, 2, 3]], signal[[5, 0, 29]], atol=1e-6)


def test_the_strongest_summand_is_named_with_its_share_of_a_positive_sum() -> None:
    place, share = strongest(np.array([[3.0, -1.0, 0.0, 4.0], [1.0, 0.5, 0.0, -2.0]]))
    assert place.tolist() == [0, -1, -1, 0]
    assert share.tolist() == [0.75, 0.0, 0.0, 2.0]
    place, share = strongest(np.zeros((0, 2)))
    assert place.tolist() == [-1, -1]
    assert share.tolist() == [0.0, 0.0]
