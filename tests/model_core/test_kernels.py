"""What compiled loops ask of memory, and what they find in sixteen numbers at once."""

import numba
import numpy as np
from numpy.testing import assert_array_equal

from model_core.kernels import LANES, lane_of, least_lane, prefetch


@numba.njit
def ask_for_all(array, beyond):
    for byte in range(0, array.size * array.itemsize, 64):
        prefetch(array, byte)
        prefetch(array, byte + beyond)
        prefetch(array, byte - beyond)
    return array.sum()


def test_memory_is_asked_for_lines_of_an_array_and_beyond_it_and_nothing_changes():
    array = np.arange(24.0).reshape(2, 3, 4)
    for beyond in (0, 4096, 1 << 30):
        assert ask_for_all(array, beyond) == sum(range(24))
    assert_array_equal(array.ravel(), np.arange(24.0))


@numba.njit
def lanes(array, at, value):
    return lane_of(array, at, value), least_lane(array, at)


def test_the_first_of_sixteen_that_is_a_value_and_the_first_of_the_smallest_are_found():
    rng = np.random.default_rng(0)
    groups = rng.integers(-3, 20, (40, 2, LANES)).astype(np.int32)
    groups[0], groups[1] = 2**31 - 1, -(2**31)
    for at, group in enumerate(groups.reshape(-1, LANES)):
        for value in (*range(-4, 21), 2**31 - 1, -(2**31)):
            same = np.flatnonzero(group == value)
            expected = same[0] if len(same) else LANES, group.argmin()
            assert lanes(groups, at * LANES, np.int32(value)) == expected
