"""What signals are, written plainly: compiled ones are compared with it, bit by bit.

Sums are of whole numbers in float64, so they are exact and the same in any order.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.release.batches import SparseRows
from model_core.signals.co_visitation import CoVisitation, tempered
from model_core.signals.ease import UNIT, Ease, Rows

Sums = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""bounds (B + 1,), rows (M,) ascending within a request, values (M,): a signal of B requests."""


def total_popularity(parts: Sequence[CoVisitation], n_items: int) -> NDArray[np.float32]:
    """Positive events of every item over all partitions: (n_items,) float32."""
    total = np.zeros(n_items, np.int64)
    for part in parts:
        known = part.popularity[:n_items]
        total[: len(known)] += known
    return total.astype(np.float32)


def sparse_scores(
    parts: Sequence[CoVisitation],
    histories: NDArray[np.int64],
    weights: NDArray[np.int64],
    popularity: NDArray[np.float32],
) -> Sums:
    """Score items by their co-visits with each user's history, over all partitions.

    The score of item i is sum_h weights[b, h] * sum_p C_p[h, i] / sqrt(popularity[i] + 10).

    Parameters
    ----------
    histories, weights : (B, H) int64, item rows, negative = padding, and what each counts
    popularity : (N,) float32, items from N on are left out

    Returns
    -------
    bounds : (B + 1,) int64; rows : (M,) int32; values : (M,) float32, of the items with any co-visit
    """
    n = len(popularity)
    of_users = []
    for history, weight in zip(histories, weights, strict=True):
        sums, met = np.zeros(n), np.zeros(n, np.bool_)
        for part in parts:
            known = (history >= 0) & (history < part.n_items)
            bounds, others, counts = part.neighbours_of(history[known].astype(np.int32))
            amounts = np.repeat(weight[known], np.diff(bounds)).astype(np.float64) * counts
            there = others < n
            np.add.at(sums, others[there], amounts[there])
            met[others[there]] = True
        rows = np.flatnonzero(met)
        of_users.append((rows, tempered(sums[rows], np.sqrt(popularity[rows].astype(np.float64) + 10.0))))
    return _joined(of_users)


def ease_scores(
    ease: Ease,
    bounds: NDArray[np.int64],
    liked: NDArray[np.int32],
    rows: Rows | None = None,
    n: int | None = None,
) -> Sums:
    """Sum the weights of what each of B users liked, repeats once, and leave out what is not positive.

    Parameters
    ----------
    bounds : (B + 1,) int64, liked : (m,) int32 items; negative ones are not known
    rows : where others than these items are to be scored
    n : rows to score, from 0 on; all items when None
    """
    rows = rows or Rows.of(ease)
    n = ease.n_items if n is None else n
    of_users = []
    for begin, end in zip(bounds, bounds[1:], strict=False):
        sums = np.zeros(n)
        for item in {*liked[begin:end].tolist()} - {-1}:
            weights = slice(ease.bounds[item], ease.bounds[item + 1])
            news = slice(rows.size[item])
            at = np.concatenate((rows.row_of[ease.items[weights]], rows.new_rows[item, news]))
            amounts = np.concatenate((ease.weights[weights], rows.new_weights[item, news]))
            there = (at >= 0) & (at < n)
            np.add.at(sums, at[there], np.rint(amounts[there].astype(np.float64) * UNIT))
        found = np.flatnonzero(sums > 0)
        of_users.append((found, (sums[found] / UNIT).astype(np.float32)))
    return _joined(of_users)


def _joined(of_users: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> Sums:
    ends = np.cumsum([0, *(len(rows) for rows, _ in of_users)])
    rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in of_users)])
    values = np.concatenate([np.zeros(0, np.float32), *(values for _, values in of_users)])
    return ends, rows.astype(np.int32), values


def merge_signals(signals: Sequence[Sums]) -> tuple[SparseRows, NDArray[np.float32]]:
    """Put signals side by side: of each request the rows of any of them, and (M, len(signals)) values."""
    n = 1 + max((int(rows.max(initial=0)) for _, rows, _ in signals), default=0)
    dense = np.stack([scatter(one, n) for one in signals], -1)
    met = np.stack([scatter((bounds, rows, np.ones_like(values)), n) for bounds, rows, values in signals], -1)
    owner, rows = np.nonzero(met.any(-1))
    bounds = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=len(dense)))))
    return SparseRows(bounds, rows.astype(np.int32)), dense[owner, rows]


def scatter(signal: Sums, n: int) -> NDArray[np.float32]:
    """Return a signal of n items as a matrix, (B, n)."""
    bounds, rows, values = signal
    dense = np.zeros((len(bounds) - 1, n), np.float32)
    dense[np.repeat(np.arange(len(dense)), np.diff(bounds)), rows] = values
    return dense
