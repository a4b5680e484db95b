"""What serves while there is no release: co-visits, then popularity, behind the scorer's interface."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from model_core.release.batches import ItemBatch, ScoreBatch
from model_core.release.folder import Release
from model_core.release.scorer import Scores, best_first
from model_core.signals.sample_signals import SignalConfig

N_CANDIDATES = 200
FEATURES = 4
_POPULARITY_SHARE = np.float32(0.01)


class BaselineScorer:
    """Scores by the signals alone, so it needs no training and knows no item by name.

    With ``s = co-visits + 0.01 * log1p(popularity)`` the score is ``s / (1 + s)``, which lies in [0, 1) and
    keeps the order of s. It is no calibrated probability.
    """

    provider = "numpy"

    def __init__(self) -> None:
        prior = np.zeros(FEATURES, np.float32)
        prior[1] = 1.0
        self.release = Release(
            version="baseline",
            actions=(),
            dim=1,
            feature_dim=FEATURES,
            n_candidates=N_CANDIDATES,
            history_length=SignalConfig().read_window,
            n_affinities=1,
            n_neighbours=1,
            n_signals=2,
            text_dim=0,
            image_dim=0,
            audio_dim=0,
            text_encoder="",
            text_encoder_fingerprint="",
            signals=asdict(SignalConfig()),
            prior_weights=prior,
            entity_rows={},
            relation_rows={},
            item_rows={},
            metrics={},
        )

    def encode_items(self, batch: ItemBatch) -> NDArray[np.float32]:
        """Return vectors that say nothing: (n, 1) float32."""
        return np.zeros((len(batch.id_rows), 1), np.float32)

    def score(self, batch: ScoreBatch, items: NDArray[np.float32]) -> Scores:
        """Rank by the signals; see `Scorer.score`."""
        missing = max(0, N_CANDIDATES - batch.signals.shape[2])
        signals = np.pad(batch.signals, ((0, 0), (0, 0), (0, missing)))
        eligible = np.pad(batch.eligible, ((0, 0), (0, missing)))
        level = signals[:, 0] + _POPULARITY_SHARE * signals[:, 1]
        masked = np.where(eligible, level, np.float32(-1.0))
        # Sorted by falling level, then by row: a stable sort keeps rows in order.
        rows = np.argsort(-masked, axis=1, kind="stable")[:, :N_CANDIDATES]
        valid = np.take_along_axis(eligible, rows, 1)
        score = np.take_along_axis(level / (1 + level), rows, 1)
        covisits = np.take_along_axis(signals[:, 0], rows, 1)
        popularity = np.take_along_axis(signals[:, 1], rows, 1)
        features = np.stack(
            (np.ones_like(score), score, covisits / (1 + covisits), popularity / (5 + popularity)), axis=-1
        )
        logits = np.zeros((*rows.shape, 0), np.float32)
        return best_first(rows.astype(np.int64), valid, score, logits, features.astype(np.float32))
