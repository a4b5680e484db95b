"""The baseline that serves without a release: co-visits, then popularity, by the scorer's interface."""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import POPULARITY, ItemBatch, Moments, ScoreBatch
from model_core.release.folder import Release, prior_weights
from model_core.release.near_items import Floats, WholeItems
from model_core.release.retrieval import Found, Query, retrieve
from model_core.release.scorer import Scores, best_first
from model_core.signals.config import SignalConfig
from model_core.signals.trends import FIXED_POPULARITY, covisit_signal

N_CANDIDATES = 200
FEATURES = 4
_POPULARITY_SHARE = np.float32(FIXED_POPULARITY)


class BaselineScorer:
    """Scores by the signals alone, so it needs no training and knows no item by name.

    With ``s = co-visits + 0.01 * log1p(popularity)`` the score is ``s / (1 + s)``, which lies in [0, 1) and
    keeps the order of s. It is no calibrated probability. Where a batch has `moments`, weights that were
    learned online count instead: s is then the exponential of what they and the signals add up to.

    Features are what a policy learns rewards of: 1, the score, and the score times the shares of co-visits
    and of popularity. A policy may correct how much a score is worth where these are strong; it cannot list
    an item for its popularity alone, whatever the signals of time say of it.

    Parameters
    ----------
    signals : how users are read, the default ones when None
    """

    provider = "numpy"

    def __init__(self, signals: SignalConfig | None = None) -> None:
        signals = signals or SignalConfig()
        self.release = Release(
            version="baseline-2",  # another one when features mean something else: rewards are kept by it
            actions=(),
            dim=1,
            feature_dim=FEATURES,
            n_candidates=N_CANDIDATES,
            history_length=signals.read_window,
            n_affinities=1,
            n_neighbours=1,
            n_signals=2,
            text_dim=0,
            image_dim=0,
            audio_dim=0,
            text_encoder="",
            text_encoder_fingerprint="",
            signals=signals,
            prior_weights=prior_weights(FEATURES),
            entity_rows={},
            relation_rows={},
            item_rows={},
            metrics={},
        )

    def items_written(self, rows: NDArray[np.int64]) -> None:
        """See `Scorer.items_written`; there is nothing to keep up to date."""

    def beside(self) -> "BaselineScorer":
        """See `Scorer.beside`; it holds no table."""
        return self

    def close(self) -> None:
        """See `Scorer.close`; there is nothing to give back."""

    def encode_items(self, batch: ItemBatch) -> NDArray[np.float32]:
        """Return vectors that say nothing: (n, 1) float32."""
        return np.zeros((len(batch.id_rows), 1), np.float32)

    def score(self, batch: ScoreBatch, items: NDArray[np.float32]) -> Scores:
        """Rank by the signals; see `Scorer.score`."""
        if batch.moments is None:
            found = _found(batch, batch.popularity, batch.signal_values[:, 0], _POPULARITY_SHARE)
            score = found.scores / (1 + found.scores)
        else:
            found = _found_at(batch, batch.moments)
            score = 1 / (1 + np.exp(-found.scores))
        covisits, popularity = found.signals[:, :, 0], found.signals[:, :, POPULARITY]
        shares = covisits / (1 + covisits), popularity / (5 + popularity)
        features = np.stack((np.ones_like(score), score, *(score * share for share in shares)), axis=-1)
        logits = np.zeros((*score.shape, 0), np.float32)
        return best_first(found.rows, found.valid, score, logits, features)


def _found_at(batch: ScoreBatch, moments: Moments) -> Found:
    """Find the best items of requests at several moments."""
    own = np.float32(moments.covisits) * covisit_signal(batch.signal_values[:, 0])
    if len(moments.levels) == 1:
        return _found(batch, moments.levels[0], own, np.float32(1))
    order, parts = [], []
    for at, level in enumerate(moments.levels):
        requests = np.flatnonzero(moments.of == at)
        if len(requests):
            order.append(requests)
            mine = own[batch.signals.places(requests)[1]]
            parts.append(_found(batch.take(requests), level, mine, np.float32(1)))
    back = np.argsort(np.concatenate(order))
    return Found(
        *(np.concatenate([getattr(part, column.name) for part in parts])[back] for column in fields(Found))
    )


def _found(batch: ScoreBatch, level: Floats, own: Floats, weight: np.float32) -> Found:
    n, nothing = len(batch.history), np.zeros((len(batch.history), 1), np.float32)
    query = Query(
        match=nothing,
        weight=np.full(n, weight),
        gain=nothing[:, 0],
        newcomer=nothing[:, 0],
        level=level,
        own=np.ascontiguousarray(own),
        always=nothing[:, 0],
    )
    silent = np.zeros((len(batch.popularity), 1), np.float32)
    return retrieve(batch, silent, query, N_CANDIDATES, _silence(silent))


def _silence(items: Floats) -> WholeItems:
    near = WholeItems(lambda match, some: np.zeros((len(match), len(some)), np.float32))
    near.hold(items)
    return near
