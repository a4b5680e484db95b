"""Retrieval finds what sorting all scores finds, ties by row, whatever the blocks, lists and limits."""

from dataclasses import replace

import numpy as np
import pytest

from model_core.data.batches import ScoreBatch, SparseRows
from model_core.release import compact_items
from model_core.release.compact_items import CompactItems
from model_core.release.match_graph import match_graph
from model_core.release.near_items import WholeItems
from model_core.release.retrieval import Query, retrieve
from model_core.release.scorer import open_session

DIM = 4


def whole(items, **blocks):
    near = WholeItems(lambda match, some: match @ some.T, **blocks)
    near.hold(items)
    return near


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(compact_items, "WIDTH", 64)
    monkeypatch.setattr(compact_items, "MIN_WIDTH", 16)


def compact(items):
    near = CompactItems(open_session(match_graph(DIM), threads=1, device="cpu"), DIM)
    near.hold(items)
    return near


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
        found = retrieve(asked, items, query, wanted, whole(items, scores=scores))
        rows = [row[valid].tolist() for row, valid in zip(found.rows, found.valid, strict=True)]
        assert rows == by_sorting(asked, query, items, wanted)


@pytest.mark.parametrize("n_items", [1, 7, 65, 1_000])
@pytest.mark.parametrize("n_candidates", [1, 5, 40])
def test_what_is_wanted_comes_beside_the_best_with_the_score_that_it_has_anyway(n_items, n_candidates):
    rng = np.random.default_rng(n_items * 100 + n_candidates)
    batch, query, items = world(rng, 6, n_items)
    plain = by_sorting(batch, query, items, n_candidates)
    lists = [rng.choice(n_items, min(n_items, n), replace=False) for n in (0, 1, 3, 90, 0, 5)]
    lists[5] = np.union1d(lists[5], np.array(plain[5][:3], np.int64))  # some of them are brought anyway
    found = retrieve(replace(batch, wanted=SparseRows.of(lists)), items, query, n_candidates, whole(items))
    rows = [row[valid].tolist() for row, valid in zip(found.rows, found.valid, strict=True)]
    assert rows == [sorted({*best, *more.tolist()}) for best, more in zip(plain, lists, strict=True)]
    most = max(len(set(more.tolist()) - set(best)) for best, more in zip(plain, lists, strict=True))
    assert found.rows.shape[1] == n_candidates + most
    anybody = np.ones(n_items, np.bool_)
    alone = retrieve(
        replace(batch.only(SparseRows.of(lists)), eligible=anybody), items, query, n_items, whole(items)
    )
    for b, more in enumerate(lists):
        scores, told = (
            dict(zip(of.rows[b, of.valid[b]].tolist(), of.scores[b, of.valid[b]].tolist(), strict=True))
            for of in (found, alone)
        )
        assert told == {row: scores[row] for row in more.tolist()}


def test_a_request_is_answered_alike_alone_and_among_others():
    batch, query, items = world(np.random.default_rng(3), 5, 500)
    together = retrieve(batch, items, query, 20, whole(items))
    for b in range(5):
        mine = np.array([b])
        own = slice(batch.signals.bounds[b], batch.signals.bounds[b + 1])
        alone = retrieve(
            batch.take(mine), items,
            Query(query.match[mine], query.weight[mine], query.gain[mine], query.newcomer[mine], query.level,
                  query.own[own], query.always[mine]),
            20, whole(items),
        )  # fmt: skip
        np.testing.assert_array_equal(alone.rows[0], together.rows[b])
        np.testing.assert_array_equal(alone.scores[0], together.scores[b])


@pytest.mark.parametrize("n_items", [1, 15, 16, 17, 64, 65, 500])
def test_retrieval_is_exact_with_integers(small_blocks, n_items):
    rng = np.random.default_rng(n_items)
    batch, query, items = world(rng, 6, n_items)
    found = retrieve(batch, items, query, 20, compact(items))
    rows = [row[valid].tolist() for row, valid in zip(found.rows, found.valid, strict=True)]
    assert rows == by_sorting(batch, query, items, 20)


def test_what_is_found_of_any_vectors_is_what_plain_products_find(small_blocks):
    rng = np.random.default_rng(0)
    batch, query, _ = world(rng, 6, 2_000)
    items = rng.standard_normal((2_000, 4)).astype(np.float32) * 10.0 ** rng.integers(-3, 3, (2_000, 1))
    items = items.astype(np.float32)
    near, exact = (retrieve(batch, items, query, 40, of(items)) for of in (compact, whole))
    np.testing.assert_array_equal(near.rows, exact.rows)
    np.testing.assert_array_equal(near.scores, exact.scores)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_item_whose_vector_is_no_number_is_never_found(bad):
    rng = np.random.default_rng(0)
    batch, query, items = world(rng, 2, 50)
    items[7, 2] = bad
    found = retrieve(batch, items, query, 49, compact(items))
    assert not np.isin(7, found.rows[found.valid])
    assert found.valid.sum() > 0
