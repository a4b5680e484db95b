"""The best of sampled utilities: ties broken by noise, and how often each item of a slate is the best left.

A sample's number of a candidate depends on the candidate and the sample alone, never on the others.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import compiled, contracted
from online_learning.sampling_kernels import mixed_32

Floats = NDArray[np.float32]

# Streams of random numbers of one request: what chooses the slate is independent of what estimates it.
CHOICE, ESTIMATE, ESTIMATE_TIES, CHOICE_TIES = 1, 2, 3, 4

# Candidates of equal features have equal utility under any weights. Noise far below any difference that
# matters, and above the rounding of float32 sums of order 1, makes the choice among them uniform.
TIE_NOISE = 1e-5
_TIE_STEP = TIE_NOISE * 2.0**-24

# A candidate that is not in the slate is left out of the samples when the best mean left out beats it by
# more than this many standard deviations of their difference: it wins a sample with a probability below
# 1e-9, so that a propensity is off by less than 1e-9 times the candidates.
REACH = np.float32(6.0)

# Samples looked at together: few of them are won by a candidate, and where none can be, no noise is needed.
_STRIDE = 32


@compiled
def _tie_bits(counter: int, key: Any) -> float:
    # A number of 24 random bits.
    bits = mixed_32(np.uint32(counter) * np.uint32(0x9E3779B1) + np.uint32(key))
    return np.float64(np.uint32(bits) >> np.uint32(8))


@compiled
def best_left(values: Floats, left: NDArray[np.bool_], first: int, key: Any) -> int:
    """Return the candidate of the highest value that is left, -1 if none is.

    Parameters
    ----------
    values, left : (C,)
    first, key : number of the first candidate's tie noise, and the key of all of it
    """
    chosen, best = -1, -np.inf
    for c in range(len(values)):
        if left[c]:
            value = values[c] + _TIE_STEP * _tie_bits(first + c, key)
            if value > best or chosen < 0:
                chosen, best = c, value
    return chosen


@compiled
def leader_of(utility: Floats, usable: NDArray[np.bool_], slate: NDArray[np.int64]) -> int:
    """Return the candidate of highest mean utility that the slate leaves out, -1 if it leaves out none."""
    leader = -1
    for c in range(len(utility)):
        if usable[c] and (leader < 0 or utility[c] > utility[leader]) and not np.any(slate == c):
            leader = c
    return leader


@contracted
def find_contenders(
    utility: Floats, apart: Floats, usable: NDArray[np.bool_], slate: NDArray[np.int64], leader: int
) -> NDArray[np.int64]:
    """Return the candidates whose samples are needed: first those left out that may win, then the slate's.

    The slate's come from its last position to its first. `REACH` says who may win.

    Parameters
    ----------
    apart : (C,) float32, variance of the difference from the leader's utility
    """
    left_out = usable.copy()
    for candidate in slate:
        left_out[candidate] = False
    found = np.empty(len(utility) + len(slate), np.int64)
    n = 0
    for c in range(len(utility)):
        if left_out[c]:
            behind = utility[leader] - utility[c] - np.float32(TIE_NOISE)
            if c == leader or not behind > REACH * np.sqrt(apart[c]):
                found[n] = c
                n += 1
    for candidate in slate[::-1]:
        found[n] = candidate
        n += 1
    return found[:n]


@contracted
def raise_best(best: NDArray[np.float64], values: Floats, first: int, key: Any) -> None:
    """Raise each sample's best to a candidate's value, where that is higher.

    Parameters
    ----------
    best, values : (S,) float64 with tie noise, written; (S,) float32 without
    first, key : as of `best_left`, of the first sample
    """
    for begin in range(0, len(best), _STRIDE):
        highest, drawn = best[begin : begin + _STRIDE], values[begin : begin + _STRIDE]
        above = 0
        for s in range(len(highest)):
            above += drawn[s] + TIE_NOISE >= highest[s]
        if above:
            for s in range(len(highest)):
                noise = _TIE_STEP * _tie_bits(first + begin + s, key)
                highest[s] = max(highest[s], drawn[s] + noise)


@contracted
def count_wins(best: NDArray[np.float64], values: Floats, first: int, key: Any) -> int:
    """Count the samples in which a candidate beats the best so far, and raise it as `raise_best` does."""
    wins = 0
    for s in range(len(best)):
        value = values[s] + _TIE_STEP * _tie_bits(first + s, key)
        wins += value > best[s]
        best[s] = max(best[s], value)
    return wins


@compiled
def shown_places(slate: NDArray[np.int64], usable: NDArray[np.bool_], places: NDArray[np.int64]) -> int:
    """Write the positions of a slate that have a usable candidate, and return how many there are."""
    shown = 0
    for position in range(len(slate)):
        if slate[position] >= 0 and usable[slate[position]]:
            places[shown] = position
            shown += 1
    return shown
