from dataclasses import replace

import numpy as np
import pytest

from online_learning.policies.pinning import above, others, pinned
from online_learning.policies.registry import POLICIES, create_policy
from online_learning.types import Candidates
from tests.policy_checks import PRIOR, random_candidates, request


def with_pins(candidates: Candidates, *pins: dict[int, int]) -> Candidates:
    """Candidates of which each request pins {column: rank}."""
    ranks = np.full(candidates.valid.shape, -1)
    for row, of in enumerate(pins):
        for column, rank in of.items():
            ranks[row, column] = rank
    return replace(candidates, pinned=ranks)


def test_pins_are_in_their_order_as_far_as_they_are_valid_and_there_is_room() -> None:
    candidates = random_candidates(0, n=4, valid=1.0)
    candidates.valid[0, 5] = False
    candidates = with_pins(candidates, {5: 0, 9: 1, 2: 7}, {}, {1: 2, 3: 1, 4: 0}, {8: 0})
    found = pinned(candidates, np.array([3, 3, 2, 0]))
    assert found.tolist() == [[9, 2], [-1, -1], [4, 3], [-1, -1]]
    rest = others(candidates, found)
    assert rest.valid[0].sum() == candidates.valid[0].sum() - 2
    assert rest.pinned is not None
    assert (rest.pinned[0] >= 0).sum() == 2  # the one that is not valid is not there already
    assert candidates.valid[0, 9]


def test_without_pins_nothing_stands_above() -> None:
    candidates = random_candidates(1)
    top = pinned(candidates, np.full(5, 3))
    assert top.shape == (5, 0)
    below = np.arange(15).reshape(5, 3)
    np.testing.assert_array_equal(above(top, top, below, end=-1), below)


def test_what_is_below_follows_what_is_above() -> None:
    top = np.array([[4, 2], [7, -1], [-1, -1]])
    below = np.array([[1, -1, -1], [3, 5, -1], [6, 8, 9]])
    assert above(top, top, below, end=-1).tolist() == [
        [4, 2, 1, -1, -1],
        [7, 3, 5, -1, -1],
        [6, 8, 9, -1, -1],
    ]
    chances = above(top, 1.0, below / 10.0, end=0.0)
    np.testing.assert_allclose(chances[0], [1.0, 1.0, 0.1, -0.1, -0.1])


@pytest.mark.parametrize("name", POLICIES)
def test_whatever_the_policy_pins_come_first_and_no_item_twice(name: str) -> None:
    policy = create_policy(name, PRIOR, propensity_samples=16)
    candidates = with_pins(random_candidates(2, valid=1.0), {7: 1, 3: 0}, {}, {29: 0}, {0: 5, 1: 2, 2: 9}, {})
    asked = request(5, 6)
    top = pinned(candidates, asked["k"])
    below = policy.select(
        others(candidates, top), k=asked["k"] - (top >= 0).sum(axis=1), seeds=asked["seeds"]
    )
    index = above(top, top, below.index, end=-1)[:, :6]
    chances = above(top, 1.0, below.propensities, end=0.0)[:, :6]
    assert [index[0, :2].tolist(), index[2, 0], index[3, :3].tolist()] == [[3, 7], 29, [1, 0, 2]]
    assert (chances[0, :2] == 1.0).all()
    for slate in index:
        assert len(set(slate.tolist())) == 6
    assert (chances > 0.0).all()
