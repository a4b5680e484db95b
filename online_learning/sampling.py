"""Random numbers as a pure function of (seed, stream, counter), whole arrays at a time.

A counter-based generator has no state to carry: request seeds go in, the same numbers come out whatever
the batch, the order or the thread. The mixing function is splitmix64's (Steele, Lea & Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014, with the constants of its reference code).
"""

import numpy as np
from numpy.typing import NDArray

Seeds = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble each value by splitmix64's finaliser, a bijection on 64 bits; the input is kept."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= _MULTIPLY_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MULTIPLY_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def words(seeds: Seeds, n: int, *, stream: int) -> NDArray[np.uint64]:
    """Return (B, n) uint64 random words.

    The first m of n words are the m words asked for alone. Different `stream` numbers give independent
    words from one seed; a caller that needs two kinds of noise for a request uses two streams.
    """
    # Mixed before counting: seeds that differ by a multiple of the increment would else share words.
    start = mix(mix(seeds) + np.array([stream], np.uint64) * _GOLDEN)
    counters = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
    return mix(start[:, None] + counters)


def uniforms(seeds: Seeds, n: int, *, stream: int) -> NDArray[np.float64]:
    """Return (B, n) float64 uniform numbers in the open interval (0, 1), on a grid of 2**-52."""
    high = (words(seeds, n, stream=stream) >> np.uint64(12)).astype(np.float64)
    high += 0.5
    high *= 2.0**-52
    return high


def gumbels(seeds: Seeds, n: int, *, stream: int) -> NDArray[np.float64]:
    """Return (B, n) float64 standard Gumbel numbers."""
    exponential = -np.log(uniforms(seeds, n, stream=stream))
    return np.asarray(-np.log(exponential))
