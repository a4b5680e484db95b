"""How suspect users are, by hand."""

import numpy as np
import pytest

from model_core.robust.suspicion import MIN_EVENTS, REPETITION, SURGES, score_of, suspicion


def test_each_surging_item_that_is_liked_counts_once_and_what_is_only_met_does_not():
    items = np.full((1, 16), -1, np.int64)
    items[0, 4:] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 3, 9]
    positive = np.zeros((1, 16), np.bool_)
    positive[0, 4 + np.array([1, 3, 9])] = True  # items 1 and 3; of 3 the first two events, not the last
    excess = np.zeros(9)  # item 9 is beyond it
    excess[[1, 3, 5]] = 0.25, 0.5, 1.0
    found = suspicion(items, positive, excess)
    assert found[0, SURGES] == pytest.approx(0.75)
    shares = np.array([3, *[1] * 9]) / 12
    expected = 1 + (shares * np.log(shares)).sum() / np.log(12)
    assert found[0, REPETITION] == pytest.approx(expected)


def test_of_few_events_nothing_is_said_and_repetition_goes_from_none_to_all():
    few = np.zeros((1, MIN_EVENTS - 1), np.int64)
    assert not suspicion(few, np.ones_like(few, np.bool_), np.ones(1)).any()
    same, other = np.zeros((1, 20), np.int64), np.arange(20)[None]
    liked = np.ones((1, 20), np.bool_)
    assert suspicion(same, liked, np.ones(20)).tolist() == [[1.0, 1.0]]
    assert suspicion(other, ~liked, np.ones(20))[0] == pytest.approx([0.0, 0.0])
    assert score_of(1.5, 1.0) == 3.0
