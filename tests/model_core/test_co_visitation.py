from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.co_visitation import (
    CoVisitation,
    pair_counts,
    previous_items,
    scores,
    total_popularity,
)

N_ITEMS = 40
logs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, N_ITEMS - 1)), max_size=120)


def columns(log, window=5):
    users = np.array([user for user, _ in log], np.int32)
    items = np.array([item for _, item in log], np.int32)
    return items, previous_items(users, items, window, 5), np.arange(len(log), dtype=np.int64)


def make(neighbours=256, window=5, keys=None):
    part = CoVisitation(neighbours=neighbours, window=window)
    part.grow(np.arange(N_ITEMS, dtype=np.uint64) if keys is None else keys)
    return part


def content(part):
    bounds, others, counts = part.neighbours_of(np.arange(part.n_items, dtype=np.int32))
    rows = [
        sorted(zip(others[begin:end].tolist(), counts[begin:end].tolist(), strict=True))
        for begin, end in zip(bounds, bounds[1:], strict=False)
    ]
    return rows, part.popularity.tolist(), part.applied.tolist()


def saved(part, rows):
    return part.applied[rows].copy(), part.popularity[rows].copy(), *part.neighbours_of(rows)


def test_previous_items_are_the_users_own_most_recent_first():
    users, items = np.array([0, 1, 0, 0, 0], np.int32), np.array([3, 9, 4, 5, 6], np.int32)

    windows = previous_items(users, items, 2, 2)

    assert windows.tolist() == [[-1, -1], [-1, -1], [3, -1], [4, 3], [5, 4]]


@given(logs)
def test_counts_are_exact_while_the_counters_suffice(log):
    part = make()
    items, windows, offsets = columns(log)
    part.observe(items, windows, offsets)

    expected = defaultdict(int)
    for item, window in zip(items.tolist(), windows.tolist(), strict=True):
        for other in {other for other in window if other >= 0} - {item}:
            expected[item, other] += 1
            expected[other, item] += 1
    rows, popularity, _ = content(part)
    found = {(row, other): count for row, pairs in enumerate(rows) for other, count in pairs}
    assert found == expected
    assert popularity == np.bincount(items, minlength=N_ITEMS).tolist()


@given(logs, st.integers(0, 120))
def test_batch_boundaries_do_not_matter(log, cut):
    whole, halves = make(neighbours=16), make(neighbours=16)
    items, windows, offsets = columns(log)
    whole.observe(items, windows, offsets)
    halves.observe(items[:cut], windows[:cut], offsets[:cut])
    halves.observe(items[cut:], windows[cut:], offsets[cut:])

    assert content(halves) == content(whole)


@given(logs, st.integers(0, 120))
def test_replaying_a_suffix_changes_nothing(log, begin):
    part = make(neighbours=16)
    items, windows, offsets = columns(log)
    part.observe(items, windows, offsets)
    before = content(part)
    part.take_dirty()
    part.observe(items[begin:], windows[begin:], offsets[begin:])

    assert content(part) == before
    assert len(part.take_dirty()) == 0


@given(
    logs,
    st.sampled_from([16, 32]),
    st.integers(0, 120),
    st.integers(0, 120),
    st.sets(st.integers(0, N_ITEMS - 1)),
)
def test_rows_saved_at_different_moments_reach_the_same_state(log, neighbours, first, second, flushed):
    """Some rows saved after `first` events, the others after `second`; the replay begins at the older."""
    items, windows, offsets = columns(log)
    live, restored = make(neighbours), make(neighbours)
    first, second = sorted((min(first, len(log)), min(second, len(log))))
    early = np.array(sorted(flushed), np.int32)
    late = np.array(sorted(set(range(N_ITEMS)) - flushed), np.int32)
    live.observe(items[:first], windows[:first], offsets[:first])
    restored.restore(early, *saved(live, early))
    live.observe(items[first:second], windows[first:second], offsets[first:second])
    restored.restore(late, *saved(live, late))
    live.observe(items[second:], windows[second:], offsets[second:])

    restored.observe(items[first:], windows[first:], offsets[first:])

    assert content(restored) == content(live)


@given(logs, st.randoms(use_true_random=False))
def test_row_numbers_do_not_matter(log, random):
    """The same items under other row numbers keep the same neighbours, by key, even when counters run out."""
    keys = np.array([random.getrandbits(64) for _ in range(N_ITEMS)], np.uint64)
    order = np.array(random.sample(range(N_ITEMS), N_ITEMS), np.int32)  # new row of every old row
    moved_keys = np.empty_like(keys)
    moved_keys[order] = keys
    part, moved = make(neighbours=16, keys=keys), make(neighbours=16, keys=moved_keys)
    items, windows, offsets = columns(log)
    part.observe(items, windows, offsets)
    moved.observe(order[items], np.where(windows < 0, -1, order[windows]).astype(np.int32), offsets)

    rows, _, _ = content(part)
    moved_rows, _, _ = content(moved)
    assert [sorted((order[o], c) for o, c in pairs) for pairs in rows] == [
        moved_rows[order[row]] for row in range(N_ITEMS)
    ]


def test_a_frequent_neighbour_survives_a_flood_of_rare_ones():
    n = 20_000
    part = CoVisitation(neighbours=64, window=1)
    part.grow(np.random.default_rng(0).integers(0, 2**63, n, dtype=np.uint64))
    others = np.arange(1, n, dtype=np.int32)
    others[::10] = 1
    part.observe(np.zeros(n - 1, np.int32), others[:, None], np.arange(n - 1, dtype=np.int64))

    bounds, neighbours, counts = part.neighbours_of(np.zeros(1, np.int32))
    assert bounds[1] == 64
    assert neighbours[counts.argmax()] == 1
    assert counts.max() >= 2000


def test_many_items_with_many_neighbours_grow_the_memory_and_lose_nothing():
    rng = np.random.default_rng(1)
    items, users = rng.integers(0, 3000, 5000).astype(np.int32), rng.integers(0, 50, 5000).astype(np.int32)
    part = CoVisitation(neighbours=4096, window=20)
    part.grow(np.arange(1000, dtype=np.uint64))
    part.grow(np.arange(3000, dtype=np.uint64))
    windows = previous_items(users, items, 20, 50)
    part.observe(items, windows, np.arange(5000, dtype=np.int64))

    expected = sum(
        2 * len({o for o in w if o >= 0} - {i}) for i, w in zip(items.tolist(), windows.tolist(), strict=True)
    )
    assert part.neighbours_of(np.arange(3000, dtype=np.int32))[2].sum() == expected


def test_scores_add_up_over_partitions_and_temper_popularity():
    log = [(0, 1), (0, 2), (1, 1), (1, 3), (2, 2), (2, 1)]
    items, windows, offsets = columns(log)
    one, parts = make(), [make(), make()]
    one.observe(items, windows, offsets)
    parts[0].observe(items[:4], windows[:4], offsets[:4])
    parts[1].observe(items[4:], windows[4:], offsets[4:])
    histories = np.array([[-1, 1], [2, 3], [-1, -1]], np.int64)

    found = scores(parts, histories, 5)

    np.testing.assert_array_equal(found, scores([one], histories, 5))
    assert found[0, 2] == pytest.approx(2 / np.sqrt(2 + 10))
    assert found[0, 3] == pytest.approx(1 / np.sqrt(1 + 10))
    assert not found[2].any()
    assert total_popularity(parts, 60)[:5].tolist() == [0, 3, 2, 1, 0]
    np.testing.assert_array_equal(
        pair_counts(parts, np.array([1, -1]), np.array([2, 3, 0])), [[2, 1, 0], [0, 0, 0]]
    )


@pytest.mark.parametrize("neighbours", [0, 5000])
def test_neighbours_out_of_range_are_refused(neighbours):
    with pytest.raises(ValueError, match=rf"neighbours must be in \[1, 4096\], got {neighbours}"):
        CoVisitation(neighbours=neighbours)


def test_a_window_below_one_is_refused():
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        CoVisitation(window=0)
