"""Forgetting: weights that halve every half-life, in sums that can still be added.

An observation of time t weighs 2 ** (t / half_life) / 2 ** exponent, with one exponent for a whole sum.
Newer observations weigh more, so nothing that is in a sum has to change as time goes by; when a time would
outgrow the exponent, the sum is multiplied by a power of two, which is exact in binary floating point. So
neither the cutting into batches nor the moment of a snapshot shows in the bits, and two sums of different
exponents are added after one such multiplication. Whoever reads a sum divides it by the weight of "now".
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The exponent of a sum that has seen nothing: below that of any time.
EMPTY = -(1 << 40)


def check_half_life(half_life_ms: int | None) -> None:
    """Raise ValueError unless the half-life is None (nothing is forgotten) or at least 1."""
    if half_life_ms is not None and half_life_ms < 1:
        raise ValueError(f"half_life_ms must be at least 1, got {half_life_ms}")


def first_exponent(half_life_ms: int | None) -> int:
    """Return the exponent of an empty sum."""
    return 0 if half_life_ms is None else EMPTY


def row_times(
    times_ms: NDArray[Any] | int | None, n: int, half_life_ms: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return times, exponents and factors of n observations: weight = factor * 2 ** (exponent - a sum's).

    Raises
    ------
    ValueError
        There is a half-life and no time for each row.
    """
    if half_life_ms is None:
        zeros = np.zeros(n, np.int64)
        return zeros, zeros, np.ones(n)
    if times_ms is None:
        raise ValueError("times_ms must be given with a half-life, got None")
    times = np.asarray(times_ms, np.int64)
    times = np.full(n, times) if times.ndim == 0 else np.ascontiguousarray(times)
    if times.shape != (n,):
        raise ValueError(f"times_ms must have shape ({n},) as the features, got {times.shape}")
    exponents, rest = np.divmod(times, half_life_ms)
    return times, exponents, np.exp2(rest / half_life_ms)


def power_of_two(exponent: Any) -> Any:
    """Return 2.0 ** exponent, exactly; 0 where that is too small for a float64."""
    return np.ldexp(1.0, np.maximum(exponent, -1100).astype(np.int32))


def scale_at(exponent: Any, now_ms: int, half_life_ms: int | None) -> Any:
    """Return what a sum of this exponent is multiplied by to weigh an observation of `now_ms` as 1."""
    if half_life_ms is None:
        return np.ones(np.shape(exponent))
    whole, rest = divmod(now_ms, half_life_ms)
    return power_of_two(np.asarray(exponent) - whole) * 2.0 ** (-rest / half_life_ms)
