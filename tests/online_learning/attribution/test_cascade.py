import numpy as np
import pytest

from online_learning.attribution.cascade import amended, looked_at
from tests.benchmarks.cascade_regret import regret


@pytest.mark.parametrize(
    ("before", "position", "expected"),
    [
        ([], 1, ([2, 3], -1.0)),
        ([], 3, ([], 1.0)),
        ([1], 0, ([], 1.0)),
        ([1], 3, ([2, 3], 1.0)),
        ([0, 2], 1, ([], 1.0)),
    ],
)
def test_a_response_ends_what_was_looked_at_and_a_later_one_further_down_moves_the_end(
    before: list[int], position: int, expected: tuple[list[int], float]
) -> None:
    positions, weight = amended(before, position, 4)
    assert (list(positions), weight) == (expected[0], expected[1])
    assert looked_at([], 4) == 4
    assert looked_at([*before, position], 4) == max([*before, position]) + 1


def test_where_users_stop_at_what_they_take_it_pays_to_know_it() -> None:
    knows, ignores = (
        np.array([regret("softmax", seed, cascade=cascade) for seed in range(4)]) for cascade in (True, False)
    )
    assert (knows < 0.8 * ignores).all()
