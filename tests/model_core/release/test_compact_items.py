"""Products of integers are off by no more than they say, whatever is written and however tables grow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.release import compact_items
from model_core.release.compact_items import CompactItems
from model_core.release.match_graph import match_graph
from model_core.release.near_items import GrowingItems, WholeItems
from model_core.release.scorer import open_session

DIM = 8
SESSIONS = {dim: open_session(match_graph(dim), threads=1, device="cpu") for dim in (4, 8, 64)}


def products(held, match, n):
    """What is near, and the most it may be off by: (b, n) each."""
    step = held.at_once(len(match))
    parts = [held.near(match, begin, min(begin + step, n)) for begin in range(0, n, step)]
    off = parts[0].of_norm[:, None] * held.norms[:n] + parts[0].of_error[:, None] * held.errors[:n]
    return np.concatenate([part.products for part in parts], axis=1), off


def vectors(rng, n, dim=DIM):
    """Of lengths from nothing to large ones."""
    made = rng.standard_normal((n, dim)) * 10.0 ** rng.integers(-3, 4, (n, 1))
    made[rng.random(n) < 0.1] = 0
    return made.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 300), b=st.integers(1, 9), dim=st.sampled_from([8, 64]))
def test_a_product_is_off_by_no_more_than_it_says(seed, n, b, dim):
    rng = np.random.default_rng(seed)
    items, match = vectors(rng, n, dim), vectors(rng, b, dim)
    held = CompactItems(SESSIONS[dim], dim)
    held.hold(items)
    near, most = products(held, match, n)
    off = np.abs(near - match.astype(np.float64) @ items.T.astype(np.float64))
    assert (off <= most).all()
    assert (most <= 0.1 * np.linalg.norm(match, axis=1)[:, None] * np.linalg.norm(items, axis=1)).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000), steps=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 6)), max_size=9)
)
def test_integers_follow_rows_that_are_written_and_tables_that_grow(seed, steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact_items, "WIDTH", 64)
        patch.setattr(compact_items, "MIN_WIDTH", 16)
        rng = np.random.default_rng(seed)
        table, used, held = vectors(rng, 64), 5, CompactItems(SESSIONS[DIM], DIM)
        table[used:] = 0
        held.hold(table[:used])
        for more, written in steps:
            used += more
            while used > len(table):
                table = np.concatenate((table, np.zeros_like(table)))
            rows = np.unique(np.concatenate((np.arange(used - more, used), rng.integers(0, used, written))))
            if len(rows):
                table[rows] = vectors(rng, len(rows))
                held.write(rows)
            held.hold(table[:used])
            match = vectors(rng, 3)
            near, most = products(held, match, used)
            assert (np.abs(near - match @ table[:used].T) <= most).all()


def test_rows_beyond_a_shorter_view_are_not_forgotten_and_another_table_is_another():
    rng = np.random.default_rng(1)
    table, other, held = vectors(rng, 100), vectors(rng, 80), CompactItems(SESSIONS[DIM], DIM)
    match = vectors(rng, 3)
    held.hold(table[:50])
    table[60] = vectors(rng, 1)[0] + 1
    held.write(np.array([60]))
    held.hold(table[:50])
    table[50:] = vectors(rng, 50) + 1
    held.write(np.array([1, *range(50, 60), *range(61, 100)]))
    for items in (table, other, table[:70]):
        held.hold(items)
        near, most = products(held, match, len(items))
        assert (np.abs(near - match @ items.T) <= most).all()


def test_a_catalogue_that_grows_large_is_found_as_before():
    rng = np.random.default_rng(2)
    table, match = vectors(rng, 300), vectors(rng, 3)
    held = GrowingItems(
        WholeItems(lambda users, items: users @ items.T), lambda: CompactItems(SESSIONS[DIM], DIM), size=100
    )
    for n in (50, 99, 100, 300):
        held.write(np.arange(n))
        held.hold(table[:n])
        near = np.concatenate(
            [
                held.near(match, begin, min(begin + held.at_once(3), n)).products
                for begin in range(0, n, held.at_once(3))
            ],
            axis=1,
        )
        np.testing.assert_allclose(near, match @ table[:n].T, atol=0.1 * np.abs(match @ table[:n].T).max())
        assert (len(held.norms) > 0) == (n >= 100)


def test_what_is_scored_beside_leaves_the_catalogue_as_it_is(scorer):
    assert scorer.beside()._graphs._near is not scorer._graphs._near
    assert scorer.beside()._graphs.states is scorer._graphs.states


def test_the_largest_sums_do_not_saturate():
    items, match = np.full((3, 64), 1, np.float32), np.full((1, 64), -1, np.float32)
    held = CompactItems(SESSIONS[64], 64)
    held.hold(items)
    near, _ = products(held, match, 3)
    np.testing.assert_allclose(near, -64, rtol=1e-5)
