from collections import Counter
from itertools import islice

import numpy as np

from streams.bench.world import RandomTexts, catalogue_rows, history_rows
from streams.events import decode_click
from streams.state.rows import ItemState, decode


def test_a_catalogue_has_every_item_once_with_its_vector_and_attributes():
    rows = list(catalogue_rows(250, partitions=4))
    assert [key for key, _ in rows] == [f"i{n}" for n in range(250)]
    states = [decode(ItemState, "item-state", key.encode(), value) for key, value in rows]
    assert all(state.available and not state.deleted for state in states)
    assert {len(state.text or b"") for state in states} == {2 * RandomTexts.dim}
    assert all(len(state.attributes["genre"]) == 2 for state in states)
    assert {state.partition for state in states} == {0, 1, 2, 3}


def test_vectors_have_unit_length_and_one_seed_gives_the_same():
    vectors = RandomTexts(3).encode(["", ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(vectors, RandomTexts(3).encode(["", ""]))


def test_every_user_has_as_many_likes_in_time_order():
    clicks = [decode_click(value) for _, value in history_rows(7, 100, each=5)]
    assert Counter(click.user_id for click in clicks) == {f"u{n}": 5 for n in range(7)}
    assert len({click.event_id for click in clicks}) == 35
    assert {click.action for click in clicks} == {"like"}
    times = [click.timestamp_ms for click in clicks]
    assert times == sorted(times)


def test_histories_are_keyed_by_user():
    assert all(key == decode_click(value).user_id for key, value in islice(history_rows(3, 9), 20))
