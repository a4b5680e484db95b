"""Compiled loops over models per arm."""

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import compiled, contracted


@contracted
def arm_moments(
    features: NDArray[np.float32],
    wanted: NDArray[np.uint64],
    arms: NDArray[np.uint64],
    mean: NDArray[np.float64],
    columns: NDArray[np.float32],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
) -> None:
    """Write x @ mean[arm] and |root[arm] @ x| of every candidate.

    Parameters
    ----------
    features, wanted : (B, C, F) float32 and (B, C) uint64, which arm each is
    arms : (A,) uint64, ascending
    mean : (A + 1, F) float64, the last row of whatever is not in `arms`
    columns : (A + 1, F (F + 1) / 2) float32, of each root, lower triangular, one column after another
    means, deviations : (B, C) float64, written
    """
    n, n_candidates, dim = features.shape
    turned = np.empty(dim, np.float32)
    for b in range(n):
        for c in range(n_candidates):
            at = np.searchsorted(arms, wanted[b, c])
            slot = at if at < len(arms) and arms[at] == wanted[b, c] else len(arms)
            row, packed, total = features[b, c], columns[slot], 0.0
            turned[:] = 0.0
            first = 0
            for f in range(dim):
                total += row[f] * mean[slot, f]
                value, column, below = row[f], packed[first : first + dim - f], turned[f:]
                for i in range(dim - f):
                    below[i] += value * column[i]
                first += dim - f
            square = 0.0
            for f in range(dim):
                square += np.float64(turned[f]) * turned[f]
            means[b, c], deviations[b, c] = total, np.sqrt(square)


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
