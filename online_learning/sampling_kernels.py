"""Random numbers inside compiled loops: the words of `online_learning.sampling`, and normals made of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import compiled, contracted

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)

# The natural logarithm on [sqrt(1/2), sqrt(2)] and sine and cosine on a quarter turn: the polynomials of
# Cephes (S. Moshier, logf.c, sinf.c, cosf.c), good to a rounding of float32, and without a branch.
_LN_2 = np.float32(0.6931471805599453)
_QUARTER = np.float32(np.pi / 4.0)


@compiled
def mixed(value: Any) -> Any:
    """Scramble a word as `sampling.mix` does."""
    value = (value ^ (value >> np.uint64(30))) * _MULTIPLY_1
    value = (value ^ (value >> np.uint64(27))) * _MULTIPLY_2
    return value ^ (value >> np.uint64(31))


@compiled
def start_of(seed: Any, stream: int) -> Any:
    """Return where the words of a stream begin: word i, from 0, is `word(start, i)`."""
    return mixed(mixed(np.uint64(seed)) + np.uint64(stream) * _GOLDEN)


@compiled
def word(start: Any, at: int) -> Any:
    """Return a word of `sampling.words`."""
    return mixed(start + np.uint64(at + 1) * _GOLDEN)


@compiled
def mixed_32(value: Any) -> Any:
    """Scramble 32 bits: the finaliser of MurmurHash3, a bijection (A. Appleby, public domain)."""
    # Compiled products and sums of uint32 are uint64, hence the casts.
    bits = np.uint32(value)
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    bits = np.uint32((bits ^ (bits >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(bits ^ (bits >> np.uint32(16)))


@contracted
def fill_normals(start: Any, first: int, ones: NDArray[np.float32], others: NDArray[np.float32]) -> None:
    """Write the pairs `first`, `first` + 1, ... of a stream of standard normal numbers to two arrays.

    Parameters
    ----------
    start : as of `start_of`
    first : at least 0
    ones, others : (n,) float32 each, written

    Notes
    -----
    Box & Muller (1958) on two words of 32 bits a pair, which processors multiply many at a time. The words
    are made of the number of the pair and of 64 random bits that belong to the stream.
    """
    key = word(start, 0)
    high_key, low_key = np.uint32(key >> np.uint64(32)), np.uint32(key)
    for i in range(len(ones)):
        high = mixed_32(np.uint32(first + i) * np.uint32(0x9E3779B1) + high_key)
        ones[i], others[i] = normal_pair(high, mixed_32(high ^ low_key))


@contracted
def normal_pair(high: Any, low: Any) -> tuple[Any, Any]:
    """Return two independent float32 normals, at most 6.8 in size, of two random words of 32 bits."""
    # Never 0, so that the logarithm is finite; 1 after rounding is harmless (radius 0).
    drawn = (np.float32(high) + np.float32(0.5)) * np.float32(2.0**-32)
    radius = np.sqrt(np.float32(-2.0) * _log(drawn))
    angle = (np.float32(low >> np.uint32(2)) + np.float32(0.5)) * np.float32(2.0**-30)
    # A whole turn is a quarter and two signs; the quarter is centred, where the polynomials are short.
    x = (np.float32(2.0) * angle - np.float32(1.0)) * _QUARTER
    square = x * x
    sine = np.float32(-1.9515295891e-4) * square + np.float32(8.3321608736e-3)
    sine = (sine * square - np.float32(1.6666654611e-1)) * square * x + x
    cosine = np.float32(2.443315711809948e-5) * square - np.float32(1.388731625493765e-3)
    cosine = (cosine * square + np.float32(4.166664568298827e-2)) * square * square
    cosine = cosine - np.float32(0.5) * square + np.float32(1.0)
    radius = radius * np.float32(0.7071067811865476)
    first, second = radius * (cosine + sine), radius * (cosine - sine)
    signed_1 = np.float32(1.0) - np.float32(2.0) * np.float32(low & np.uint32(1))
    signed_2 = np.float32(1.0) - np.float32(1.0) * np.float32(low & np.uint32(2))
    return first * signed_1, second * signed_2


@contracted
def _log(value: Any) -> Any:
    bits = np.float32(value).view(np.int32) - np.int32(0x3F3504F3)  # of sqrt(1/2)
    exponent = bits >> np.int32(23)
    mantissa = np.int32((bits & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)).view(np.float32)
    x = mantissa - np.float32(1.0)
    square = x * x
    y = np.float32(7.0376836292e-2) * x - np.float32(1.1514610310e-1)
    y = y * x + np.float32(1.1676998740e-1)
    y = y * x - np.float32(1.2420140846e-1)
    y = y * x + np.float32(1.4249322787e-1)
    y = y * x - np.float32(1.6668057665e-1)
    y = y * x + np.float32(2.0000714765e-1)
    y = y * x - np.float32(2.4999993993e-1)
    y = y * x + np.float32(3.3333331174e-1)
    y = y * x * square - np.float32(0.5) * square
    return np.float32(exponent) * _LN_2 + (x + y)
