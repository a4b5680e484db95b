from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.inputs.replay import item_batch, item_features
from model_core.network.config import ModelConfig, TrainConfig
from model_core.network.content_map import ContentMap
from model_core.network.model import Model
from model_core.signals.cold_start import ItemFeatures, Ridge, best_ridge
from model_core.training.networks import fit_widths
from tests.model_core import tiny
from tests.model_core.signals.test_cold_start import KNOWN, N_ENTITIES, N_ITEMS, NEW, items

DIM = 6
MET = torch.arange(N_ITEMS) < len(KNOWN)


def by_kind() -> torch.Tensor:
    """Vectors that lie by the items' kind, and about some place that all share."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(2, DIM)) + 5.0
    vectors = centres[np.arange(N_ITEMS) % 2] + 0.1 * rng.normal(size=(N_ITEMS, DIM))
    return torch.as_tensor(vectors, dtype=torch.float32)


def kernel(ridge: Ridge) -> np.ndarray:
    batch = items()
    one_hot = np.zeros((N_ITEMS, N_ENTITIES + 1))
    np.put_along_axis(one_hot, batch.entities, 2**-0.5, 1)
    text = batch.text - batch.text.mean(0)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return ridge.graph_weight * one_hot @ one_hot.T + text @ text.T


def fitted(trust: float = 1.0) -> tuple[ContentMap, torch.Tensor]:
    content = ContentMap(ModelConfig(dim=DIM, text_dim=5), N_ENTITIES)
    left_out = content.set_to(ItemFeatures(items(), N_ENTITIES), by_kind(), MET)
    content.trust.fill_(trust)
    return content, left_out


def placed(content: ContentMap, *, text: bool = True, links: bool = True) -> np.ndarray:
    batch = items()
    there = torch.as_tensor(batch.text_mask & text)
    edges = torch.as_tensor(batch.edge_mask & links)
    embeddings = {"text": (torch.as_tensor(batch.text), there)}
    return content(embeddings, torch.as_tensor(batch.entities), edges).numpy()


def chosen() -> tuple[np.ndarray, np.ndarray, Ridge]:
    known = by_kind().numpy()[KNOWN].astype(np.float64)
    mean = known.mean(0)
    centred = (known - mean).astype(np.float32)
    return known - mean, mean, best_ridge(centred, ItemFeatures(items(), N_ENTITIES), KNOWN)


def test_a_new_item_lies_where_kernel_ridge_regression_puts_it() -> None:
    wanted, mean, ridge = chosen()
    similar = kernel(ridge)
    regular = similar[np.ix_(KNOWN, KNOWN)] + ridge.penalty * np.eye(len(KNOWN))
    expected = mean + similar[np.ix_(NEW, KNOWN)] @ np.linalg.solve(regular, wanted)
    content, made = fitted()
    np.testing.assert_allclose(placed(content)[NEW], expected, atol=1e-4)
    np.testing.assert_allclose(made.numpy()[NEW], expected, atol=1e-4)


def test_what_a_known_item_would_have_were_it_new_is_made_without_it() -> None:
    wanted, mean, ridge = chosen()
    similar, made = kernel(ridge), fitted()[1].numpy()
    for out in KNOWN[:5]:
        rest = np.delete(KNOWN, out)
        regular = similar[np.ix_(rest, rest)] + ridge.penalty * np.eye(len(rest))
        expected = mean + similar[out, rest] @ np.linalg.solve(regular, np.delete(wanted, out, axis=0))
        np.testing.assert_allclose(made[out], expected, atol=1e-4)


def test_new_items_lie_with_their_kind_and_trust_says_how_far_from_the_mean() -> None:
    content, _ = fitted()
    mean = content.mean.numpy()
    kinds = np.stack([by_kind()[kind::2].numpy().mean(0) for kind in (0, 1)])
    own, other = (
        np.linalg.norm(placed(content)[NEW] - kinds[kind], axis=1) for kind in (NEW % 2, 1 - NEW % 2)
    )
    assert (own < other).all()
    half, _ = fitted(0.5)
    np.testing.assert_allclose(placed(half) - mean, 0.5 * (placed(content) - mean), atol=1e-5)
    np.testing.assert_allclose(placed(fitted(0.0)[0]), np.tile(mean, (N_ITEMS, 1)), atol=1e-5)


def test_an_item_that_says_nothing_lies_in_the_mean() -> None:
    content, _ = fitted()
    nothing = placed(content, text=False, links=False)
    np.testing.assert_allclose(nothing, np.tile(content.mean.numpy(), (N_ITEMS, 1)), atol=1e-6)


@pytest.mark.parametrize("n_met", [0, 1, 2])
def test_hardly_any_item_met_gives_finite_vectors(n_met: int) -> None:
    content = ContentMap(ModelConfig(dim=DIM, text_dim=5), N_ENTITIES)
    made = content.set_to(ItemFeatures(items(), N_ENTITIES), by_kind(), torch.arange(N_ITEMS) < n_met)
    assert torch.isfinite(made).all()
    assert np.isfinite(placed(content)).all()


def test_once_settled_what_was_not_met_is_placed_by_its_content_and_the_rest_as_trained() -> None:
    data = tiny.corpus(tiny.dataset())
    model = Model(data, fit_widths(tiny.CONFIG, data), TrainConfig(), tuple(tiny.WEIGHTS.values())).eval()
    first = data.log.first(30)
    met = np.zeros(data.log.n_items, np.bool_)
    met[first.items] = True
    assert 0 < met.sum() < len(met)
    with torch.no_grad():
        before = model.vectors()
        model.settle(first, item_features(data))
        after = model.vectors()
        batch = item_batch(data)
        hidden = replace(batch, id_rows=np.zeros_like(batch.id_rows))
        unknown = model.encoder(**{name: torch.as_tensor(getattr(hidden, name)) for name in model.inputs})
    torch.testing.assert_close(after[met], before[met])
    torch.testing.assert_close(after[~met], unknown[~met])  # as an item that the release does not know
    assert (after[~met] - before[~met]).norm(dim=1).min() > 0.1
    ids = model.encoder.items.weight[1:].abs().sum(1) > 0
    assert ids.tolist() == met[np.argsort(batch.id_rows)].tolist()
    model.train()
    assert not torch.equal(model.vectors()[~met], after[~met])  # training goes on with what is fused
