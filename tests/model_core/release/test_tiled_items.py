"""Products with tiles are those of the vectors, whatever is written and however tables grow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.release.tiled_items import FEW_REQUESTS, LANES, TiledItems


def products(held, match, n):
    step = held.at_once(len(match))
    return np.concatenate(
        [held.near(match, begin, min(begin + step, n)).products for begin in range(0, n, step)], axis=1
    )


def vectors(rng, n, dim):
    return rng.standard_normal((n, dim)).astype(np.float32)


def by_tiles_only(scores=1 << 18):
    def refused(users, items):
        raise AssertionError("few requests are multiplied with tiles")

    return TiledItems(refused, scores=scores)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 5 * LANES),
    b=st.integers(1, FEW_REQUESTS),
    dim=st.sampled_from([1, 7, 8, 20, 64]),
    scores=st.sampled_from([1, 500, 1 << 18]),
)
def test_products_are_those_of_the_vectors(seed, n, b, dim, scores):
    rng = np.random.default_rng(seed)
    items, match, held = vectors(rng, n, dim), vectors(rng, b, dim), by_tiles_only(scores)
    held.hold(items)
    found = products(held, match, n)
    np.testing.assert_allclose(found, match @ items.T, atol=1e-5 * dim)
    assert found.flags.c_contiguous


def test_a_product_has_the_same_bits_whatever_else_is_asked():
    rng = np.random.default_rng(3)
    items, match, held = vectors(rng, 200, 64), vectors(rng, FEW_REQUESTS, 64), by_tiles_only()
    held.hold(items)
    together = products(held, match, 200)
    for b in range(FEW_REQUESTS):
        np.testing.assert_array_equal(products(held, match[b : b + 1], 200)[0], together[b])


def test_many_requests_are_multiplied_by_the_library():
    rng = np.random.default_rng(4)
    items, match = vectors(rng, 200, 8), vectors(rng, FEW_REQUESTS + 1, 8)
    asked = []

    def product(users, some):
        asked.append(len(users))
        return users @ some.T

    held = TiledItems(product)
    held.hold(items)
    np.testing.assert_allclose(products(held, match, 200), match @ items.T, atol=1e-5)
    assert asked == [FEW_REQUESTS + 1]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000), steps=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 6)), max_size=9)
)
def test_tiles_follow_rows_that_are_written_and_tables_that_grow(seed, steps):
    rng = np.random.default_rng(seed)
    table, used, held = vectors(rng, 64, 8), 5, by_tiles_only()
    held.hold(table[:used])
    for more, written in steps:
        used += more
        while used > len(table):
            table = np.concatenate((table, np.zeros_like(table)))
        rows = np.unique(np.concatenate((np.arange(used - more, used), rng.integers(0, used, written))))
        if len(rows):
            table[rows] = vectors(rng, len(rows), 8)
            held.write(rows)
        held.hold(table[:used])
        match = vectors(rng, 3, 8)
        np.testing.assert_allclose(products(held, match, used), match @ table[:used].T, atol=1e-4)


@pytest.mark.parametrize("dim", [8, 16])
def test_another_table_is_another_even_of_another_width(dim):
    rng = np.random.default_rng(5)
    held = by_tiles_only()
    held.hold(vectors(rng, 100, 8))
    other, match = vectors(rng, 150, dim), vectors(rng, 2, dim)
    held.hold(other)
    np.testing.assert_allclose(products(held, match, 150), match @ other.T, atol=1e-4)
