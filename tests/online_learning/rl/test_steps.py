import numpy as np
import pytest

from online_learning.rl.steps import Steps, discounted, follow
from tests.online_learning.rl_worlds import bandit_steps


def test_discounted_sums_run_along_each_session():
    rng = np.random.default_rng(0)
    order = rng.permutation(40)
    following, values = np.full(40, -1), rng.normal(size=40)
    for first in range(0, 40, 8):  # five sessions of eight slates, in any order of rows
        following[order[first : first + 7]] = order[first + 1 : first + 8]
    wanted = values.copy()
    for row in order[::-1]:
        if following[row] >= 0:
            wanted[row] += 0.9 * wanted[following[row]]
    assert discounted(values, following, 0.9) == pytest.approx(wanted)


def test_slates_that_lead_to_themselves_are_refused():
    with pytest.raises(ValueError, match="following must end"):
        discounted(np.ones(3), np.array([1, 2, 0]), 0.9)


def test_a_session_is_one_users_slates_without_a_long_gap():
    users = np.array(["a", "b", "a", "a", "b"])
    times = np.array([0, 5, 10, 200, 6])
    assert follow(users, times, gap_ms=100).tolist() == [2, 4, -1, -1, -1]
    with pytest.raises(ValueError, match="gap_ms must be at least 1, got 0"):
        follow(users, times, gap_ms=0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("propensities", np.zeros((400, 2), np.float32), r"propensities must be in \(0, 1\], got 0.0"),
        ("following", np.full(400, 400), "following must name rows below 400, got 400"),
        ("rewards", np.zeros((400, 3), np.float32), r"rewards must have shape \(400, 2\)"),
    ],
)
def test_columns_that_do_not_fit_are_refused(name: str, value: np.ndarray, message: str):
    good = bandit_steps(0)
    columns = {field: getattr(good, field) for field in Steps.__slots__} | {name: value}
    with pytest.raises(ValueError, match=message):
        Steps(**columns)
