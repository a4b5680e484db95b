"""What counting alone says about the next item, and how much of it to add to a model's scores.

The signals are the worker's (`model_core.signals.sample_signals`: co-visits, popularity, EASE) and two more
that ordered histories with attributes allow: what came after, not before, the same items, and whose
attributes are alike. A blend adds their logarithms to the model's score, as `Ranker` does, with weights
fitted on held-out items.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from model_core.data.batches import SparseRows
from model_core.data.vocabulary import Edges
from model_core.graph.co_visits import pairs_in_order
from model_core.signals.config import SignalConfig
from model_core.signals.ease import DENSE_ITEMS, Ease, fit_ease
from model_core.signals.sparse import scatter
from tests.benchmarks.rivals.sequences import LOWEST, Rows, Scores, Sequences

FLOOR = 0.05  # added to a signal before its logarithm: what exp(-3) is to an untrained `Ranker`


@dataclass(frozen=True, slots=True)
class SequenceSignals:
    """Counts of training histories, read for any history.

    after : (n_items, n_items), row = the earlier item
    attributes : (n_items, n_entities), rows of unit length, or None
    ease : None where the items are too many for a dense inverse
    """

    config: SignalConfig
    popularity: NDArray[np.float32]
    after: sparse.csr_matrix
    attributes: sparse.csr_matrix | None
    ease: Ease | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the signals, in their order."""
        optional = {"EASE": self.ease, "attributes": self.attributes}
        return (
            "popularity",
            "co-visits",
            "after",
            *(name for name, part in optional.items() if part is not None),
        )

    def read(self, sequences: Sequences, users: Rows) -> Scores:
        """Signals after the histories of some users: (n_signals, len(users), n_items), none negative."""
        history = _weighted(
            sequences.recent(users, self.config.read_window), self.config.read_decay, sequences.n_items
        )
        temper = np.sqrt(self.popularity + np.float32(10))
        parts = [
            np.broadcast_to(np.log1p(self.popularity), (len(users), sequences.n_items)),
            (history @ (self.after + self.after.T)).toarray() / temper,
            (history @ self.after).toarray() / temper,
        ]
        if self.ease is not None:
            liked = SparseRows.of([sequences.history(user) for user in users])
            parts.append(scatter(self.ease.sparse_scores(liked.bounds, liked.rows), self.ease.n_items))
        if self.attributes is not None:
            parts.append(((history @ self.attributes) @ self.attributes.T).toarray())
        return np.stack(parts).astype(np.float32)


def fit_signals(
    train: Sequences,
    edges: Edges | None,
    config: SignalConfig | None = None,
    *,
    max_ease_items: int = DENSE_ITEMS,
) -> SequenceSignals:
    """Count training histories.

    Parameters
    ----------
    edges
        Attributes of the items; None leaves their signal out.
    max_ease_items
        EASE inverts a dense matrix over all items, and is left out where they are more.
    """
    config = config or SignalConfig()
    ease, users = None, np.repeat(np.arange(len(train), dtype=np.int32), np.diff(train.bounds))
    if train.n_items <= max_ease_items:
        ease = fit_ease(users, train.items.astype(np.int32), train.n_items, penalty=config.ease_penalty)
    return SequenceSignals(
        config,
        train.popularity().astype(np.float32),
        pairs_in_order(users, train.items, train.n_items, window=config.window, decay=config.pair_decay),
        None if edges is None else _unit_attributes(edges),
        ease,
    )


def _weighted(recent: Rows, decay: float, n_items: int) -> sparse.csr_matrix:
    row, column = np.nonzero(recent >= 0)
    weight = (decay ** (recent.shape[1] - 1 - column)).astype(np.float32)
    return sparse.csr_matrix((weight, (row, recent[row, column])), (len(recent), n_items))


def _unit_attributes(edges: Edges) -> sparse.csr_matrix:
    """Attributes by inverse document frequency, each item's of unit length."""
    row, column = np.nonzero(edges.mask)
    entity = edges.entities[row, column]
    idf = np.log(len(edges.mask) / np.maximum(np.bincount(entity), 1.0))
    weight = idf[entity]
    norm = np.sqrt(np.bincount(row, weight**2, len(edges.mask)))
    unit = weight / np.maximum(norm[row], 1e-9)
    return sparse.csr_matrix((unit.astype(np.float32), (row, entity)), (len(edges.mask), len(idf)))


def blend(weights: NDArray[np.float32], scores: Scores, signals: Scores) -> Scores:
    """Weighted sum of scores and logarithms of signals: (n, n_items).

    Parameters
    ----------
    weights : (1 + n_signals,), the first one is that of the scores
    scores : (n, n_items), -inf stays
    signals : (n_signals, n, n_items)
    """
    barred = scores == LOWEST
    out = weights[0] * np.where(barred, np.float32(0), scores)
    for weight, signal in zip(weights[1:], signals, strict=True):
        out += weight * np.log(np.float32(FLOOR) + signal)
    out[barred] = LOWEST
    return np.asarray(out, np.float32)


def fit_blend(
    scores: Scores, signals: Scores, targets: Rows, *, penalty: float = 1e-3
) -> NDArray[np.float32]:
    """Weights of `blend` that make held-out targets likeliest among all items: (1 + n_signals,).

    The mean cross entropy, which is convex in them, plus a ridge towards the scores alone.

    Parameters
    ----------
    scores, signals
        As in `blend`.
    targets : (n,)
    """
    barred = scores == LOWEST
    plain = np.where(barred, np.float32(0), scores)
    parts = np.concatenate((plain[None], np.log(np.float32(FLOOR) + signals)))
    own = np.take_along_axis(parts, targets[None, :, None], 2)[..., 0]  # (1 + n_signals, n)
    start = np.zeros(len(parts))
    start[0] = 1.0

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = np.tensordot(weights.astype(np.float32), parts, 1)
        logits[barred] = LOWEST
        top = logits.max(1, keepdims=True)
        likely = np.exp(logits - top)
        total = likely.sum(1, keepdims=True)
        mean = float((np.log(total) + top)[:, 0].mean() - weights @ own.mean(1))
        expected = np.array([np.vdot(likely / total, part) for part in parts]) / len(targets)
        away = weights - start
        return mean + penalty * float(away @ away), expected - own.mean(1) + 2 * penalty * away

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
    return np.asarray(found.x, np.float32)
