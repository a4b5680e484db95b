import numpy as np
import pytest

from tests.benchmarks.rivals.impressions import fit_choice, impression_metrics, resampled_means

GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4, 4])
CLICKED = np.array([0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1], np.bool_)
SCORES = np.array([3.0, 2, 1, 5, 5, 1, 2, 9, 6, 5, 4, 3, 2, 1])


def test_metrics_of_an_impression_are_those_of_the_clicks_rank() -> None:
    found = impression_metrics(SCORES, GROUPS, CLICKED)
    # Second of three; tied first of two; no click; nothing beside the click; last of six.
    np.testing.assert_allclose(found["auc"], [0.5, 0.5, np.nan, np.nan, 0.0])
    np.testing.assert_allclose(found["mrr"], [1 / 2, 1 / 1.5, np.nan, np.nan, 1 / 6])
    gain = 1 / np.log2([3, 2.5, 7])
    np.testing.assert_allclose(found["ndcg@5"], [gain[0], gain[1], np.nan, np.nan, 0.0])
    np.testing.assert_allclose(found["ndcg@10"], [gain[0], gain[1], np.nan, np.nan, gain[2]])


def test_impressions_out_of_order_or_with_two_clicks_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must be in order, got one that falls"):
        impression_metrics(np.zeros(3), np.array([1, 0, 1]), np.zeros(3, np.bool_))
    with pytest.raises(ValueError, match="an impression must have at most one click, got 2"):
        impression_metrics(np.zeros(2), np.array([0, 0]), np.ones(2, np.bool_))


def test_a_choice_model_finds_the_weights_that_made_the_choices() -> None:
    rng = np.random.default_rng(0)
    n, m = 3000, 5
    features = np.column_stack([rng.normal(size=n * m), rng.normal(3.0, 4.0, size=n * m), np.ones(n * m)])
    utility = features @ np.array([0.8, -0.25, 7.0]) + rng.gumbel(size=n * m)
    clicked = np.zeros((n, m), np.bool_)
    clicked[np.arange(n), utility.reshape(n, m).argmax(1)] = True
    clicked[::10] = False  # impressions without a click say nothing
    model = fit_choice(features, np.repeat(np.arange(n), m), clicked.ravel(), np.full(3, 1e-3))
    np.testing.assert_allclose((model.weights / model.scale)[:2], [0.8, -0.25], atol=0.06)
    assert model.weights[2] == pytest.approx(0.0, abs=1e-6)
    apart = model.scores(features[:2])
    np.testing.assert_allclose(
        apart[0] - apart[1], (features[0] - features[1]) @ (model.weights / model.scale), atol=1e-9
    )


def test_a_larger_penalty_gives_smaller_weights() -> None:
    rng = np.random.default_rng(1)
    features, groups = rng.normal(size=(90, 2)), np.repeat(np.arange(30), 3)
    clicked = np.arange(90) % 3 == 0
    loose, tight = (fit_choice(features, groups, clicked, np.full(2, p)).weights for p in (0.1, 100.0))
    assert np.abs(tight).sum() < 0.5 * np.abs(loose).sum()


def test_a_choice_model_without_clicks_or_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="penalties must be positive, got 0.0"):
        fit_choice(np.ones((2, 1)), np.array([0, 0]), np.array([True, False]), np.zeros(1))
    with pytest.raises(ValueError, match="impressions must hold a click, got none"):
        fit_choice(np.ones((2, 1)), np.array([0, 0]), np.zeros(2, np.bool_), np.ones(1))


def test_resampling_owners_widens_what_their_own_values_share() -> None:
    rng = np.random.default_rng(0)
    taste = np.repeat(rng.normal(size=200), 5)
    values = np.column_stack([taste, rng.permutation(taste)])
    values[3] = np.nan
    drawn = resampled_means(values, np.repeat(np.arange(200), 5), resamples=800, rng=rng)
    assert drawn.shape == (800, 2)
    np.testing.assert_allclose(drawn.mean(0), np.nanmean(values, 0), atol=0.02)
    assert drawn[:, 0].std() == pytest.approx(taste.std() / 200**0.5, rel=0.1)
    assert drawn[:, 1].std() < 0.6 * drawn[:, 0].std()
