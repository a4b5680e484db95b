from dataclasses import replace

import numpy as np
import pytest

from tests.benchmarks.rivals.impressions import impression_metrics
from tests.benchmarks.rivals.news_reader import NewsReader, ReaderConfig, Shown, reader_scores, train_reader

N, M = 900, 4


def impressions() -> tuple[np.ndarray, Shown]:
    """Items of five topics; users click the topic of what they read, and the first place too often."""
    rng = np.random.default_rng(0)
    topic = rng.integers(5, size=100)
    vectors = np.eye(8)[topic] + rng.normal(scale=0.3, size=(100, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    taste = rng.integers(5, size=N)
    history = np.stack([rng.choice(np.flatnonzero(topic == own), 3) for own in taste])
    history[: N // 10] = -1
    items = rng.integers(100, size=(N, M))
    utility = 4.0 * (topic[items] == taste[:, None]) + rng.gumbel(size=(N, M))
    utility[:, 0] += 2.0
    return vectors, Shown(history, items, utility.argmax(1))


def test_a_reader_learns_taste_apart_from_the_first_places_clicks() -> None:
    vectors, shown = impressions()
    train, validation, test = (shown[np.arange(*ends)] for ends in ((0, 600), (600, 700), (700, 900)))
    config = ReaderConfig(width=16)
    config = replace(config, loop=replace(config.loop, epochs=12, learning_rate=1e-2, patience=12))
    module = train_reader(vectors, train, validation, config)
    place = module.place.detach().numpy()
    assert place[0] - place[1:].max() > 1.0
    scores = reader_scores(module, test.history, test.items)
    groups = np.repeat(np.arange(len(test)), M)
    clicked = np.zeros((len(test), M), np.bool_)
    clicked[np.arange(len(test)), test.clicked] = True
    later = test.clicked > 0  # where the place did not decide
    kept = np.repeat(later, M)
    auc = impression_metrics(scores.ravel()[kept], groups[kept], clicked.ravel()[kept])["auc"]
    assert np.nanmean(auc) > 0.65


def test_a_score_does_not_depend_on_the_place_or_on_the_other_items() -> None:
    vectors, shown = impressions()
    module = NewsReader(vectors, M, 16).eval()
    together = reader_scores(module, shown.history[200:210], shown.items[200:210])
    turned = reader_scores(module, shown.history[200:210], shown.items[200:210, ::-1].copy())
    np.testing.assert_allclose(turned[:, ::-1], together, atol=1e-6)
    alone = reader_scores(module, shown.history[200:210], shown.items[200:210, :1])
    np.testing.assert_allclose(alone, together[:, :1], atol=1e-6)


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads=4, got 6"):
        NewsReader(np.zeros((2, 8)), M, 6)
