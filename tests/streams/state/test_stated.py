"""What users state, by rows: what comes later counts, and what is forgotten is gone."""

import numpy as np

from streams.state.stated import NOTHING_STATED, Stated, Statements

JAZZ = Stated(4, {"age": "34"}, ["jazz"], np.array([1, 9], np.int32), 70)


def test_a_record_is_taken_once_and_an_older_one_not_any_more() -> None:
    stated = Statements()
    assert stated.take(2, JAZZ)
    assert not stated.take(2, JAZZ)
    assert not stated.take(2, Stated(3, {}, [], np.zeros(0, np.int32)))
    assert stated.of(2) is JAZZ
    assert stated.dirty == {2}


def test_a_stranger_and_who_is_forgotten_state_nothing() -> None:
    stated = Statements()
    stated.take(2, JAZZ)
    stated.forget(2)
    stated.forget(3)
    assert [stated.of(row) for row in (-1, 2, 3)] == [NOTHING_STATED] * 3
    assert stated.dirty == set()


def test_times_and_blocked_items_of_rows_beyond_what_is_asked_about_are_left_out() -> None:
    stated = Statements()
    stated.take(2, JAZZ)
    stated.take(7, Stated(5, {}, [], np.array([0], np.int32), 90))
    assert stated.last_ms(np.array([2, 0, 5], np.int32), 3).tolist() == [70, 0, 0]
    blocked = np.zeros(5, np.bool_)
    stated.mark_blocked(blocked)
    assert blocked.tolist() == [True, True, False, False, False]
