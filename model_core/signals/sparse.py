"""Signals as lists: which items they reach, in the order of rows, and how much each gets.

What is summed are whole numbers in float64, so sums are exact and the same in any order: training and
serving, one partition or many, get equal bits.
"""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import SparseRows

njit = numba.njit(cache=True, nogil=True)

Longs = NDArray[np.int64]
Rows = NDArray[np.int32]
Sums = tuple[Longs, Rows, NDArray[np.float32]]
"""bounds (B + 1,), rows (M,) ascending within a request, values (M,): a signal of B requests."""


def merge_signals(signals: Sequence[Sums]) -> tuple[SparseRows, NDArray[np.float32]]:
    """Put signals side by side: of each request the rows of any of them, and (M, len(signals)) values."""
    (bounds, rows, values), *others = signals
    table = np.ascontiguousarray(values[:, None])
    for other in others:
        bounds, rows, table = _merge(bounds, rows, table, *other)
    return SparseRows(bounds, rows), table


def scatter(signal: Sums, n: int) -> NDArray[np.float32]:
    """Return a signal of n items as a matrix, (B, n): for comparisons."""
    bounds, rows, values = signal
    dense = np.zeros((len(bounds) - 1, n), np.float32)
    dense[np.repeat(np.arange(len(dense)), np.diff(bounds)), rows] = values
    return dense


@njit
def _merge(
    bounds: Longs,
    rows: Rows,
    values: NDArray[np.float32],
    more_bounds: Longs,
    more_rows: Rows,
    more: NDArray[np.float32],
) -> tuple[Longs, Rows, NDArray[np.float32]]:
    width = values.shape[1]
    out_bounds = np.zeros_like(bounds)
    out_rows = np.empty(len(rows) + len(more_rows), np.int32)
    out = np.zeros((len(out_rows), width + 1), np.float32)
    n = 0
    for b in range(len(bounds) - 1):
        i, j = bounds[b], more_bounds[b]
        while i < bounds[b + 1] or j < more_bounds[b + 1]:
            left = i < bounds[b + 1] and (j == more_bounds[b + 1] or rows[i] <= more_rows[j])
            right = j < more_bounds[b + 1] and (i == bounds[b + 1] or more_rows[j] <= rows[i])
            if left:
                out_rows[n] = rows[i]
                for s in range(width):
                    out[n, s] = values[i, s]
                i += 1
            if right:
                out_rows[n] = more_rows[j]
                out[n, width] = more[j]
                j += 1
            n += 1
        out_bounds[b + 1] = n
    return out_bounds, out_rows[:n].copy(), out[:n].copy()


@njit
def add(total: NDArray[np.float64], marks: NDArray[np.uint64], row: int, amount: float) -> None:
    """Add to the sum of one row, and mark that it has one."""
    total[row] += amount
    marks[row >> 6] |= np.uint64(1) << np.uint64(row & 63)


@njit
def take(
    total: NDArray[np.float64],
    marks: NDArray[np.uint64],
    rows: Rows,
    sums: NDArray[np.float64],
    n: int,
) -> tuple[Rows, NDArray[np.float64], int]:
    """Append the marked rows and their sums, in order, to the first n, and clear them.

    The arrays come back, longer ones when there was too little room.
    """
    for word in range(len(marks)):
        if marks[word] == 0:
            continue
        if n + 64 > len(rows):
            size = 2 * len(rows) + 64
            longer, larger = np.empty(size, np.int32), np.empty(size, np.float64)
            longer[:n], larger[:n] = rows[:n], sums[:n]
            rows, sums = longer, larger
        for byte in range(8):
            bits = (marks[word] >> np.uint64(8 * byte)) & np.uint64(255)
            if bits == 0:
                continue
            for bit in range(8):
                if (bits >> np.uint64(bit)) & np.uint64(1):
                    row = (word << 6) + 8 * byte + bit
                    rows[n], sums[n] = row, total[row]
                    total[row] = 0.0
                    n += 1
        marks[word] = 0
    return rows, sums, n
