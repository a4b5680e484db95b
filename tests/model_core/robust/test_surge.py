"""How much of what an item is liked of late counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.robust.surge import AT_ANY_RATE, HALF_LIFE_MS, LONGEST_MS, MAX_LIKES, counted_share
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.config import SignalConfig
from model_core.signals.horizons import DAY_MS
from model_core.signals.parts import PartsReader
from model_core.signals.pasts import Window
from model_core.signals.popularity import Popularity, tempers_at
from model_core.signals.sample_signals import CovisitReplay, Log
from model_core.signals.trends import POPULAR, Trends

START_MS, N_ITEMS = 1_700_000_000_000, 3
BOUND = SignalConfig().surge_bound


def share_of(*days: float, bound: float = BOUND) -> float:
    """Share that counts of an item that was liked on these days, in their order."""
    days = np.array(days)
    recent = float((2.0 ** -((days.max() - days) * DAY_MS / HALF_LIFE_MS)).sum())
    return counted_share(len(days), recent, 0, int((days.max() - days.min()) * DAY_MS), bound)


@pytest.mark.parametrize("days", [1.5, 7, 14, 60, 400])
@pytest.mark.parametrize("likes", [3, 40, 5_000])
def test_an_item_that_is_liked_steadily_counts_whole(days, likes):
    assert share_of(*np.linspace(0, days, likes)) == 1


@pytest.mark.parametrize("few", [3, 10, 20])
def test_of_many_likes_at_once_an_unpopular_item_has_little(few):
    before, fakes = np.linspace(0, 60, few), np.linspace(60, 60.5, 30)
    share = share_of(*before, *fakes)

    assert few <= share * (few + 30) < AT_ANY_RATE + 2 * few
    assert share_of(*before, *fakes, bound=0) == 1


def test_a_few_likes_count_at_any_rate_and_many_where_many_came_before():
    assert share_of(0, 60, 60.1) == 1
    assert share_of(*np.linspace(0, 60, 200), *np.linspace(60, 60.5, 30)) == 1


def test_a_surge_that_lasts_is_believed_by_and_by():
    before, burst = np.linspace(0, 60, 5), [61.0] * 20
    shares = [share_of(*before, *burst, *np.arange(62, 62 + days)) for days in (1, 7, 21, 60)]

    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] == 1


def test_an_item_that_was_just_met_is_not_bounded_and_neither_is_one_that_everybody_likes():
    assert share_of(*np.linspace(0, 0.5, 400)) == 1
    assert counted_share(MAX_LIKES + 1, MAX_LIKES, 0, 30 * DAY_MS, BOUND) == 1


def test_one_event_of_long_ago_makes_no_item_old():
    likes, recent = 500, 360.0
    shares = [counted_share(likes, recent, 0, known, BOUND) for known in (LONGEST_MS, 50 * LONGEST_MS)]

    assert shares[0] == shares[1] > (likes - recent) / likes


@given(
    likes=st.integers(0, 10**7), recent=st.floats(0, 1), known_ms=st.integers(0, 10**13),
    bound=st.floats(0, 100),
)  # fmt: skip
def test_a_share_is_above_0_and_at_most_1_and_what_came_before_always_counts(likes, recent, known_ms, bound):
    share = counted_share(likes, likes * recent, 0, known_ms, bound)

    assert 0 < share <= 1
    assert share * likes >= likes * (1 - recent) * (1 - 1e-9)


def surged(n_parts: int) -> tuple[Log, list[CoVisitation]]:
    """A log where item 1, liked now and then, is liked by many at once after item 0, and its statistics."""
    days = np.concatenate([np.arange(60), np.full(12, 60.2), np.full(12, 60.3)])
    items = np.concatenate([np.arange(60) % 20 % 12 == 0, np.zeros(12), np.ones(12)]).astype(np.int32)
    users = np.concatenate([np.arange(60), 60 + np.arange(12), 60 + np.arange(12)]).astype(np.int32)
    yes = np.ones(len(items), np.bool_)
    log = Log(users, items, yes + 1, yes, START_MS + (days * DAY_MS).astype(np.int64), 72, N_ITEMS)
    parts = []
    for part in range(n_parts):
        mine = users % n_parts == part
        counts = CoVisitation(**SignalConfig().pairing)
        counts.grow(np.arange(N_ITEMS, dtype=np.uint64))
        windows = np.full((mine.sum(), counts.window), -1, np.int32)
        windows[(users >= 60)[mine] & (items == 1)[mine], 0] = 0
        counts.observe(
            items[mine], yes[mine], windows, windows >= 0, np.flatnonzero(mine), log.times_ms[mine]
        )
        parts.append(counts)
    return log, parts


@pytest.mark.parametrize("n_parts", [1, 3])
def test_what_items_are_ranked_by_is_cut_the_same_in_training_and_however_many_partitions_there_are(n_parts):
    log, parts = surged(n_parts)
    replay = CovisitReplay(log, SignalConfig())
    window = Window(np.zeros((1, 1), np.int64), np.full((1, 1), 1 << 16, np.int64))
    asked = np.arange(N_ITEMS, dtype=np.int32)
    replay.advance(len(log) - 1)
    _, levels = replay.before(np.array([len(log) - 1]), window, asked[None])
    read, popularity, trends = PartsReader().read(parts), Popularity(BOUND), Trends(BOUND)
    popularity.read(read, N_ITEMS)
    trends.read(read, N_ITEMS, int(log.times_ms[-1]))
    raw = sum(part.popularity for part in parts)

    share = popularity.counts[1] / raw[1]
    assert share < 0.6
    assert popularity.counts[0] == raw[0]
    assert np.expm1(levels[0, 1]) == pytest.approx(popularity.counts[1], rel=0.1)  # one like less
    np.testing.assert_array_equal(popularity.tempers, tempers_at(read, asked, BOUND, 0.0))
    assert popularity.tempers[1] == pytest.approx(np.sqrt(raw[1] + 10) / share)
    now_ms = int(log.times_ms[-1])
    signals = trends.signals(asked[None], log.times_ms[-1:])
    np.testing.assert_allclose(np.expm1(signals[0, 1, POPULAR]), popularity.counts[1], rtol=1e-5)
    unbounded = Trends(0.0)
    unbounded.read(read, N_ITEMS, now_ms)
    np.testing.assert_allclose(trends.rates(now_ms)[:, 1], share * unbounded.rates(now_ms)[:, 1], rtol=1e-5)


def test_popularity_read_bit_by_bit_is_that_read_at_once():
    log, (part,) = surged(1)
    counts, reader, along = CoVisitation(**SignalConfig().pairing), PartsReader(), Popularity(BOUND)
    counts.grow(np.arange(N_ITEMS, dtype=np.uint64))
    nobody = np.full((1, counts.window), -1, np.int32), np.zeros((1, counts.window), np.bool_)
    for at in range(len(log)):
        counts.observe(
            log.items[at : at + 1],
            log.positive[at : at + 1],
            *nobody,
            np.array([at]),
            log.times_ms[at : at + 1],
        )
        along.read(reader.read([counts]), N_ITEMS)
    at_once = Popularity(BOUND)
    at_once.read(reader.read([part]), N_ITEMS)

    np.testing.assert_array_equal(along.counts, at_once.counts)
    np.testing.assert_array_equal(along.tempers, at_once.tempers)
