"""Predicts what a model that is still in torch would serve, for calibration and the search for recipes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.data.batches import PER_USER, ScoreBatch, dense_eligible, dense_signals
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import Replay, item_features
from model_core.network.ensemble import Ensemble
from model_core.network.model import Model
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log, fit_log

BATCH = 64


@dataclass(frozen=True, slots=True)
class Served:
    """C candidates for each of n users: rows (n, C) int64, valid (n, C) bool, probability (n, C) float32."""

    users: NDArray[np.int32]
    rows: NDArray[np.int64]
    valid: NDArray[np.bool_]
    probability: NDArray[np.float32]

    def top(self, k: int) -> NDArray[np.int64]:
        """Return each user's k likeliest items: (n, k) int64."""
        order = np.argsort(np.where(self.valid, -self.probability, np.inf), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(self.rows, order, 1)


@torch.inference_mode()
def serve(
    model: Model | Ensemble,
    corpus: Corpus,
    log: Log,
    since: int,
    users: NDArray[np.int32],
    signals: SignalConfig,
) -> Iterator[Served]:
    """Answer users once each at row `since` of the log, from the rows before it, in batches."""
    ranker, device = model.ranker, model.ranker.item_bias.device
    model.eval()
    config = ranker.config
    replay = Replay(
        log,
        corpus.edges,
        corpus.stated,
        history_length=config.history_length,
        n_affinities=config.n_affinities,
        signals=signals,
        ease=fit_log(log.first(since), signals, item_features(corpus)),
    )
    replay.advance(since)
    vectors = model.vectors()
    for begin in range(0, len(users), BATCH):
        some = users[begin : begin + BATCH]
        batch = replay.requests(some, np.full(len(some), log.times_ms[min(since, len(log) - 1)]))
        outputs = ranker(vectors, **dense_inputs(batch, device))
        yield Served(some, *(value.cpu().numpy() for value in outputs[:3]))


def dense_inputs(batch: ScoreBatch, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return what `Ranker` takes in torch: a batch whose signals and eligible items are dense."""
    arrays = {name: getattr(batch, name) for name in PER_USER}
    arrays |= {"signals": dense_signals(batch), "eligible": dense_eligible(batch)}
    return {name: torch.as_tensor(array).to(device) for name, array in arrays.items()}
