import numpy as np
import pytest

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_reads import previous_items
from model_core.signals.horizons import DAY_MS, HALF_LIVES_MS, HORIZONS, HOUR_MS
from model_core.signals.parts import PartsReader
from model_core.signals.trends import AGE, IDLE, N_SIGNALS, NEW, OLD, POPULAR, QUIET, Trends, signals_of

N_ITEMS, START_MS = 7, 1_700_000_000_000
KEYS = np.arange(N_ITEMS, dtype=np.uint64)


def events(n: int, seed: int = 0):
    """Items, whether positive, and times, a few of them late; the last item has none."""
    rng = np.random.default_rng(seed)
    times = START_MS + np.sort(rng.integers(0, 40 * HOUR_MS, n))
    times[::9] -= 3 * HOUR_MS
    return rng.integers(0, N_ITEMS - 1, n).astype(np.int32), rng.random(n) < 0.7, times


def folded(items, positive, times, n_parts: int = 1) -> list[CoVisitation]:
    parts = [CoVisitation(neighbours=16) for _ in range(n_parts)]
    users = np.arange(len(items), dtype=np.int32) % 5
    windows = previous_items(users, items, positive, 20, 5)
    for part, counts in enumerate(parts):
        counts.grow(KEYS)
        of = np.arange(len(items)) % n_parts == part
        counts.observe(
            items[of], positive[of], *(window[of] for window in windows), np.flatnonzero(of), times[of]
        )
    return parts


def read(parts: list[CoVisitation], now_ms: int) -> Trends:
    trends = Trends(0.0)
    trends.read(PartsReader().read(parts), N_ITEMS, now_ms)
    return trends


def expected_rates(items, positive, times, now_ms: int):
    ages = (now_ms - times)[positive]
    rates = np.zeros((HORIZONS, N_ITEMS))
    for h, half_life in enumerate(HALF_LIVES_MS):
        np.add.at(rates[h], items[positive], 0.5 ** (ages / half_life))
    return rates


@pytest.mark.parametrize("n_parts", [1, 3])
def test_rates_are_sums_of_decayed_events_whatever_partition_and_order_they_came_in(n_parts):
    log = events(400)
    now_ms = int(log[2].max()) + HOUR_MS // 2
    found = read(folded(*log, n_parts), now_ms).rates(now_ms)
    np.testing.assert_allclose(found, expected_rates(*log, now_ms), rtol=2e-4, atol=1e-6)


def test_what_was_read_before_decays_to_a_later_moment_and_follows_new_events():
    items, positive, times = events(300)
    parts, trends, reader = folded(items[:200], positive[:200], times[:200]), Trends(0.0), PartsReader()
    trends.read(reader.read(parts), N_ITEMS, int(times[199]))
    rest = slice(200, None)
    no_windows = np.full((100, 20), -1, np.int32), np.zeros((100, 20), np.bool_)
    parts[0].observe(items[rest], positive[rest], *no_windows, np.arange(200, 300), times[rest])
    for later_ms in (HOUR_MS // 4, 5 * HOUR_MS):
        now_ms = int(times.max()) + later_ms
        trends.read(reader.read(parts), N_ITEMS, now_ms)
        expected = expected_rates(items, positive, times, now_ms)
        np.testing.assert_allclose(trends.rates(now_ms), expected, rtol=2e-4, atol=1e-6)


def test_signals_say_ages_in_hours_and_that_an_item_is_new():
    items, positive, times = events(300)
    now_ms = int(times.max()) + 2 * HOUR_MS
    rows = np.arange(N_ITEMS, dtype=np.int32)[None]
    signals = read(folded(items, positive, times), now_ms).signals(rows, np.array([now_ms]))[0]
    mine = times[items == 2]
    assert signals[2, AGE] == pytest.approx(np.log1p((now_ms - mine.min()) / HOUR_MS), rel=1e-4)
    assert signals[2, IDLE] == pytest.approx(np.log1p((now_ms - mine.max()) / HOUR_MS), rel=1e-4)
    assert signals[2, OLD] == pytest.approx(min((now_ms - mine.min()) / DAY_MS, 3.0), rel=1e-4)
    assert signals[2, QUIET] == pytest.approx(min((now_ms - mine.max()) / (6 * HOUR_MS), 4.0), rel=1e-4)
    assert signals[2, POPULAR] == pytest.approx(np.log1p(positive[items == 2].sum()), rel=1e-4)
    assert signals[:, NEW].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert signals[6].sum() == 1


def test_levels_are_the_weighed_signals():
    log = events(300)
    now_ms = int(log[2].max())
    trends = read(folded(*log), now_ms)
    rows = np.arange(N_ITEMS, dtype=np.int32)[None]
    signals = trends.signals(rows, np.array([now_ms]))[0]
    weights = np.random.default_rng(3).normal(size=signals.shape[1]).astype(np.float32)
    np.testing.assert_allclose(trends.levels(now_ms, weights), signals @ weights, rtol=1e-4, atol=1e-4)


def test_a_restored_item_goes_on_as_the_one_that_was_saved():
    items, positive, times = events(300)
    whole, half = folded(items, positive, times)[0], folded(items[:150], positive[:150], times[:150])[0]
    rows = np.arange(N_ITEMS, dtype=np.int32)
    restored = CoVisitation(neighbours=16)
    restored.grow(KEYS)
    numbers = half.applied[rows], half.popularity[rows]
    restored.restore(rows, *numbers, *half.neighbours_of(rows), half.moments_of(rows))
    rest, nobody = slice(150, None), (np.full((150, 20), -1, np.int32), np.zeros((150, 20), np.bool_))
    restored.observe(items[rest], positive[rest], *nobody, np.arange(150, 300), times[rest])
    np.testing.assert_array_equal(restored.moments_of(rows), whole.moments_of(rows))


def test_an_item_that_is_dropped_begins_anew():
    part = folded(*events(100))[0]
    rows = np.array([1], np.int32)
    part.drop(rows)
    empty = CoVisitation(neighbours=16)
    empty.grow(KEYS)
    np.testing.assert_array_equal(part.moments_of(rows), empty.moments_of(rows))


def test_an_event_of_the_far_future_breaks_nothing():
    part = CoVisitation(neighbours=16)
    part.grow(KEYS)
    window = np.full((2, 20), -1, np.int32), np.zeros((2, 20), np.bool_)
    times = np.array([START_MS + 10**12, START_MS])
    part.observe(np.zeros(2, np.int32), np.ones(2, np.bool_), *window, np.arange(2), times)
    assert np.isfinite(read([part], START_MS).levels(START_MS, np.ones(N_SIGNALS, np.float32))).all()


def test_items_that_come_later_are_read_beside_those_that_were():
    log = events(300)
    parts, reader, trends = folded(*log), PartsReader(), Trends(0.0)
    now_ms = int(log[2].max())
    for n in (2, 5, 3, N_ITEMS):
        trends.read(reader.read(parts), n, now_ms)
        expected = expected_rates(*log, now_ms)[:, :n]
        np.testing.assert_allclose(trends.rates(now_ms), expected, rtol=2e-4, atol=1e-6)


def test_a_few_items_have_the_signals_that_they_have_among_all():
    read, trends = PartsReader().read(folded(*events(300), n_parts=3)), Trends(0.0)
    rows = np.array([[0, 5, N_ITEMS - 1, 5], [3, 1, 2, 0]], np.int32)
    now_ms = START_MS + np.array([41 * HOUR_MS, 40 * HOUR_MS])
    trends.read(read, N_ITEMS, int(now_ms.max()))
    np.testing.assert_allclose(signals_of(read, rows, now_ms, 0.0), trends.signals(rows, now_ms), rtol=1e-4)
