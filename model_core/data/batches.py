"""Inputs of a release: items to encode and requests to score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

POPULARITY, EASE = 1, 2  # their places among the signals; co-visits come first


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """Inputs of the item encoder for n items. A masked part is missing; widths may be 0 where unused.

    text : (n, T) float32, text_mask : (n,) bool; image (n, I) and audio (n, U) alike
    entities, relations : (n, K) int64 release rows (0 = unknown or padding), edge_mask : (n, K) bool
    id_rows : (n,) int64 release rows (0 = an item the release does not know)
    """

    text: NDArray[np.float32]
    text_mask: NDArray[np.bool_]
    image: NDArray[np.float32]
    image_mask: NDArray[np.bool_]
    audio: NDArray[np.float32]
    audio_mask: NDArray[np.bool_]
    entities: NDArray[np.int64]
    relations: NDArray[np.int64]
    edge_mask: NDArray[np.bool_]
    id_rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Item rows of B requests: those of request b are ``rows[bounds[b]:bounds[b + 1]]``.

    bounds : (B + 1,) int64; rows : (M,) int32, ascending and distinct within a request
    """

    bounds: NDArray[np.int64]
    rows: NDArray[np.int32]

    @classmethod
    def none(cls, n_requests: int) -> "SparseRows":
        """Return no rows for each of so many requests."""
        return cls(np.zeros(n_requests + 1, np.int64), np.zeros(0, np.int32))

    @classmethod
    def of(cls, lists: Sequence[NDArray[np.integer]]) -> "SparseRows":
        """Put one list a request together, in any order and with repeats."""
        lists = [np.unique(rows) for rows in lists]
        bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum([len(rows) for rows in lists])))
        return cls(bounds.astype(np.int64), np.concatenate([np.zeros(0, np.int32), *lists], dtype=np.int32))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def of_request(self, request: int) -> NDArray[np.int32]:
        """Rows of one request."""
        return self.rows[self.bounds[request] : self.bounds[request + 1]]

    def places(self, requests: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bounds of some requests were they alone, and where their rows stand now."""
        sizes = self.bounds[requests + 1] - self.bounds[requests]
        bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        return bounds, np.repeat(self.bounds[requests] - bounds[:-1], sizes) + np.arange(bounds[-1])

    def take(self, requests: NDArray[np.integer]) -> "SparseRows":
        """Return the rows of some requests alone."""
        bounds, at = self.places(requests)
        return SparseRows(bounds, self.rows[at])


@dataclass(frozen=True, slots=True)
class Moments:
    """Scores of the N items by a model that is learned online, at the times of B requests.

    levels : (G, N) float32, logits but for co-visits, at each of G moments; of : (B,) int64, a request's
    covisits : what the signal of co-visits, see `model_core.signals.trends.covisit_signal`, counts
    """

    levels: NDArray[np.float32]
    of: NDArray[np.int64]
    covisits: float

    def take(self, requests: NDArray[np.integer]) -> "Moments":
        """Return those of some of the requests."""
        return replace(self, of=self.of[requests])


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """B requests over the N rows of an item matrix. Nothing in it is of every request and every item.

    history : (B, L) int64 item rows, most recent last, -1 = padding on the left
    history_actions : (B, L) int64 action codes (`Release.action_code`)
    history_age_s : (B, L) float32, seconds before the request
    user_entities : (B, A) int64 release rows, 0 = padding; user_entity_weights : (B, A) float32
    popularity : (N,) float32, log1p of the positive events of each item, decayed where the release says so:
        the signal that is 0 of few
    signals : the items for which another signal of a request is not 0
    signal_values : (M, S - 1) float32 for the rows of `signals`: co-visits, then EASE where a release has it
    eligible : (N,) bool, items that anybody may be given at this moment
    excluded : eligible items that a request may not be given
    limited : where `limited_mask` (B,) bool is True, the only items that a request may be given
    wanted : items that are candidates of a request beside those that retrieval brings, excluded ones too
    moments : where no release is, what is learned online; None = nothing yet
    """

    history: NDArray[np.int64]
    history_actions: NDArray[np.int64]
    history_age_s: NDArray[np.float32]
    user_entities: NDArray[np.int64]
    user_entity_weights: NDArray[np.float32]
    popularity: NDArray[np.float32]
    signals: SparseRows
    signal_values: NDArray[np.float32]
    eligible: NDArray[np.bool_]
    excluded: SparseRows
    limited: SparseRows | None = None
    limited_mask: NDArray[np.bool_] | None = None
    wanted: SparseRows | None = None
    moments: Moments | None = None

    def take(self, requests: NDArray[np.integer]) -> "ScoreBatch":
        """Return some of the requests."""
        users = {name: getattr(self, name)[requests] for name in PER_USER}
        return replace(
            self,
            **users,
            signals=self.signals.take(requests),
            signal_values=self.signal_values[self.signals.places(requests)[1]],
            excluded=self.excluded.take(requests),
            limited=None if self.limited is None else self.limited.take(requests),
            limited_mask=None if self.limited_mask is None else self.limited_mask[requests],
            wanted=None if self.wanted is None else self.wanted.take(requests),
            moments=None if self.moments is None else self.moments.take(requests),
        )

    def signals_of(self, request: int, row: int) -> NDArray[np.float32]:
        """Return the signals of one item for one request: (S,) float32."""
        rows = self.signals.of_request(request)
        at = int(np.searchsorted(rows, row))
        there = at < len(rows) and rows[at] == row
        values = self.signal_values[self.signals.bounds[request] + at] if there else self._no_signal()
        return np.insert(values, POPULARITY, self.popularity[row])

    def without_signals(self) -> "ScoreBatch":
        """The same requests as though there were no signal but popularity."""
        return replace(
            self,
            signals=SparseRows.none(len(self.history)),
            signal_values=np.zeros((0, self.signal_values.shape[1]), np.float32),
        )

    def _no_signal(self) -> NDArray[np.float32]:
        return np.zeros(self.signal_values.shape[1], np.float32)

    def only(self, rows: SparseRows) -> "ScoreBatch":
        """The same requests, limited to some rows each, whether these are excluded or not."""
        return replace(
            self,
            excluded=SparseRows.none(len(rows)),
            limited=rows,
            limited_mask=np.ones(len(rows), np.bool_),
            wanted=None,
        )


PER_USER = ("history", "history_actions", "history_age_s", "user_entities", "user_entity_weights")


def sparse_signals(
    signals: NDArray[np.float32],
) -> tuple[NDArray[np.float32], SparseRows, NDArray[np.float32]]:
    """Take dense signals (B, S, N) apart: popularity (N,), which all requests share, the rest as lists.

    Returns
    -------
    popularity, signals, signal_values : as of `ScoreBatch`

    Raises
    ------
    ValueError
        If the requests do not agree on popularity.
    """
    popularity = signals[:, POPULARITY]
    if (popularity != popularity[:1]).any():
        raise ValueError("popularity must be the same for all requests of a batch, got several")
    rest = np.delete(signals, POPULARITY, axis=1)
    there = (rest != 0).any(1)
    requests, rows = np.nonzero(there)
    bounds = np.searchsorted(requests, np.arange(len(signals) + 1))
    shared = popularity[0] if len(popularity) else np.zeros(signals.shape[2], np.float32)
    return (
        np.ascontiguousarray(shared),
        SparseRows(bounds.astype(np.int64), rows.astype(np.int32)),
        np.ascontiguousarray(rest[requests, :, rows]),
    )


def sparse_eligible(
    eligible: NDArray[np.bool_],
    limited: NDArray[np.bool_] | None = None,
    anybody: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """`eligible`, `excluded` and `limited` of a `ScoreBatch` from dense eligibility (B, N).

    Parameters
    ----------
    limited : (B,) bool, the requests that are to be limited to what is eligible for them
    anybody : (N,) bool, where more may be given than what is eligible for any of these requests
    """
    limited = np.zeros(len(eligible), np.bool_) if limited is None else limited
    shared = eligible.any(0) if anybody is None else anybody
    none = np.zeros(0, np.int64)
    return {
        "eligible": shared,
        "excluded": SparseRows.of(
            [
                none if few else np.flatnonzero(shared & ~row)
                for row, few in zip(eligible, limited, strict=True)
            ]
        ),
        "limited": SparseRows.of(
            [np.flatnonzero(row) if few else none for row, few in zip(eligible, limited, strict=True)]
        ),
        "limited_mask": limited,
    }


def dense_signals(batch: ScoreBatch) -> NDArray[np.float32]:
    """Return the signals of every request and item: (B, S, N) float32, for training and comparisons."""
    n_requests, n_sparse = len(batch.history), batch.signal_values.shape[1]
    dense = np.zeros((n_requests, n_sparse + 1, len(batch.popularity)), np.float32)
    dense[:, POPULARITY] = batch.popularity
    owner = np.repeat(np.arange(n_requests), np.diff(batch.signals.bounds))
    rest = [s for s in range(n_sparse + 1) if s != POPULARITY]
    for column, signal in enumerate(rest):
        dense[owner, signal, batch.signals.rows] = batch.signal_values[:, column]
    return dense


def dense_eligible(batch: ScoreBatch) -> NDArray[np.bool_]:
    """Return which items each request may be given: (B, N) bool, for training and comparisons."""
    dense = np.tile(batch.eligible, (len(batch.history), 1))
    if batch.limited is not None and batch.limited_mask is not None:
        for request in np.flatnonzero(batch.limited_mask).tolist():
            only = np.zeros(len(batch.eligible), np.bool_)
            only[batch.limited.of_request(request)] = True
            dense[request] &= only
    owner = np.repeat(np.arange(len(dense)), np.diff(batch.excluded.bounds))
    dense[owner, batch.excluded.rows] = False
    return dense
