from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_core.data.batches import ItemBatch
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease, fit_ease
from model_core.signals.liked_together import NEAR
from model_core.signals.reader import Reader
from model_core.signals.sample_signals import Log, UserEvents, ease_before, fit_log, map_log, refits
from model_core.signals.sparse import scatter
from streams.items.ease_signal import EaseSignal
from streams.state.item_index import ItemIndex

N_USERS, N_ITEMS = 40, 12


def pairs(seed: int = 0, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(N_USERS, size=n).astype(np.int32), rng.integers(N_ITEMS, size=n).astype(np.int32)


def dense_scores(ease: Ease, liked: list[np.ndarray]) -> np.ndarray:
    bounds = np.cumsum([0, *map(len, liked)])
    return scatter(ease.sparse_scores(bounds, np.concatenate(liked).astype(np.int32)), ease.n_items)


def scores_of(signal: EaseSignal, liked: list[np.ndarray], n: int) -> np.ndarray:
    bounds = np.cumsum([0, *map(len, liked)])
    return scatter(signal.sparse_scores(bounds, np.concatenate(liked), n), n)


def log(seed: int = 0, n: int = 200) -> Log:
    users, items = pairs(seed, n)
    positive = np.random.default_rng(seed + 1).random(n) < 0.6
    return Log(users, items, positive + np.int64(1), positive, np.arange(n) * 1000, N_USERS, N_ITEMS)


def test_the_weights_are_those_of_the_closed_form() -> None:
    users, items = pairs()
    x = np.zeros((N_USERS, N_ITEMS))
    x[users, items] = 1
    inverse = np.linalg.inv(x.T @ x + 7.0 * np.eye(N_ITEMS))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    fitted = fit_ease(users, items, N_ITEMS, penalty=7.0)
    np.testing.assert_allclose(fitted.dense(), expected, atol=1e-5)
    np.testing.assert_allclose(
        dense_scores(fitted, [np.array([3, 5]), np.zeros(0, np.int64)]),
        np.maximum([expected[3] + expected[5], np.zeros(N_ITEMS)], 0),
        atol=1e-5,
    )


def test_a_user_of_many_likes_counts_less_and_one_of_few_in_full() -> None:
    users, items = pairs()
    x = np.zeros((N_USERS, N_ITEMS))
    x[users, items] = 1
    likes = x.sum(1)
    assert likes.min() < 4 < likes.max()
    shares = np.round(256 * np.minimum(1, np.sqrt(4 / np.maximum(likes, 1)))) / 256
    inverse = np.linalg.inv(x.T @ (shares[:, None] * x) + 7.0 * np.eye(N_ITEMS))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    fitted = fit_ease(users, items, N_ITEMS, penalty=7.0, full_likes=4)
    np.testing.assert_allclose(fitted.dense(), expected, atol=1e-5)


def test_pairs_count_by_how_near_they_are_in_their_users_likes() -> None:
    users, items = pairs()
    rng = np.random.default_rng(1)
    order = rng.permutation(len(users))
    users, items = users[order], items[order]
    gram = np.zeros((N_ITEMS, N_ITEMS))
    for user in range(N_USERS):
        _, last = np.unique(items[users == user][::-1], return_index=True)
        liked = items[users == user][::-1][np.sort(last)]  # the most recent first, each item once
        apart = np.abs(np.subtract.outer(np.arange(len(liked)), np.arange(len(liked))))
        share = np.round(256 * min(1, np.sqrt(4 / max(len(liked), 1)))) / 256
        gram[np.ix_(liked, liked)] += share * (0.2 + 0.8 * np.exp(-apart / NEAR))
    inverse = np.linalg.inv(gram + 7.0 * np.eye(N_ITEMS))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    fitted = fit_ease(users, items, N_ITEMS, penalty=7.0, near=0.8, full_likes=4)
    np.testing.assert_allclose(fitted.dense(), expected, atol=1e-5)
    assert (
        np.abs(fitted.dense() - fit_ease(users, items, N_ITEMS, penalty=7.0, full_likes=4).dense()).max()
        > 1e-3
    )


def test_what_is_liked_in_a_row_goes_together_more_than_what_the_same_users_like_later() -> None:
    users = np.repeat(np.arange(20, dtype=np.int32), 200)
    items = np.tile(np.arange(200, dtype=np.int32), 20)
    near = fit_ease(users, items, 200, penalty=7.0, keep=200, near=1.0).dense()
    assert near[100, 101] > 10 * abs(near[100, 190])


def test_the_largest_weights_are_kept_and_unknown_items_have_none() -> None:
    users, items = pairs()
    items = np.minimum(items, N_ITEMS - 3)
    every, few = fit_ease(users, items, N_ITEMS), fit_ease(users, items, N_ITEMS, keep=4)
    full, cut = every.dense(), few.dense()
    assert ((cut != 0).sum(1)[: N_ITEMS - 2] <= 4).all()
    for row in range(N_ITEMS - 2):
        kept = np.flatnonzero(cut[row])
        assert np.abs(full[row][kept]).min() >= np.sort(np.abs(full[row]))[-4]
        np.testing.assert_array_equal(cut[row][kept], full[row][kept])
    assert not full[-2:].any()
    assert not full[:, -2:].any()


def test_nothing_liked_gives_no_weights() -> None:
    none = np.zeros(0, np.int32)
    assert not dense_scores(fit_ease(none, none, 3), [np.array([1])]).any()


def test_it_is_saved_whole_and_the_same_bytes_every_time(tmp_path) -> None:  # type: ignore[no-untyped-def]
    fitted = fit_ease(*pairs(), N_ITEMS)
    fitted.save(tmp_path / "a.npz")
    Ease.load(tmp_path / "a.npz").save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="must hold EASE weights"):
        Ease.load(tmp_path / "c.npz")


DAMAGES: dict[str, Any] = {
    "items that are not there": lambda bounds, items, weights: (bounds, items + N_ITEMS, weights),
    "items below 0": lambda bounds, items, weights: (bounds, items - 1 - items.min(), weights),
    "rows beyond the end": lambda bounds, items, weights: (bounds * 2, items, weights),
    "rows backwards": lambda bounds, items, weights: (bounds[::-1].copy(), items, weights),
    "no rows": lambda bounds, items, weights: (bounds[:0], items, weights),
    "too few items": lambda bounds, items, weights: (bounds, items[1:], weights),
    "other integers": lambda bounds, items, weights: (bounds, items.astype(np.int64), weights),
    "no numbers": lambda bounds, items, weights: (bounds, items, weights * np.float32(np.nan)),
    "a matrix": lambda bounds, items, weights: (bounds, items[:, None], weights),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_a_compiled_loop_would_read_beyond_are_refused(damage: str, tmp_path: Path) -> None:
    fitted = fit_ease(*pairs(), N_ITEMS)
    Ease(*DAMAGES[damage](fitted.bounds, fitted.items, fitted.weights)).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="must hold EASE weights"):
        Ease.load(tmp_path / "a.npz")


def described(n: int) -> ItemBatch:
    """Items that say something of themselves, unknown to a release from row `N_ITEMS` on."""
    rng = np.random.default_rng(5)
    nothing, no, edges = np.zeros((n, 0), np.float32), np.zeros(n, np.bool_), rng.integers(1, 5, (n, 2))
    return ItemBatch(
        rng.normal(size=(n, 3)).astype(np.float32), ~no, nothing, no, nothing, no,
        edges, np.ones_like(edges), np.ones(edges.shape, np.bool_),
        np.where(np.arange(n) < N_ITEMS, np.arange(n) + 1, 0),
    )  # fmt: skip


def test_refits_never_know_what_comes_after() -> None:
    events, config, features = log(), SignalConfig(ease_refits=5), ItemFeatures(described(N_ITEMS), 4)
    stretches = list(refits(events, config, features))
    assert [begin for begin, *_ in stretches] == [0, *(end for _, end, *_ in stretches[:-1])]
    assert stretches[-1][1] == len(events)
    for begin, _, ease, as_new in stretches:
        before = events.first(begin)
        known = np.unique(before.items[before.positive])
        again = fit_log(before, config, features).dense()
        np.testing.assert_array_equal(ease.dense()[:, known], again[:, known])
        assert as_new.weights.any() == (begin > 0)


def test_the_worker_scores_as_the_replay_did_in_training() -> None:
    """Rows in another order, an item the release does not know, events repeated."""
    events, batch = log(n=300), described(N_ITEMS + 1)
    features = ItemFeatures(described(N_ITEMS), 4)
    known = events.first(150)
    ease, mapping = (fit(known, SignalConfig(), features) for fit in (fit_log, map_log))
    index = ItemIndex()
    names = [f"i{item}" for item in range(N_ITEMS)]
    signal = EaseSignal(ease, mapping, names, index)
    assert scores_of(signal, [np.zeros(0, np.int64)], 1).tolist() == [[0.0]]
    index.rows_of(["other", *reversed(names[:-1])])
    users = np.arange(5, dtype=np.int32)
    liked = []
    for user in users:
        chosen = events.items[(events.users == user) & events.positive]
        rows = index.rows_of([*(names[item] for item in chosen), "other"])
        liked.append(rows.astype(np.int64))
    scores = scores_of(signal, liked, len(index))
    rows = index.rows_of(names)
    pasts = UserEvents(events, len(events)).before(users, np.full(5, len(events)))
    everything = np.tile(np.arange(N_ITEMS, dtype=np.int32), (5, 1))
    reader = Reader(SignalConfig(), history_length=1, n_affinities=1, n_entities=1, codes=np.arange(3))
    drawn = reader.draw(pasts, np.zeros(5, np.int64), described=np.ones(N_ITEMS, np.bool_))
    replayed = ease_before(users, drawn, everything, ease)
    np.testing.assert_array_equal(scores[:, rows], replayed)
    assert not scores[:, 0].any()
    assert (scores_of(signal, liked, 4)[:, :4] == scores[:, :4]).all()

    # The new item is described, and described anew.
    for text in (0.0, batch.text[-1:]):
        there = np.arange(len(batch.text)) == N_ITEMS
        part = ItemBatch(*(getattr(batch, name)[there] for name in batch.__dataclass_fields__))
        part.text[:] = text
        signal.describe(np.array([0]), part)
    weights = mapping.weights.T @ mapping.places(batch)[-1]
    summed = [weights[np.unique(events.items[(events.users == u) & events.positive])].sum() for u in users]
    np.testing.assert_allclose(scores_of(signal, liked, len(index))[:, 0], np.maximum(summed, 0.0), atol=1e-5)
    np.testing.assert_array_equal(scores_of(signal, liked, len(index))[:, 1:], scores[:, 1:])
    known, parts = signal.parts(liked[0], np.array([0, *rows]))
    assert 0 not in known
    np.testing.assert_allclose(parts[:, 0].sum(), summed[0], atol=1e-5)
    np.testing.assert_allclose(np.maximum(parts[:, 1:].sum(0), 0.0), scores[0, rows], atol=1e-5)
