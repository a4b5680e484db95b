import numpy as np
import pytest

from model_core.data.datasets import Dataset
from model_core.graph.co_visits import pairs_in_order, spectral_embedding
from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log
from model_core.training import networks
from model_core.training.networks import fit_model, fit_widths, start_from_co_visits
from tests.model_core import tiny

N, KINDS = 40, 4


def walks() -> tuple[np.ndarray, np.ndarray]:
    """Users who each take ten items of one kind, and one who takes items 36, 0 and 4: (users, items)."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(80), 10)
    items = rng.integers(8, size=len(users)) * KINDS + users % KINDS  # items up to 31
    return np.append(users, (80, 80, 80)), np.append(items, (36, 0, 4))


def test_pairs_weigh_less_with_distance_and_none_crosses_users_or_the_window() -> None:
    users, items = np.array([0, 0, 0, 0, 1]), np.array([3, 1, 2, 0, 1])
    pairs = pairs_in_order(users, items, 4, window=2, decay=0.5).toarray()
    expected = np.zeros((4, 4))
    expected[3, 1] = expected[1, 2] = expected[2, 0] = 1.0
    expected[3, 2] = expected[1, 0] = 0.5
    np.testing.assert_array_equal(pairs, expected)


def test_items_that_the_same_users_take_lie_near_each_other_rare_ones_too() -> None:
    vectors = spectral_embedding(pairs_in_order(*walks(), N, window=5, decay=0.9), 8)
    near = vectors @ vectors.T
    kinds = np.arange(32) % KINDS
    alike = near[:32, :32][kinds[:, None] == kinds]
    apart = near[:32, :32][kinds[:, None] != kinds]
    assert alike.mean() > 0.5 > 0.1 > np.abs(apart).mean()
    own, *others = (near[36, kind:32:KINDS].mean() for kind in range(KINDS))
    assert own > 0.1 > 2 * max(map(abs, others))  # met once, beside items of kind 0
    met = np.isin(np.arange(N), walks()[1])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), met, atol=1e-5)


def test_a_graph_that_is_empty_or_smaller_than_the_width_is_embedded_too() -> None:
    nothing = np.zeros(0, np.int64)
    assert not spectral_embedding(pairs_in_order(nothing, nothing, 5, window=5, decay=0.9), 4).any()
    two = pairs_in_order(np.zeros(2, np.int64), np.arange(2), 5, window=5, decay=0.9)
    vectors = spectral_embedding(two, 16)
    assert vectors.shape == (5, 16)
    np.testing.assert_allclose(vectors[0] @ vectors[1], 1.0, atol=1e-5)


def untrained(data: Dataset) -> Model:
    corpus = tiny.corpus(data)
    return Model(corpus, fit_widths(tiny.CONFIG, corpus), TrainConfig(), tuple(tiny.WEIGHTS.values()))


def test_ids_start_at_what_is_liked_together_in_the_log_given_and_others_stay() -> None:
    data = tiny.dataset()
    model, log = untrained(data), tiny.corpus(data).log
    before = model.encoder.items.weight.detach().clone()
    known = log.first(150)
    start_from_co_visits(model, known, TrainConfig(), SignalConfig())
    ids = model.encoder.items.weight.detach()[model.inputs["id_rows"]].numpy()
    changed = (model.encoder.items.weight != before).any(1)[model.inputs["id_rows"]].numpy()
    assert set(np.flatnonzero(changed)) <= set(known.items[known.positive].tolist())
    assert 20 < changed.sum() < tiny.N_ITEMS
    kinds = np.array([int(item.item_id[1:]) % 2 for item in data.items])[changed]
    near = ids[changed] @ ids[changed].T
    assert near[kinds[:, None] == kinds].mean() > near[kinds[:, None] != kinds].mean() + 0.1


def test_a_training_begins_there_and_leaves_out_what_it_is_balanced_by(monkeypatch) -> None:
    given: list[Log] = []

    def begin(model: Model, log: Log, train: TrainConfig, signals: SignalConfig) -> None:
        given.append(log)
        raise KeyboardInterrupt

    monkeypatch.setattr(networks, "start_from_co_visits", begin)
    corpus = tiny.corpus(tiny.dataset())
    train = TrainConfig(graph_embedding="co-visits", calibration=0.2)
    with pytest.raises(KeyboardInterrupt):
        fit_model(
            corpus, 500, tuple(tiny.WEIGHTS.values()), fit_widths(tiny.CONFIG, corpus), train, SignalConfig()
        )
    assert [len(log) for log in given] == [400]
