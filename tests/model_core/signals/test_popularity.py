from collections.abc import Callable

import numpy as np
import pytest

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_scores import WEIGHT_UNIT
from model_core.signals.config import SignalConfig
from model_core.signals.joint import joint_scores
from model_core.signals.parts import Parts, PartsReader
from model_core.signals.pasts import Window
from model_core.signals.popularity import TYPICAL_LIKES, Popularity, tempers_at, weighed_at
from model_core.signals.sample_signals import CovisitReplay, Log
from model_core.signals.trends import Trends

RARE, TYPICAL, POPULAR, WANTED, _ = range(5)
LIKES = {RARE: 2, TYPICAL: TYPICAL_LIKES, POPULAR: 400}


def met_in_two_partitions() -> Parts:
    """See `partitions`."""
    return PartsReader().read(partitions())


def partitions() -> list[CoVisitation]:
    """Items that were met together with another one three times each, in one partition or the other."""
    parts = [CoVisitation(window=1) for _ in range(2)]
    for part, met in zip(parts, ([RARE, POPULAR], [TYPICAL]), strict=True):
        part.grow(np.arange(5, dtype=np.uint64))
        items, windows = [], []
        for item in met:
            items += [item] * LIKES[item] + [WANTED] * 3
            windows += [-1] * LIKES[item] + [item] * 3
        yes = np.ones((len(items), 1), np.bool_)
        part.observe(
            np.array(items, np.int32), yes[:, 0], np.array(windows, np.int32)[:, None], yes,
            np.arange(len(items)),
        )  # fmt: skip
    return parts


def scores(parts: Parts, read_temper: float) -> list[float]:
    """What `WANTED` scores after each of the three items."""
    popularity = Popularity(0.0, read_temper)
    popularity.read(parts, 5)
    window = Window(np.array([[RARE], [TYPICAL], [POPULAR]]), np.full((3, 1), WEIGHT_UNIT))
    near, values = joint_scores(parts, *popularity.weighed(window), popularity.tempers, None)
    assert near.rows.tolist() == [WANTED] * 3
    return values[:, 0].tolist()


@pytest.mark.parametrize("read_temper", [0.0, 0.5, 0.75, 1.0])
def test_co_visits_with_a_popular_item_say_less_than_with_a_rare_one(read_temper: float) -> None:
    plain = 3 / np.sqrt(9 + 10)
    expected = [plain * (50 / (likes + 10)) ** read_temper for likes in LIKES.values()]

    assert scores(met_in_two_partitions(), read_temper) == pytest.approx(expected, rel=1e-3)


def test_a_few_items_are_weighed_as_all_of_them_are_and_padding_is_nothing() -> None:
    parts, rng = met_in_two_partitions(), np.random.default_rng(0)
    popularity = Popularity(2.0, 0.75)
    popularity.read(parts, 5)
    rows = rng.integers(-1, 5, (7, 4))
    window = Window(rows, rng.integers(1, WEIGHT_UNIT, rows.shape))
    some = np.arange(5, dtype=np.int32)

    every = popularity.weighed(window)
    np.testing.assert_array_equal(every.weights, weighed_at(parts, window, 0.75).weights)
    np.testing.assert_array_equal(every.weights == 0, rows < 0)
    np.testing.assert_array_equal(popularity.tempers, tempers_at(parts, some, 2.0, 0.75))
    empty = PartsReader().read([CoVisitation(window=1)])
    assert weighed_at(empty, window, 0.75).weights[rows == RARE].tolist() == (
        window.weights[rows == RARE].tolist()
    )


def _like(part: CoVisitation) -> None:
    nothing = np.full((1, 1), -1, np.int32)
    part.observe(np.array([3], np.int32), np.ones(1, np.bool_), nothing, nothing >= 0, np.array([10_000]))


def _put_back(part: CoVisitation) -> None:
    """Restore a row that has been applied further than here."""
    row = np.array([2], np.int32)
    part.restore(row, part.applied[row] + 100, part.popularity[row] + 7, *part.neighbours_of(row))


def _take_out(part: CoVisitation) -> None:
    """Take events of one item out, through the same offset each time."""
    nothing = np.full((1, 1), -1, np.int32)
    rare, yes, when = np.array([RARE], np.int32), np.ones(1, np.bool_), np.zeros(1, np.int64)
    through = sum(LIKES.values()) + 100
    part.retract(rare, yes, nothing, nothing >= 0, when, through=through)


def _drop(part: CoVisitation) -> None:
    part.drop(np.array([POPULAR], np.int32))


def _forget(part: CoVisitation) -> None:
    part.forget(np.arange(5) == RARE, 0, 5)


@pytest.mark.parametrize("write", [_like, _put_back, _take_out, _drop, _forget])
def test_what_is_read_again_is_as_if_it_had_never_been_read(write: Callable[[CoVisitation], None]) -> None:
    covisits, reader = partitions(), PartsReader()
    popularity, trends = Popularity(2.0, 0.75), Trends(2.0)
    for _ in range(2):
        parts = reader.read(covisits)
        popularity.read(parts, 5)
        trends.read(parts, 5, 1_000)
        levels = popularity.levels
        popularity.read(reader.read(covisits), 5)
        assert popularity.levels is levels  # nothing was written, so what was made of it stays
        write(covisits[0])
    parts = reader.read(covisits)
    popularity.read(parts, 5)
    trends.read(parts, 5, 1_000)

    anew, trends_anew = Popularity(2.0, 0.75), Trends(2.0)
    anew.read(PartsReader().read(covisits), 5)
    trends_anew.read(PartsReader().read(covisits), 5, 1_000)
    np.testing.assert_array_equal(popularity.counts, anew.counts)
    np.testing.assert_array_equal(popularity.levels, anew.levels)
    np.testing.assert_array_equal(popularity.tempers, anew.tempers)
    np.testing.assert_array_equal(trends.rates(1_000), trends_anew.rates(1_000))
    np.testing.assert_array_equal(trends.first_ms(), trends_anew.first_ms())


def test_a_log_that_is_replayed_further_is_read_again() -> None:
    n = 60
    log = Log(
        users=np.arange(n, dtype=np.int32) % 6, items=np.arange(n, dtype=np.int32) % 5, n_users=6, n_items=5,
        actions=np.ones(n, np.int64), positive=np.ones(n, np.bool_), times_ms=np.arange(n) * 1_000,
    )  # fmt: skip
    replay, reader, popularity = (
        CovisitReplay(log, SignalConfig(influence_per_hour=0)),
        PartsReader(),
        Popularity(0.0),
    )
    for position in (0, 20, 21, 60):
        replay.advance(position)
        popularity.read(reader.read([replay.counts]), 5)
        assert popularity.counts.tolist() == np.bincount(log.items[:position], minlength=5).tolist()
