"""Retrieval finds what sorting all scores finds, ties by row, whatever the blocks, lists and limits."""

from dataclasses import replace

import numpy as np
import pytest

from model_core.release.batches import ScoreBatch, SparseRows
from model_core.release.retrieval import Query, retrieve

DIM = 4


def product_with(items):
    def product(match, begin, end):
        return match @ items[begin:end].T

    return product


def world(rng, n_requests, n_items, *, levels=5):
    """Requests whose scores are whole numbers of few values, so that sums are exact and many are equal."""

    def few(*shape):
        return rng.integers(-levels, levels + 1, shape).astype(np.float32)

    lists = [rng.choice(n_items, min(n_items, 30), replace=False) for _ in range(n_requests)]
    signals = SparseRows.of(lists)
    batch = ScoreBatch(
        history=np.zeros((n_requests, 1), np.int64),
        history_actions=np.zeros((n_requests, 1), np.int64),
        history_age_s=np.zeros((n_requests, 1), np.float32),
        user_entities=np.zeros((n_requests, 1), np.int64),
        user_entity_weights=np.zeros((n_requests, 1), np.float32),
        popularity=np.maximum(few(n_items), 0),
        signals=signals,
        signal_values=np.ones((len(signals.rows), 1), np.float32),
        eligible=rng.random(n_items) > 0.2,
        excluded=SparseRows.of([rng.choice(n_items, min(n_items, 9), replace=False) for _ in lists]),
    )
    query = Query(
        match=few(n_requests, DIM),
        weight=np.abs(few(n_requests)),
        gain=np.abs(few(n_requests)),
        newcomer=few(n_requests),
        level=few(n_items),
        own=few(len(signals.rows)),
        always=np.zeros(n_requests, np.float32),
    )
    return batch, query, few(n_items, DIM)


def by_sorting(batch, query, items, wanted):
    """Rows of the best of each request, by sorting."""
    match = query.match @ items.T
    known = batch.popularity > 0
    scores = np.where(known, query.gain[:, None] * match, match + query.newcomer[:, None])
    scores = scores + query.weight[:, None] * query.level
    best = []
    for b, row in enumerate(scores):
        row[batch.signals.of_request(b)] += query.own[batch.signals.bounds[b] : batch.signals.bounds[b + 1]]
        allowed = batch.eligible.copy()
        allowed[batch.excluded.of_request(b)] = False
        if batch.limited is not None and batch.limited_mask is not None and batch.limited_mask[b]:
            only = np.zeros_like(allowed)
            only[batch.limited.of_request(b)] = True
            allowed &= only
        order = np.lexsort((np.arange(len(row)), -row))
        best.append(sorted(order[allowed[order]][:wanted].tolist()))
    return best


@pytest.mark.parametrize("n_items", [1, 7, 64, 65, 1_000])
@pytest.mark.parametrize("wanted", [1, 5, 40])
@pytest.mark.parametrize("scores", [16, 300, 1 << 18])
def test_the_best_are_those_of_a_sort(n_items, wanted, scores):
    rng = np.random.default_rng(n_items * 100 + wanted)
    batch, query, items = world(rng, 6, n_items)
    limited = SparseRows.of([rng.choice(n_items, min(n_items, 20), replace=False) for _ in range(6)])
    mask = np.array([True, False] * 3)
    for asked in (batch, replace(batch, limited=limited, limited_mask=mask)):
        found = retrieve(asked, items, query, wanted, product_with(items), at_once=scores)
        rows = [row[valid].tolist() for row, valid in zip(found.rows, found.valid, strict=True)]
        assert rows == by_sorting(asked, query, items, wanted)


def test_a_request_is_answered_alike_alone_and_among_others():
    batch, query, items = world(np.random.default_rng(3), 5, 500)
    together = retrieve(batch, items, query, 20, product_with(items))
    for b in range(5):
        mine = np.array([b])
        own = slice(batch.signals.bounds[b], batch.signals.bounds[b + 1])
        alone = retrieve(
            batch.take(mine), items,
            Query(query.match[mine], query.weight[mine], query.gain[mine], query.newcomer[mine], query.level,
                  query.own[own], query.always[mine]),
            20, product_with(items),
        )  # fmt: skip
        np.testing.assert_array_equal(alone.rows[0], together.rows[b])
        np.testing.assert_array_equal(alone.scores[0], together.scores[b])
