"""Retrieval: the best items of a whole catalogue for each request, exactly.

Score and order do not depend on what else is in the batch; equal scores come in the order of rows.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import POPULARITY, ScoreBatch, SparseRows
from model_core.release import retrieval_kernels as kernels
from model_core.release.near_items import NOTHING, Floats, NearItems, WholeItems

BUFFER = 4
"""Candidates held before the best are selected, times the number wanted."""


@dataclass(frozen=True, slots=True)
class Query:
    """The parts of an item's score for B requests; `retrieval_kernels` adds them up.

    match : (B, dim) float32; weight, gain, newcomer : (B,) float32
    level : (N,) float32, of the items, which `weight` weighs
    own : (M,) float32, what is added for each row of the batch's `signals`
    always : (B,) float32, added to all items of a request alike
    """

    match: Floats
    weight: Floats
    gain: Floats
    newcomer: Floats
    level: Floats
    own: Floats
    always: Floats


class Levels:
    """Logarithms of all items' popularity: those of the array that was asked for last are kept.

    An array of popularity is never written again, see `model_core.signals.popularity.Popularity.levels`.
    """

    def __init__(self) -> None:
        self._popularity, self._scale, self._levels = (np.zeros(0, np.float32), np.float32(0), NOTHING)

    def of(self, popularity: Floats, scale: np.float32) -> Floats:
        """Return ``log(scale + popularity)``: (N,) float32."""
        if popularity is not self._popularity or scale != self._scale:
            self._popularity, self._scale = popularity, scale
            self._levels = np.log(scale + popularity)
        return self._levels


@dataclass(frozen=True, slots=True)
class Found:
    """C candidates for each of B requests, by row; where there are fewer, the rest is 0 and not valid.

    C is the number asked for, and as many more as a request wants beside the best.

    rows : (B, C) int64; valid : (B, C) bool; scores : (B, C) float32
    signals : (B, C, S) float32; vectors : (B, C, dim) float32
    """

    rows: NDArray[np.int64]
    valid: NDArray[np.bool_]
    scores: Floats
    signals: Floats
    vectors: Floats


def retrieve(
    batch: ScoreBatch,
    items: Floats,
    query: Query,
    n_candidates: int,
    near: NearItems,
) -> Found:
    """Find the best candidates of each request.

    Parameters
    ----------
    items : (N, dim) float32
    near
        Holds the same items. What is found does not depend on how near it comes.

    Raises
    ------
    ValueError
        If the arrays are not of the same items or widths.
    """
    wanted = (len(batch.popularity), query.match.shape[1])
    if items.shape != wanted:
        raise ValueError(f"items must have shape {wanted}, got {items.shape}")
    if len(batch.eligible) != len(items):
        raise ValueError(f"eligible must have {len(items)} rows, got {len(batch.eligible)}")
    n_requests = len(query.match)
    more = 0 if batch.wanted is None else int(np.diff(batch.wanted.bounds).max(initial=0))
    shape = (n_requests, BUFFER * n_candidates + kernels.STRIDE + more)
    best = (
        np.empty(shape, np.float32),
        np.empty(shape, np.int64),
        np.zeros(n_requests, np.int64),
    )
    few, all_ = np.zeros(0, np.int64), np.arange(n_requests)
    if batch.limited_mask is not None and batch.limited_mask.any():
        few, all_ = np.flatnonzero(batch.limited_mask), np.flatnonzero(~batch.limited_mask)
    if len(few):
        _search_few(batch, items, query, few, n_candidates, best)
    if len(all_):
        _search_all(batch, items, query, all_, near, n_candidates, best)
    if batch.wanted is not None and more:
        wanted_rows = batch.wanted
        n_candidates += kernels.add_wanted(wanted_rows.bounds, wanted_rows.rows, n_candidates, *best)
    return _described(batch, items, query, n_candidates, best)


def _search_all(
    batch: ScoreBatch,
    items: Floats,
    query: Query,
    asking: NDArray[np.int64],
    near: NearItems,
    n_candidates: int,
    best: tuple[Floats, NDArray[np.int64], NDArray[np.int64]],
) -> None:
    match = query.match if len(asking) == len(query.match) else query.match[asking]
    step = near.at_once(len(asking))
    least = np.full(len(query.match), -np.inf, np.float32)
    cursors = np.empty((len(query.match), 2), np.int64)
    cursors[:, 0], cursors[:, 1] = batch.signals.bounds[:-1], batch.excluded.bounds[:-1]
    for begin in range(0, len(items), step):
        found = near.near(match, begin, min(begin + step, len(items)))
        kernels.keep_best(
            found.products, found.of_norm, found.of_error, near.norms, near.errors,
            items, query.match, begin, asking,
            batch.popularity, query.level, batch.eligible, query.weight, query.gain, query.newcomer,
            batch.signals.bounds, batch.signals.rows, query.own,
            batch.excluded.bounds, batch.excluded.rows, cursors, n_candidates, *best, least,
        )  # fmt: skip


def _search_few(
    batch: ScoreBatch,
    items: Floats,
    query: Query,
    asking: NDArray[np.int64],
    n_candidates: int,
    best: tuple[Floats, NDArray[np.int64], NDArray[np.int64]],
) -> None:
    limited = batch.limited or SparseRows.none(len(query.match))
    kernels.keep_best_of_few(
        items, query.match, asking, limited.bounds, limited.rows,
        batch.popularity, query.level, batch.eligible, query.weight, query.gain, query.newcomer,
        batch.signals.bounds, batch.signals.rows, query.own,
        batch.excluded.bounds, batch.excluded.rows, n_candidates, *best,
    )  # fmt: skip


def _described(
    batch: ScoreBatch,
    items: Floats,
    query: Query,
    n_candidates: int,
    best: tuple[Floats, NDArray[np.int64], NDArray[np.int64]],
) -> Found:
    shape = (len(query.match), n_candidates)
    found = Found(
        rows=np.empty(shape, np.int64),
        valid=np.empty(shape, np.bool_),
        scores=np.empty(shape, np.float32),
        signals=np.empty((*shape, batch.signal_values.shape[1] + 1), np.float32),
        vectors=np.empty((*shape, items.shape[1]), np.float32),
    )
    kernels.describe(
        items, query.match, batch.popularity, query.level, query.weight, query.gain, query.newcomer,
        query.always, batch.signals.bounds, batch.signals.rows, query.own, batch.signal_values, POPULARITY,
        *best, found.rows, found.valid, found.scores, found.signals, found.vectors,
    )  # fmt: skip
    return found


def warm() -> None:
    """Compile every kernel, or load it from the cache, so that no request waits for it."""
    one = np.ones(1, np.float32)
    query = Query(
        match=one[:, None], weight=one, gain=one, newcomer=one, level=one, own=one, always=np.zeros_like(one)
    )
    row = SparseRows.of([np.zeros(1, np.int64)])
    nobody = np.zeros((1, 1), np.int64)
    batch = ScoreBatch(
        history=nobody,
        history_actions=nobody,
        history_age_s=one[:, None],
        user_entities=nobody,
        user_entity_weights=one[:, None],
        popularity=one,
        signals=row,
        signal_values=one[:, None],
        eligible=np.ones(1, np.bool_),
        excluded=SparseRows.none(1),
    )
    kernels.own_parts(row.bounds, one[:, None], one[:, None], one, one.copy())
    near = WholeItems(np.outer)
    near.hold(one[:, None])
    for asked in (batch, batch.only(row), replace(batch, wanted=row)):
        found = retrieve(asked, one[:, None], query, 1, near)
    columns = found.rows, found.valid, found.scores, found.signals, found.vectors
    kernels.best_first(*columns, *columns)
