import numpy as np
import pytest

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.config import SignalConfig
from model_core.signals.horizons import HOUR_MS, MINUTE_MS
from model_core.signals.parts import PartsReader
from model_core.signals.trends import COVISITS, Trends
from model_core.signals.weighing import Events, Weigher, Weights, moments

N_ITEMS, START_MS = 120, 1_700_000_000_000


def stream(n: int, *, hot: bool, seed: int = 0):
    """Items that users without a past take: what is in fashion in this hour, or anything at any time."""
    rng = np.random.default_rng(seed)
    times = START_MS + np.arange(n) * MINUTE_MS
    fashion = (times // (2 * HOUR_MS)) * 31 % N_ITEMS
    items = np.where(hot & (rng.random(n) < 0.8), fashion, rng.integers(0, N_ITEMS, n))
    return items.astype(np.int32), times


def learned(items, times, parts=None, weigher=None, begin: int = 0):
    if parts is None:
        parts = [CoVisitation(neighbours=16)]
        parts[0].grow(np.arange(N_ITEMS, dtype=np.uint64))
    weigher = weigher or Weigher(lambda: parts, SignalConfig())
    for at in range(len(items)):
        event = Events(
            items[at : at + 1], np.ones(1, np.bool_), np.full((1, 20), -1, np.int32),
            np.zeros((1, 20), np.bool_), np.array([begin + at]), times[at : at + 1],
        )  # fmt: skip
        weigher.learn(0, event, N_ITEMS)
        parts[0].observe(*event)
    return weigher, parts


def test_what_is_hot_is_learned_to_count_and_is_listed_first():
    items, times = stream(900, hot=True)
    weigher, parts = learned(items, times)
    assert weigher.weights.trusted
    now_ms = np.array([int(times[-1]) + MINUTE_MS])
    found = moments(weigher.weights, Trends(0.0), PartsReader().read(parts), N_ITEMS, now_ms)
    assert found is not None
    recent = np.bincount(items[-60:], minlength=N_ITEMS)
    assert np.argmax(found.levels[0]) == np.argmax(recent)
    assert np.argmax(recent) != np.argmax(np.bincount(items[:-120], minlength=N_ITEMS))


def test_where_nothing_is_hot_fixed_weights_are_kept():
    weigher, parts = learned(*stream(900, hot=False))
    assert not weigher.weights.trusted
    now_ms = np.array([START_MS])
    assert moments(weigher.weights, Trends(0.0), PartsReader().read(parts), N_ITEMS, now_ms) is None


def test_what_is_in_memory_after_a_window_says_nothing():
    weights = []
    for left_over in (-1, 7, 113):
        parts = [CoVisitation(neighbours=16, window=4)]
        parts[0].grow(np.arange(N_ITEMS, dtype=np.uint64))
        weigher, rng = Weigher(lambda parts=parts: parts, SignalConfig()), np.random.default_rng(0)
        for at in range(0, 300, 20):
            windows = rng.integers(0, 20, (20, 4)).astype(np.int32)
            windows[np.arange(20), rng.integers(0, 4, 20)] = -1
            after = np.cumsum(windows < 0, axis=1) > (windows < 0)
            windows[after] = left_over
            event = Events(
                rng.integers(0, 20, 20).astype(np.int32), np.ones(20, np.bool_), windows,
                np.where(after, left_over > 0, windows >= 0), at + np.arange(20),
                START_MS + (at + np.arange(20)) * MINUTE_MS,
            )  # fmt: skip
            weigher.learn(0, event, N_ITEMS)
            parts[0].observe(*event)
        weights.append(weigher.weights)
    for others in weights[1:]:
        np.testing.assert_array_equal(others.values, weights[0].values)
        assert others.level == weights[0].level


def test_events_that_were_learned_from_are_not_learned_from_again():
    items, times = stream(50, hot=True)
    weigher, parts = learned(items, times)
    before = weigher.weights
    learned(items, times + HOUR_MS, parts, weigher)
    assert weigher.weights is before
    assert weigher.learned(0) == 49


def test_of_events_at_one_time_the_first_is_learned_from():
    items, times = stream(40, hot=True)
    weigher, _ = learned(items, np.full_like(times, START_MS))
    assert weigher.weights.events == 1


def test_the_same_events_teach_the_same():
    first, second = (learned(*stream(200, hot=True))[0].weights for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    assert first.level == second.level


def test_whoever_takes_over_goes_on_from_there():
    items, times = stream(400, hot=True)
    whole, _ = learned(items, times)
    half, parts = learned(items[:200], times[:200])
    heir = Weigher(lambda: parts, SignalConfig())
    heir.take_over(0, half.weights, half.learned(0))
    learned(items[150:], times[150:], parts, heir, begin=150)
    assert heir.weights.events == 400
    assert heir.weights.values == pytest.approx(whole.weights.values, abs=0.5)


def test_joined_weights_lie_between_by_their_events():
    one, other = Weights(events=100), Weights(values=Weights().values + 4.0, events=300, level=8.0)
    joined = one.joined(other)
    assert joined.values == pytest.approx(one.values + 3.0)
    assert joined.level == pytest.approx(6.0)
    assert joined.events == 300
    assert Weights().joined(other).values == pytest.approx(other.values)


def test_co_visits_are_learned_from_pairs():
    rng = np.random.default_rng(5)
    parts = [CoVisitation(neighbours=16)]
    parts[0].grow(np.arange(N_ITEMS, dtype=np.uint64))
    weigher = Weigher(lambda: parts, SignalConfig())
    for at in range(600):
        item = int(rng.integers(0, N_ITEMS // 2)) * 2
        window = np.full((1, 20), -1, np.int32)
        window[0, 0] = item + 1
        event = Events(
            np.array([item], np.int32), np.ones(1, np.bool_), window, window >= 0, np.array([at]),
            np.array([START_MS + at * MINUTE_MS]),
        )  # fmt: skip
        weigher.learn(0, event, N_ITEMS)
        parts[0].observe(*event)
    assert np.argmax(np.abs(weigher.weights.values)) == COVISITS
    assert weigher.weights.values[COVISITS] > Weights().values[COVISITS]
