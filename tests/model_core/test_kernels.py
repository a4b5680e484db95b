"""What compiled loops ask of memory."""

import numba
import numpy as np
from numpy.testing import assert_array_equal

from model_core.kernels import prefetch


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
