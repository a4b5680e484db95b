"""A dataset small enough to train on in a test: two kinds of users, each with their kind of items."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import POPULARITY, ScoreBatch, sparse_eligible, sparse_signals
from model_core.data.datasets import Dataset, Interactions, Item
from model_core.inputs.corpus import Corpus, make_corpus
from model_core.network.config import ModelConfig
from model_core.release.baseline import BaselineScorer
from model_core.release.scorer import Scorer

WEIGHTS = {"view": 0.2, "like": 2.0}
N_ITEMS = 60
CONFIG = ModelConfig(dim=16, layers=1, history_length=8, n_neighbours=4, n_affinities=4, feature_dim=12)


class Texts:
    """A text encoder that needs no weights: vectors by the text's hash."""

    name, fingerprint, dim = "texts", "0", 8

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        seeds = [sum(map(ord, text)) for text in texts]
        rows = [np.random.default_rng(seed).normal(size=self.dim) for seed in seeds]
        return np.array(rows, np.float32).reshape(len(texts), self.dim)


def dataset(n_users: int = 30, n_events: int = 900) -> Dataset:
    rng = np.random.default_rng(0)
    users = rng.integers(n_users, size=n_events)
    items = (rng.integers(N_ITEMS // 2, size=n_events) * 2 + users % 2) % N_ITEMS
    interactions = Interactions(
        np.array([f"u{u}" for u in users]),
        np.array([f"i{i}" for i in items]),
        rng.integers(1, 6, n_events).astype(np.float32),
        1_700_000_000_000 + 60_000 * np.arange(n_events, dtype=np.int64),
    )
    described = [Item(f"i{i}", f"Item {i}", {"kind": [f"k{i % 2}"]}) for i in range(N_ITEMS)]
    return Dataset("tiny", interactions, described, [])


def corpus(data: Dataset) -> Corpus:
    actions = ["like" if rating >= 3 else "view" for rating in data.interactions.ratings]
    return make_corpus(data, actions, WEIGHTS, Texts(), CONFIG.n_neighbours)


def requests(scorer: Scorer | BaselineScorer, n: int, n_items: int = N_ITEMS) -> ScoreBatch:
    release, rng = scorer.release, np.random.default_rng(1)
    length = release.history_length
    sizes = rng.integers(0, length + 1, (n, 1))
    signals = rng.random((n, release.n_signals, n_items)).astype(np.float32)
    signals[:, POPULARITY] = signals[0, POPULARITY]
    return ScoreBatch(
        history=np.where(np.arange(length) < length - sizes, -1, rng.integers(0, N_ITEMS, (n, length))),
        history_actions=rng.integers(0, 3, (n, length)),
        history_age_s=np.sort(rng.random((n, length)) * 1e6)[:, ::-1].astype(np.float32),
        user_entities=np.zeros((n, release.n_affinities), np.int64),
        user_entity_weights=np.zeros((n, release.n_affinities), np.float32),
        **with_signals(signals),
        **sparse_eligible(np.ones((n, n_items), np.bool_)),
    )


def with_signals(signals: NDArray[np.float32]) -> dict[str, Any]:
    """Parts of a batch with dense signals (B, S, N)."""
    popularity, there, values = sparse_signals(signals)
    return {"popularity": popularity, "signals": there, "signal_values": values}
