"""What a device tells of its history, and how much that says."""

import math
import random
from collections import Counter
from itertools import combinations

import pytest

from streams.on_device.interests import SubsetSelection


@pytest.mark.parametrize(("epsilon", "n"), [(0.1, 4), (1.0, 5), (1.0, 32), (4.0, 32), (8.0, 2)])
def test_no_set_is_more_than_e_to_the_epsilon_times_as_probable_with_another_history(
    epsilon: float, n: int
) -> None:
    drawn = SubsetSelection(epsilon, n)
    with_true = drawn.chance / math.comb(n - 1, drawn.size - 1)
    without = (1 - drawn.chance) / math.comb(n - 1, drawn.size)
    assert with_true / without == pytest.approx(math.exp(epsilon))
    total = math.comb(n - 1, drawn.size - 1) * with_true + math.comb(n - 1, drawn.size) * without
    assert total == pytest.approx(1.0)


def test_sets_are_drawn_as_often_as_promised() -> None:
    selection, rng, draws = SubsetSelection(0.1, 4), random.Random(0), 10_000
    found = Counter(tuple(selection.draw(2, rng)) for _ in range(draws))
    assert found.keys() == set(combinations(range(4), 2))  # two of four
    for named, times in found.items():
        wanted = selection.chance / 3 if 2 in named else (1 - selection.chance) / 3
        assert times / draws == pytest.approx(wanted, abs=4 * math.sqrt(wanted / draws))


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 21.0, math.inf, math.nan])
def test_an_epsilon_that_promises_nothing_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be above 0 and at most 20"):
        SubsetSelection(epsilon, 32)


def test_one_item_is_no_choice() -> None:
    with pytest.raises(ValueError, match="n must be at least 2, got 1"):
        SubsetSelection(1.0, 1)
