"""What compiled loops find in sixteen numbers or bytes at once."""

import numba
import numpy as np

from model_core.vectors import LANES, agreeing, lane_of, least_lane, plain


@numba.njit
def lanes(array, at, value):
    return lane_of(array, at, value), least_lane(array, at)


@numba.njit
def of_bytes(one, at, other, there):
    return agreeing(one, at, other, there), plain(one, at)


def first(flags):
    found = np.flatnonzero(flags)
    return found[0] if len(found) else LANES


def test_the_first_of_sixteen_that_is_a_value_and_the_first_of_the_smallest_are_found():
    rng = np.random.default_rng(0)
    groups = rng.integers(-3, 20, (40, 2, LANES)).astype(np.int32)
    groups[0], groups[1] = 2**31 - 1, -(2**31)
    for at, group in enumerate(groups.reshape(-1, LANES)):
        for value in (*range(-4, 21), 2**31 - 1, -(2**31)):
            assert lanes(groups, at * LANES, np.int32(value)) == (first(group == value), group.argmin())


def test_bytes_agree_up_to_the_first_that_differs_and_are_plain_up_to_the_first_that_is_not():
    text = np.arange(256, dtype=np.uint8)
    for at in range(256 - LANES + 1):
        here = text[at : at + LANES]
        special = (here < 32) | (here > 126) | (here == ord('"')) | (here == ord("\\"))
        for differs in (0, 1, LANES - 1, None):
            other = here.copy()
            if differs is not None:
                other[differs] ^= 128
            expected = LANES if differs is None else differs
            assert of_bytes(text, at, other, 0) == (expected, first(special))
