import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.evaluation.topn import ranking_metrics, top_items
from model_core.signals.ease import fit_ease
from tests.benchmarks.random_split import random_split
from tests.benchmarks.rivals.fused_linear import (
    FusedConfig,
    entity_kernel,
    fit_fused,
    low_pass,
    ridge_without_self,
    tune,
    vector_kernel,
)

N_USERS, N_ITEMS = 30, 12
PLAIN = FusedConfig(item_penalty=7.0, user_share=0.0, low_pass_share=0.0)


def interactions(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((N_USERS, N_ITEMS)) < 0.3).astype(np.float32)


def kernel(seed: int = 1) -> np.ndarray:
    return vector_kernel(np.random.default_rng(seed).normal(size=(N_ITEMS, 4)))


def test_without_features_and_shares_it_is_ease() -> None:
    x = interactions()
    users, items = (rows.astype(np.int32) for rows in np.nonzero(x))
    expected = fit_ease(users, items, N_ITEMS, penalty=7.0).dense()
    for config in (PLAIN, FusedConfig(7.0, user_share=0.0, low_pass_share=0.0, kernels={"text": 0.0})):
        model = fit_fused(x, {"text": kernel()}, None, config)
        np.testing.assert_allclose(model.item_weights, expected, atol=1e-5)
        np.testing.assert_allclose(model.scores(x), x @ expected, atol=1e-5)
        np.testing.assert_array_equal(model.item_scores(x), model.scores(x))


def test_a_kernel_is_weighted_feature_rows_stacked_under_the_interactions() -> None:
    x, vectors = interactions(), np.random.default_rng(2).normal(size=(N_ITEMS, 4))
    unit = vectors - vectors.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    stacked = np.vstack([x, np.sqrt(5.0) * unit.T])
    config = FusedConfig(7.0, user_share=0.0, low_pass_share=0.0, kernels={"text": 5.0})
    fitted = fit_fused(x, {"text": vector_kernel(vectors)}, None, config)
    np.testing.assert_allclose(fitted.item_weights, ridge_without_self(stacked.T @ stacked, 7.0), atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_each_column_is_the_ridge_regression_on_the_others(seed: int) -> None:
    x = interactions(seed)
    weights = ridge_without_self(x.T @ x, 3.0)
    column = seed % N_ITEMS
    others = np.delete(x, column, axis=1)
    expected = np.linalg.solve(others.T @ others + 3.0 * np.eye(N_ITEMS - 1), others.T @ x[:, column])
    assert weights[column, column] == 0.0
    np.testing.assert_allclose(np.delete(weights[:, column], column), expected, atol=1e-4)


def test_the_parts_add_up() -> None:
    x = interactions()
    users = entity_kernel([[user % 3] for user in range(N_USERS)])
    config = FusedConfig(7.0, 5.0, 2.0, rank=3, user_share=0.5, low_pass_share=0.25)
    expected = (
        x @ ridge_without_self(x.T @ x, 7.0)
        + 0.5 * ridge_without_self(x @ x.T + 2.0 * users, 5.0).T @ x
        + 0.25 * x @ low_pass(x, 3, 0.25)
    )
    np.testing.assert_allclose(fit_fused(x, {}, users, config).scores(x), expected, atol=1e-5)


def test_a_users_own_row_does_not_reach_them_through_the_users_part() -> None:
    model = fit_fused(interactions(), {}, None, FusedConfig(rank=3))
    assert not model.user_weights.diagonal().any()


@pytest.mark.parametrize("shape", [(N_USERS, N_ITEMS), (N_ITEMS, N_USERS)])
def test_a_low_pass_of_full_rank_keeps_everything_and_one_of_rank_one_is_popularity(shape) -> None:  # type: ignore[no-untyped-def]
    x = interactions(3).reshape(shape)
    np.testing.assert_allclose(x @ low_pass(x, min(shape), 0.25), x, atol=1e-3)
    first = x @ low_pass(x, 1, 0.5)
    popularity = x.sum(0)
    np.testing.assert_allclose(
        first / first.sum(1, keepdims=True), np.tile(popularity / popularity.sum(), (len(x), 1)), atol=1e-4
    )


def test_kernels_are_cosines() -> None:
    found = entity_kernel([["a", "b", "a"], ["b", "c"], [], ["c"]])
    half, root = 0.5, np.sqrt(0.5)
    expected = [[1, half, 0, 0], [half, 1, 0, root], [0, 0, 0, 0], [0, root, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert entity_kernel([[], []]).tolist() == [[0, 0], [0, 0]]
    vectors = np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    np.testing.assert_allclose(vector_kernel(vectors), [[1, -1, 0], [-1, 1, 0], [0, 0, 0]], atol=1e-6)


def test_like_items_predict_each_other_without_common_users() -> None:
    x = interactions()
    x[:, 0] = 0
    x[:15, 1], x[15:, 1] = 1, 0
    like = entity_kernel([["director"], ["director"], *([str(item)] for item in range(2, N_ITEMS))])
    config = FusedConfig(7.0, user_share=0.0, low_pass_share=0.0)
    assert not fit_fused(x, {}, None, config).scores(x)[:, 0].any()
    known = FusedConfig(7.0, user_share=0.0, low_pass_share=0.0, kernels={"graph": 10.0})
    scores = fit_fused(x, {"graph": like}, None, known).scores(x)[:, 0]
    assert scores[:15].min() > scores[15:].max()


def test_what_is_tuned_is_no_worse_on_validation_than_where_it_began() -> None:
    rng = np.random.default_rng(4)
    users, items = np.nonzero(rng.random((60, 40)) < 0.4)
    split = random_split(users, items, 60, 40, seed=4)
    x = split.train.astype(np.float32)
    kernels = {"text": vector_kernel(rng.normal(size=(40, 3)))}

    def ndcg(config: FusedConfig) -> float:
        top = top_items(fit_fused(x, kernels, None, config).scores(x), split.train, 5)
        return float(np.nanmean(ranking_metrics(top, split.validation)["ndcg"]))

    config, reached = tune(x, split.validation, kernels, None, k=5, sweeps=1)
    assert reached == pytest.approx(ndcg(config), abs=1e-3)
    assert reached >= ndcg(FusedConfig(kernels={"text": 10.0})) - 1e-6


def test_bad_input_is_named() -> None:
    x = interactions()
    with pytest.raises(ValueError, match=r"kernels must be among \['text'\], got \['graph'\]"):
        fit_fused(x, {"text": kernel()}, None, FusedConfig(kernels={"graph": 1.0}))
    with pytest.raises(ValueError, match="penalty must be positive, got 0"):
        ridge_without_self(x.T @ x, 0.0)
    with pytest.raises(ValueError, match=r"rank must be in \[1, 12\], got 13"):
        low_pass(x, 13, 0.5)
