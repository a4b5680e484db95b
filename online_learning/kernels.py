"""Compiled loops. Plain sequential arithmetic (no fast-math), so results do not depend on batching."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function, with a cache on disk."""
    # Without the GIL: an update of a partition's statistics does not hold up the event loop's thread.
    return cast(_Function, njit(cache=True, nogil=True)(function))


@compiled
def count_wins(
    utility: NDArray[np.float32],
    chosen: NDArray[np.int64],
    usable: NDArray[np.bool_],
    noise: float,
    key: int,
) -> NDArray[np.int64]:
    """Count, per position of one slate, the samples in which its candidate beats all that remained.

    Parameters
    ----------
    utility : (C, S) float32, utility of each candidate under each sample; unchanged
    chosen : (n,) int64, candidates of the slate in order of position
    usable : (C,) bool
    noise : every comparison adds independent uniform noise on [0, noise)
    key : 32 random bits that the noise is made from

    Returns
    -------
    (n,) int64, wins out of S

    Notes
    -----
    What remains at position j is what the slate leaves out plus its positions j, j + 1, ... So one running
    maximum per sample, taken over the candidates left out and then over the slate from its end, serves
    all positions.
    """
    n_candidates, n_samples = utility.shape
    left_out = usable.copy()
    for position in range(len(chosen)):
        left_out[chosen[position]] = False
    best = np.full(n_samples, -np.inf)  # float64: in float32 the noise would round to few values, and tie
    scale = noise * 2.0**-24
    for row in range(n_candidates):
        if left_out[row]:
            first = row * n_samples
            for sample in range(n_samples):
                value = utility[row, sample] + scale * _noise_24(first + sample, key)
                best[sample] = max(best[sample], value)
    wins = np.zeros(len(chosen), np.int64)
    for position in range(len(chosen) - 1, -1, -1):
        row = chosen[position]
        first = row * n_samples
        count = 0
        for sample in range(n_samples):
            value = utility[row, sample] + scale * _noise_24(first + sample, key)
            count += value > best[sample]
            best[sample] = max(best[sample], value)
        wins[position] = count
    return wins


@compiled
def _noise_24(counter: int, key: int) -> float:
    # 24 random bits as a number: two rounds of multiply and xor-shift (the finaliser of MurmurHash3).
    # Compiled products of uint32 are uint64, hence the casts.
    bits = np.uint32(np.uint32(counter) * np.uint32(0x9E3779B1) + np.uint32(key))
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    bits = np.uint32((bits ^ (bits >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.float64(np.uint32(bits ^ (bits >> np.uint32(16))) >> np.uint32(8))


@compiled
def arm_moments(
    features: NDArray[np.float64],
    slots: NDArray[np.int64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x @ mean[slot] and x @ covariance[slot] @ x of every candidate.

    Parameters
    ----------
    features : (B, C, F) float64
    slots : (B, C) int64
    mean, covariance : (A, F) and (A, F, F) float64
    """
    n, n_candidates, dim = features.shape
    means = np.zeros((n, n_candidates))
    variances = np.zeros((n, n_candidates))
    for b in range(n):
        for c in range(n_candidates):
            slot, row = slots[b, c], features[b, c]
            for i in range(dim):
                means[b, c] += row[i] * mean[slot, i]
                inner = 0.0
                for j in range(dim):
                    inner += row[j] * covariance[slot, i, j]
                variances[b, c] += row[i] * inner
    return means, variances


@compiled
def top_of_sum(
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    noise: NDArray[np.float32],
    rows: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Write to `out` the columns where mean + deviation * noise is highest, best first.

    Parameters
    ----------
    mean, deviation : (U, A) float32
    noise : (n, A) float32
    rows : (n,) int64, the row of mean and deviation for each row of noise
    out : (n, k) int64, k at most A; equal values keep the columns' order
    """
    k = out.shape[1]
    best = np.empty(k, np.float32)
    for i in range(len(rows)):
        row, filled = rows[i], 0
        for column in range(mean.shape[1]):
            value = mean[row, column] + deviation[row, column] * noise[i, column]
            if filled == k and not value > best[k - 1]:
                continue
            at = min(filled, k - 1)
            while at > 0 and value > best[at - 1]:
                best[at] = best[at - 1]
                out[i, at] = out[i, at - 1]
                at -= 1
            best[at] = value
            out[i, at] = column
            filled = min(filled + 1, k)
