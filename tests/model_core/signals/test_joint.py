"""Signals of a batch in one call, against their definitions one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_reads import previous_items
from model_core.signals.co_visitation_scores import sparse_scores, total_popularity
from model_core.signals.ease import Ease, Rows
from model_core.signals.joint import LikedItems, joint_scores
from model_core.signals.parts import PartsReader
from model_core.signals.popularity import Popularity
from model_core.signals.sparse import merge_signals

N_ITEMS, N_NEW, WINDOW = 90, 110, 5


def part(rng: np.random.Generator, n_events: int) -> CoVisitation:
    covisits = CoVisitation(neighbours=32, window=WINDOW)
    covisits.grow(rng.integers(0, 2**63, N_ITEMS).astype(np.uint64))
    fold(covisits, rng, n_events, 0)
    return covisits


def fold(covisits: CoVisitation, rng: np.random.Generator, n_events: int, begin: int) -> None:
    users, items = (rng.integers(0, n, n_events).astype(np.int32) for n in (7, N_ITEMS))
    positive = rng.random(n_events) < 0.6
    windows = previous_items(users, items, positive, WINDOW, 7)
    covisits.observe(items, positive, *windows, begin + np.arange(n_events))


def ease(rng: np.random.Generator, known: int) -> tuple[Ease, Rows]:
    sizes = rng.integers(0, known + 1, known)
    items = [np.sort(rng.permutation(known)[:size]) for size in sizes.tolist()]
    weights = rng.standard_normal(int(sizes.sum())).astype(np.float32)
    model = Ease(np.concatenate(([0], np.cumsum(sizes))), np.concatenate(items).astype(np.int32), weights)
    new = np.stack([rng.permutation(np.arange(N_ITEMS, N_NEW))[:6] for _ in range(known)])
    rows = Rows(
        rng.permutation(N_ITEMS)[:known].astype(np.int32), rng.integers(0, 7, known).astype(np.int32),
        new.astype(np.int32), rng.standard_normal((known, 6)).astype(np.float32),
    )  # fmt: skip
    return model, rows


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 4), st.sampled_from([1, 80, N_ITEMS, N_NEW])
)
def test_signals_together_have_the_bits_that_they_have_one_by_one(
    seed: int, n_parts: int, n_users: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    covisits = [part(rng, 60) for _ in range(n_parts)]
    model, rows = ease(rng, 30)
    histories = rng.integers(-1, N_ITEMS + 5, (n_users, 6))
    weights = rng.integers(0, 1 << 16, (n_users, 6))
    sizes = rng.integers(0, 9, n_users)
    liked, bounds = (
        rng.integers(-1, 30, sizes.sum()).astype(np.int32),
        np.concatenate(([0], np.cumsum(sizes))),
    )
    counts = total_popularity(covisits, n)
    apart = [sparse_scores(covisits, histories, weights, counts)]
    apart.append(model.sparse_scores(bounds, liked, rows, n))

    parts, popularity = PartsReader().read(covisits), Popularity(0.0)
    popularity.read(parts, n)
    for wanted, read in (
        (apart, LikedItems(model, rows, np.zeros(0, np.int32), liked, bounds[:-1], bounds[1:])),
        (apart[:1], None),
    ):
        expected, values = merge_signals(wanted)
        there = (values != 0).any(1)
        found, found_values = joint_scores(parts, histories, weights, popularity.tempers, read)
        owner = np.repeat(np.arange(n_users), np.diff(expected.bounds))[there]
        np.testing.assert_array_equal(found.rows, expected.rows[there])
        np.testing.assert_array_equal(np.diff(found.bounds), np.bincount(owner, minlength=n_users))
        np.testing.assert_array_equal(found_values, values[there])


@pytest.mark.parametrize("n", [N_ITEMS - 10, N_ITEMS, N_ITEMS + 10])
def test_popularity_follows_every_partition_and_what_was_given_stays_as_it_was(n: int) -> None:
    rng = np.random.default_rng(1)
    covisits = [part(rng, 50), part(rng, 0)]
    reader, popularity = PartsReader(), Popularity(0.0)
    given_before: list[tuple[np.ndarray, np.ndarray]] = []
    for turn in range(1, 4):
        popularity.read(reader.read(covisits), n)
        expected = total_popularity(covisits, n)
        np.testing.assert_array_equal(popularity.counts, expected)
        np.testing.assert_array_equal(popularity.levels, np.log1p(expected))
        np.testing.assert_array_equal(popularity.tempers, np.sqrt(expected.astype(np.float64) + 10.0))
        given_before.append((popularity.levels, np.log1p(expected)))
        fold(covisits[turn % 2], rng, 20, 50 * turn)
    for levels, as_they_were in given_before:
        np.testing.assert_array_equal(levels, as_they_were)


def test_tables_that_have_grown_are_found_where_they_are_now() -> None:
    rng = np.random.default_rng(2)
    covisits, reader = part(rng, 40), PartsReader()
    history, weights = np.arange(6)[None], np.ones((1, 6), np.int64)
    for turn in range(3):
        counts = total_popularity([covisits], N_ITEMS)
        tempers = np.sqrt(counts.astype(np.float64) + 10.0)
        _, rows, values = sparse_scores([covisits], history, weights, counts)
        found, got = joint_scores(reader.read([covisits]), history, weights, tempers, None)
        np.testing.assert_array_equal((found.rows, got[:, 0]), (rows, values))
        fold(covisits, rng, 3_000, 100_000 * (turn + 1))
