"""A device's copy of the items multiplies as they do, and is sent only what was written."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.release.device_items import DeviceItems
from model_core.release.scorer import open_session

DIM = 8
opened = partial(open_session, threads=1, device="cpu")
TOLERANCE = {False: 1e-5, True: 2e-2}


@pytest.fixture(scope="module", params=[False, True], ids=["single", "half"])
def half(request):
    return request.param


def copy_of(half):
    return DeviceItems(dim=DIM, device="cpu", half=half, open_graph=opened)


def vectors(rng, n):
    return (rng.standard_normal((n, DIM)) / np.sqrt(DIM)).astype(np.float32)


def assert_same(held, items, half, rng):
    match = vectors(rng, 3)
    begin, end = sorted(rng.integers(0, len(items) + 1, 2).tolist())
    got = held.near(match, begin, end)
    assert got.products.dtype == np.float32
    np.testing.assert_allclose(got.products, match @ items[begin:end].T, atol=TOLERANCE[half])
    off = np.abs(got.products - match @ items[begin:end].T)
    assert (off <= got.of_norm[:, None] * held.norms[begin:end] + 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000), steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=12)
)
def test_a_copy_follows_rows_that_are_written_and_tables_that_grow(half, seed, steps):
    rng = np.random.default_rng(seed)
    held, table, used = copy_of(half), vectors(rng, 64), 5
    held.hold(table[:used])
    for more, written in steps:
        used += more
        while used > len(table):
            table = np.concatenate((table, np.zeros_like(table)))
        rows = np.unique(np.concatenate((np.arange(used - more, used), rng.integers(0, used, written))))
        table[rows] = vectors(rng, len(rows))
        if len(rows):
            held.write(rows.astype(np.int64))
        held.hold(table[:used])
        assert_same(held, table[:used], half, rng)


def test_only_rows_that_were_written_are_sent(half):
    rng = np.random.default_rng(0)
    items = vectors(rng, 1_000)
    held = copy_of(half)
    held.hold(items)
    held.hold(items)
    assert held.uploaded_rows == 1_000
    items[[3, 700]] = vectors(rng, 2)
    held.write(np.array([3, 700]))
    held.write(np.array([3]))
    held.hold(items)
    assert held.uploaded_rows == 1_002
    assert_same(held, items, half, rng)


def test_another_table_of_which_nothing_was_told_is_sent_whole(half):
    rng = np.random.default_rng(0)
    held = copy_of(half)
    held.hold(vectors(rng, 100))
    other = vectors(rng, 80)
    held.hold(other)
    assert held.uploaded_rows == 180
    assert_same(held, other, half, rng)


def test_no_items_at_all_are_a_table_too(half):
    held = copy_of(half)
    held.hold(np.zeros((0, DIM), np.float32))
    assert held.near(np.zeros((2, DIM), np.float32), 0, 0).products.shape == (2, 0)
