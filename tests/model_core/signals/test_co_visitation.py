import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals import co_visitation_reads as reads
from model_core.signals import neighbour_groups as groups
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_reads import previous_items
from model_core.signals.co_visitation_scores import (
    WEIGHT_UNIT,
    pair_counts,
    read_weights,
    sparse_scores,
    total_popularity,
)
from model_core.signals.config import SignalConfig
from model_core.signals.parts import PartsReader
from model_core.signals.pasts import Window, recent
from model_core.signals.popularity import TYPICAL_LIKES, Popularity
from model_core.signals.sample_signals import CovisitReplay, Log, UserEvents
from model_core.signals.sparse import scatter

N_ITEMS = 40
logs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, N_ITEMS - 1), st.booleans()), max_size=120)


def columns(log, window=5):
    """Arguments of `observe`."""
    users = np.array([user for user, _, _ in log], np.int32)
    items = np.array([item for _, item, _ in log], np.int32)
    positive = np.array([positive for _, _, positive in log], np.bool_)
    windows = previous_items(users, items, positive, window, 5)
    return items, positive, *windows, np.arange(len(log), dtype=np.int64)


def cut(events, begin=None, end=None):
    return [column[begin:end] for column in events]


def make(neighbours=256, window=5, keys=None, pair_back=1.0):
    part = CoVisitation(neighbours=neighbours, window=window, pair_back=pair_back)
    part.grow(np.arange(N_ITEMS, dtype=np.uint64) if keys is None else keys)
    return part


def dense_scores(parts, histories, n_items, weights):
    found = sparse_scores(parts, histories, weights, total_popularity(parts, n_items))
    for begin, end in zip(found[0], found[0][1:], strict=False):
        assert (np.diff(found[1][begin:end]) > 0).all()
    return scatter(found, n_items)


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
    positive = np.array([True, True, False, True, True])

    windows, windows_positive = previous_items(users, items, positive, 2, 2)

    assert windows.tolist() == [[-1, -1], [-1, -1], [3, -1], [4, 3], [5, 4]]
    assert windows_positive.tolist() == [
        [False] * 2,
        [False] * 2,
        [True, False],
        [False, True],
        [True, False],
    ]


def log_of(log):
    """A log of five users, and the row after its last."""
    items, positive, *_, offsets = columns(log)
    users = np.array([user for user, _, _ in log], np.int32)
    return Log(users, items, offsets + 1, positive, offsets, 5, N_ITEMS)


@pytest.mark.parametrize(("back", "there"), [(1.0, 1024), (0.25, 256), (0.0, None), (1e-9, 1)])
def test_a_pair_counts_less_against_its_order(back, there):
    part = CoVisitation(window=5, pair_back=back)
    part.grow(np.arange(N_ITEMS, dtype=np.uint64))
    part.observe(*columns([(0, 1, True), (0, 2, True)]))
    rows, popularity, applied = content(part)
    assert rows[1] == [(2, 1024)]
    assert rows[2] == ([] if there is None else [(1, there)])
    assert popularity[:4] == [0, 1, 1, 0]
    assert applied[:4] == [-1, 1, 1, -1]


@given(logs, st.sampled_from([16, 256]), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_scores_are_those_that_training_replays(log, neighbours, read_temper, pair_back):
    part = make(neighbours, window=20, pair_back=pair_back)
    config = SignalConfig(
        neighbours=neighbours, influence_per_hour=0, read_temper=read_temper, pair_back=pair_back
    )
    items, positive, *windows, offsets = columns(log, window=20)
    part.observe(items, positive, *windows, offsets)
    events, described = log_of([*log, *((user, 0, True) for user in range(5))]), np.ones(N_ITEMS, np.bool_)
    asked, last = np.arange(5, dtype=np.int32), np.arange(len(log), len(log) + 5)
    pasts = UserEvents(events, config.depth).before(asked, np.full(5, len(log)))
    rows, weights = recent(pasts, described, read_weights(window=20, decay=0.85, other=0.5))
    popularity = Popularity(config.surge_bound, read_temper)
    popularity.read(PartsReader().read([part]), N_ITEMS)
    _, tempered = popularity.weighed(Window(rows, weights))
    typical = np.float64((10 / (TYPICAL_LIKES + 10)) ** read_temper)
    expected = dense_scores([part], rows, N_ITEMS, tempered) / typical

    replay, everything = CovisitReplay(events, config), np.tile(np.arange(N_ITEMS, dtype=np.int32), (5, 1))
    found, levels = replay.before(last[:1], Window(rows[:1], weights[:1]), everything[:1])
    np.testing.assert_allclose(found, expected[:1], rtol=1e-6)
    np.testing.assert_array_equal(levels[0], np.log1p(total_popularity([part], N_ITEMS)))
    replay.advance(len(events))
    with pytest.raises(ValueError, match=f"position must be at least {len(events)}, got 0"):
        replay.advance(0)


def test_pairing_defaults_are_those_of_training():
    config, part = SignalConfig(), CoVisitation()
    explicit = CoVisitation(**config.pairing)

    assert part.window == explicit.window
    np.testing.assert_array_equal(part.pair_weights, explicit.pair_weights)


@given(logs, st.integers(0, 120))
def test_batch_boundaries_do_not_matter(log, middle):
    whole, halves = make(neighbours=16), make(neighbours=16)
    events = columns(log)
    whole.observe(*events)
    halves.observe(*cut(events, end=middle))
    halves.observe(*cut(events, middle))

    assert content(halves) == content(whole)


@given(logs, st.integers(0, 120))
def test_replaying_a_suffix_changes_nothing(log, begin):
    part = make(neighbours=16)
    events = columns(log)
    part.observe(*events)
    before = content(part)
    part.take_dirty()
    part.observe(*cut(events, begin))

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
    events = columns(log)
    live, restored = make(neighbours), make(neighbours)
    first, second = sorted((min(first, len(log)), min(second, len(log))))
    early = np.array(sorted(flushed), np.int32)
    late = np.array(sorted(set(range(N_ITEMS)) - flushed), np.int32)
    live.observe(*cut(events, end=first))
    restored.restore(early, *saved(live, early))
    live.observe(*cut(events, first, second))
    restored.restore(late, *saved(live, late))
    live.observe(*cut(events, second))

    restored.observe(*cut(events, first))

    assert content(restored) == content(live)


@given(logs, st.randoms(use_true_random=False))
def test_row_numbers_do_not_matter(log, random):
    """The same items under other row numbers keep the same neighbours, by key, even when counters run out."""
    keys = np.array([random.getrandbits(64) for _ in range(N_ITEMS)], np.uint64)
    order = np.array(random.sample(range(N_ITEMS), N_ITEMS), np.int32)  # new row of every old row
    moved_keys = np.empty_like(keys)
    moved_keys[order] = keys
    part, moved = make(neighbours=16, keys=keys), make(neighbours=16, keys=moved_keys)
    items, positive, windows, windows_positive, offsets = columns(log)
    part.observe(items, positive, windows, windows_positive, offsets)
    moved_windows = np.where(windows < 0, -1, order[windows]).astype(np.int32)
    moved.observe(order[items], positive, moved_windows, windows_positive, offsets)

    rows, _, _ = content(part)
    moved_rows, _, _ = content(moved)
    assert [sorted((order[o], c) for o, c in pairs) for pairs in rows] == [
        moved_rows[order[row]] for row in range(N_ITEMS)
    ]


def flood(n=20_000):
    """Item 0 beside n others, every tenth time beside item 1."""
    part = CoVisitation(neighbours=64, window=1)
    part.grow(np.random.default_rng(0).integers(0, 2**63, n, dtype=np.uint64))
    others = np.arange(1, n, dtype=np.int32)
    others[::10] = 1
    positive = np.ones(n - 1, np.bool_)
    part.observe(
        np.zeros(n - 1, np.int32),
        positive,
        others[:, None],
        positive[:, None],
        np.arange(n - 1, dtype=np.int64),
    )
    return part


def test_a_frequent_neighbour_survives_a_flood_of_rare_ones():
    part = flood()
    bounds, neighbours, counts = part.neighbours_of(np.zeros(1, np.int32))

    assert bounds[1] == 64
    assert neighbours[counts.argmax()] == 1
    found = pair_counts([part], np.array([0]), np.array([1]))
    assert found[0, 0] == pytest.approx(2000, rel=0.05)


def test_counters_keep_the_total_weight_when_they_run_out():
    part = flood()

    assert part.neighbours_of(np.zeros(1, np.int32))[2].sum() == 19_999 * 1024


def test_many_items_with_many_neighbours_grow_the_memory_and_lose_nothing():
    rng = np.random.default_rng(1)
    items, users = rng.integers(0, 3000, 5000).astype(np.int32), rng.integers(0, 50, 5000).astype(np.int32)
    part = CoVisitation(neighbours=4096, window=20, pair_decay=1.0)
    part.grow(np.arange(1000, dtype=np.uint64))
    part.grow(np.arange(3000, dtype=np.uint64))
    positive = np.ones(5000, np.bool_)
    windows, windows_positive = previous_items(users, items, positive, 20, 50)
    part.observe(items, positive, windows, windows_positive, np.arange(5000, dtype=np.int64))

    expected = 2 * 1024 * np.count_nonzero((windows >= 0) & (windows != items[:, None]))
    assert part.neighbours_of(np.arange(3000, dtype=np.int32))[2].sum() == expected


def test_scores_add_up_over_partitions_and_temper_popularity():
    log = [(0, 1, True), (0, 2, True), (1, 1, True), (1, 3, False), (2, 2, True), (2, 1, True)]
    events = columns(log)
    one, parts = make(), [make(), make()]
    one.observe(*events)
    parts[0].observe(*cut(events, end=4))
    parts[1].observe(*cut(events, 4))
    histories = np.array([[-1, 1], [2, 3], [-1, -1]], np.int64)

    weights = np.full(histories.shape, WEIGHT_UNIT)

    found = dense_scores(parts, histories, 5, weights)

    np.testing.assert_array_equal(found, dense_scores([one], histories, 5, weights))
    assert found[0, 2] == pytest.approx(2 / np.sqrt(2 + 10))
    assert found[0, 3] == pytest.approx(0.35 / np.sqrt(0 + 10), rel=0.002)
    assert not found[2].any()
    assert total_popularity(parts, 60)[:5].tolist() == [0, 3, 2, 0, 0]
    np.testing.assert_allclose(
        pair_counts(parts, np.array([1, -1]), np.array([2, 3, 0])), [[2, 0.35, 0], [0, 0, 0]], rtol=0.002
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neighbours": 0}, r"neighbours must be in \[1, 4096\], got 0"),
        ({"neighbours": 5000}, r"neighbours must be in \[1, 4096\], got 5000"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"pair_decay": 0.0}, r"pair_decay must be in \(0, 1\], got 0.0"),
        ({"pair_other": 1.5}, r"pair_other must be in \(0, 1\], got 1.5"),
        ({"pair_back": -0.1}, r"pair_back must be in \[0, 1\], got -0.1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CoVisitation(**arguments)


def test_windows_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"windows must have shape \(n, 5\), got \(1, 4\)"):
        make().observe(*columns([(0, 1, True)], window=4))


def test_slices_of_histories_need_no_compilation_of_their_own():
    part = make()
    part.observe(*columns([(0, 1, True), (0, 2, True)]))
    histories, weights = np.array([[5, 1, 2]], np.int64), np.array([[9, 4, 2]], np.int64)
    found = dense_scores([part], histories[:, 1:], 4, weights[:, 1:])
    compiled = len(reads.gather_weighted.signatures)

    again = dense_scores([part], histories[:, 1:].copy(), 4, weights[:, 1:].copy())
    np.testing.assert_array_equal(found, again)
    assert len(reads.gather_weighted.signatures) == compiled


@given(logs, st.sets(st.integers(0, N_ITEMS - 1)))
def test_forgotten_items_leave_the_others_as_if_restored_without_them(log, forgotten):
    part, rows = make(neighbours=16), np.arange(N_ITEMS, dtype=np.int32)
    part.observe(*columns(log))
    part.take_dirty()
    before = [dict(row) for row in content(part)[0]]
    gone = np.isin(rows, list(forgotten))
    held = [bool(forgotten.intersection(row)) for row in before]
    part.drop(rows[gone])
    for begin in range(0, N_ITEMS, 7):
        part.forget(gone, begin, begin + 7)

    after, popularity, applied = content(part)
    assert [dict(row) for row in after] == [
        {} if gone[row] else {other: n for other, n in old.items() if other not in forgotten}
        for row, old in enumerate(before)
    ]
    assert not any(popularity[row] for row in forgotten)
    assert all(applied[row] == -1 for row in forgotten)
    assert sorted(part.take_dirty().tolist()) == [row for row in rows if held[row] and not gone[row]]
    restored = make(neighbours=16)
    kept = np.flatnonzero(np.array(applied) >= 0).astype(np.int32)
    restored.restore(kept, *saved(part, kept))
    more = [*columns([*log, *log])[:4], np.arange(1_000, 1_000 + 2 * len(log), dtype=np.int64)]
    for one in (part, restored):
        one.observe(*more)
    assert content(part) == content(restored)


def test_a_row_that_has_grown_since_room_was_made_for_it_is_read_within_that_room():
    part, row, room = flood(), np.zeros(1, np.int32), groups.GROUP
    assert len(part.neighbours_of(row)[1]) > room
    sizes, others, counts = np.empty(1, np.int64), np.full(64, -7, np.int32), np.full(64, -7, np.int32)
    reads.gather(part._tables, row, sizes, others[:room], counts[:room])
    assert sizes[0] <= room
    assert (others[room:] == -7).all()
    assert (counts[room:] == -7).all()


@given(logs, st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0]))
def test_what_is_retracted_is_as_if_it_had_never_been(log, user, pair_back):
    part, without = make(pair_back=pair_back), make(pair_back=pair_back)
    events, theirs = columns(log), np.array([one == user for one, _, _ in log], np.bool_)
    part.observe(*events)
    part.take_dirty()
    part.retract(*cut_out(events, theirs)[:4], np.zeros(theirs.sum(), np.int64), through=len(log))
    without.observe(*cut_out(events, ~theirs))
    (rows, likes, applied), expected = content(part), content(without)
    assert (rows, likes) == expected[:2]
    assert np.abs(part.tables.rates - without.tables.rates).max() < 1e-5
    changed = part.take_dirty().tolist()
    assert sorted(changed) == [row for row, at in enumerate(applied) if at == len(log)]
    assert all(applied[row] == len(log) or at == expected[2][row] for row, at in enumerate(applied))
    again = make()
    again.restore(part_rows := np.arange(N_ITEMS, dtype=np.int32), *saved(part, part_rows))
    assert content(again)[:2] == (rows, likes)


@given(logs, st.integers(0, 4))
def test_a_full_row_goes_on_to_sum_up_to_what_was_counted_in_it(log, user):
    """It has 16 counters and 39 neighbours: names have gone over from one to the other."""
    part, without = make(neighbours=16), make(neighbours=64)
    events, theirs = columns(log), np.array([one == user for one, _, _ in log], np.bool_)
    part.observe(*events)
    part.retract(*cut_out(events, theirs)[:4], np.zeros(theirs.sum(), np.int64), through=len(log))
    without.observe(*cut_out(events, ~theirs))
    (rows, likes, _), (wanted, expected, _) = content(part), content(without)
    assert likes == expected
    assert [sum(n for _, n in row) for row in rows] == [sum(n for _, n in row) for row in wanted]


def cut_out(events, chosen):
    return [column[chosen] for column in events]
