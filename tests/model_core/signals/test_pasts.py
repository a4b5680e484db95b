from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation_scores import read_weights
from model_core.signals.config import SignalConfig
from model_core.signals.pasts import Pasts, affinities, chosen, histories, positives, recent
from model_core.signals.sample_signals import Log, UserEvents

N_ITEMS, N_USERS, N_ENTITIES, DAY = 12, 3, 7, 86_400_000
NOW = 40 * DAY
READ = read_weights(window=5, decay=0.8, other=0.5)
CODES = np.array([0, 2, 1])
EDGES = np.random.default_rng(0).integers(0, N_ENTITIES, (N_ITEMS, 3)).astype(np.int32)
# User, item (from N_ITEMS on not described), action, whether positive, days: in no order, often the same.
events = st.lists(
    st.tuples(
        st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS + 2), st.integers(0, 2), st.booleans(),
        st.integers(0, 41),
    ),
    max_size=60,
)  # fmt: skip
described = st.lists(st.booleans(), min_size=N_ITEMS, max_size=N_ITEMS).map(np.array)
everything = np.ones(N_ITEMS, np.bool_)


def pasts_of(log, depth=1000):
    users, items, actions, positive, days = (
        (np.array(column) for column in zip(*log, strict=True)) if log else [np.zeros(0, np.int64)] * 5
    )
    kept = Log(
        users.astype(np.int32), items.astype(np.int32), actions.astype(np.int64), positive.astype(np.bool_),
        days.astype(np.int64) * DAY, N_USERS, N_ITEMS,
    )  # fmt: skip
    return UserEvents(kept, depth).before(np.arange(N_USERS, dtype=np.int32), np.full(N_USERS, len(log)))


def plain(log, counts, user, depth):
    """Events of a user that count, the newest first."""
    own = [event for event in log if event[0] == user][-depth:]
    return [event for event in reversed(own) if event[1] < N_ITEMS and counts[event[1]]]


@given(events, described, st.integers(1, 20))
def test_histories_are_the_last_described_events_of_those_within_the_depth(log, counts, depth):
    pasts, length = pasts_of(log, depth), 4
    items, actions, ages = histories(pasts, counts, np.full(N_USERS, NOW), codes=CODES, length=length)
    for user in range(N_USERS):
        last = plain(log, counts, user, depth)[:length][::-1]
        pad = length - len(last)
        assert items[user].tolist() == [-1] * pad + [item for _, item, *_ in last]
        assert actions[user].tolist() == [0] * pad + [CODES[action] for *_, action, _, _ in last]
        assert ages[user].tolist() == [0] * pad + [max(40 - days, 0) * 86_400 for *_, days in last]


@given(events, described, st.integers(1, 20), st.integers(1, 5))
def test_affinities_add_up_the_edges_of_the_last_positive_events(log, counts, depth, most):
    liked = positives(pasts_of(log, depth), counts, np.full(N_USERS, NOW), most=most, half_life_ms=10 * DAY)
    entities, weights = affinities(liked, EDGES, n_entities=N_ENTITIES, top=4)
    for user in range(N_USERS):
        total = defaultdict(float)
        for _, item, _, _, days in [event for event in plain(log, counts, user, depth) if event[3]][:most]:
            for entity in EDGES[item][EDGES[item] > 0]:
                total[entity] += np.float32(2.0 ** -(max(40 - days, 0) / 10))
        best = sorted(total, key=lambda entity: (-np.float32(total[entity]), entity))[:4]
        kept = entities[user][entities[user] > 0]
        assert (weights[user][len(kept) :] == 0).all()
        assert len(kept) == len(best)
        np.testing.assert_allclose(weights[user][: len(kept)], [total[entity] for entity in kept], rtol=1e-5)
        np.testing.assert_allclose([total[entity] for entity in kept], [total[e] for e in best], rtol=1e-5)


def test_equally_heavy_entities_come_in_the_order_of_their_rows_and_none_weighs_nothing():
    edges = np.array([[5, 2, 4], [0, 6, 2]], np.int32)
    ages = np.array([10_000 * DAY])  # 2 ** -1000 is 0 in float32
    pasts = Pasts(
        np.array([0, 2]),
        np.array([0, 1], np.int32),
        np.zeros(2, np.uint8),
        np.ones(2, np.bool_),
        np.zeros(2, np.int64),
    )
    liked = positives(pasts, np.ones(2, np.bool_), ages, most=9, half_life_ms=10 * DAY)
    entities, weights = affinities(liked, edges, n_entities=7, top=6)
    assert entities.tolist() == [[2, 4, 5, 6, 0, 0]]
    assert (weights[0, :4] > 0).all()


@given(events, described, st.integers(1, 20))
def test_co_visits_are_read_from_the_last_described_events_each_by_its_place(log, counts, depth):
    rows, weights = recent(pasts_of(log, depth), counts, READ)
    for user in range(N_USERS):
        last = plain(log, counts, user, depth)[:5]
        pad = [-1] * (5 - len(last))
        assert rows[user].tolist() == pad + [item for _, item, *_ in last][::-1]
        expected = [READ[int(event[3]), place] for place, event in enumerate(last)]
        assert weights[user].tolist() == [0] * len(pad) + expected[::-1]


@given(events, described, st.integers(1, 20))
def test_what_is_chosen_keeps_its_order_and_its_repeats(log, counts, depth):
    pasts = pasts_of(log, depth)
    bounds, rows = chosen(pasts.bounds, pasts.items, pasts.positive, counts)
    for user in range(N_USERS):
        expected = [item for _, item, _, positive, _ in plain(log, counts, user, depth)[::-1] if positive]
        assert rows[bounds[user] : bounds[user + 1]].tolist() == expected


@given(events, st.integers(1, 20), st.data())
def test_what_a_user_had_done_before_a_row_of_a_log_knows_nothing_of_it_or_what_follows(log, depth, data):
    at = data.draw(st.integers(0, len(log)))
    whole, cut = pasts_of(log[:at], depth), pasts_of(log[:at] + [(0, 1, 1, True, 1)] * 3, depth)
    assert whole.bounds[1] <= depth
    other = slice(cut.bounds[1], None)
    np.testing.assert_array_equal(cut.items[other], whole.items[whole.bounds[1] :])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"depth": 9, "window": 10}, "window must be at most the depth, 9, got 10"),
        ({"neighbours": 5000}, r"neighbours must be in \[1, 4096\], got 5000"),
        ({"pair_decay": 0.0}, r"pair_decay must be in \(0, 1\], got 0.0"),
        ({"read_temper": 1.5}, r"read_temper must be in \[0, 1\], got 1.5"),
    ],
)
def test_parameters_out_of_bounds_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SignalConfig(**wrong)


def test_padding_is_written_whatever_the_memory_held_before(monkeypatch):
    past = pasts_of([(0, 1, 1, True, 3), (0, 2, 0, False, 4), (2, N_ITEMS + 1, 1, True, 5)])
    now_ms = np.full(N_USERS, NOW)

    def read():
        liked = positives(past, everything, now_ms, most=4, half_life_ms=DAY)
        return (
            *histories(past, everything, now_ms, codes=CODES, length=4),
            *liked,
            *affinities(liked, EDGES, n_entities=N_ENTITIES, top=5),
            *recent(past, everything, READ),
        )

    clean = read()
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, 77, dtype))
    for found, wanted in zip(read(), clean, strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert not (found == 77).any()
