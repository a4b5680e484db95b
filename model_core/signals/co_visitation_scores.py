"""What co-visitation counts say of items: scores by a history, popularity and the weights of pairs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.signals import co_visitation_reads as reads
from model_core.signals import neighbour_groups as groups
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.sparse import Sums, merge_signals

WEIGHT_UNIT = 1 << 16


def sparse_scores(
    parts: Sequence[CoVisitation],
    histories: NDArray[np.int64],
    weights: NDArray[np.int64],
    popularity: NDArray[np.float32],
) -> Sums:
    """Score items by their co-visits with each user's history, over all partitions.

    The score of item i is sum_h weights[b, h] * sum_p C_p[h, i] / sqrt(popularity[i] + 10), the square root
    tempering popular items.

    Parameters
    ----------
    histories : (B, H) int64
        Item rows of each user's history, negative = padding.
    weights : (B, H) int64
        See `read_weights` and `model_core.signals.pasts.recent`.
    popularity : (N,) float32
        See `total_popularity`; items from N on are left out.

    Returns
    -------
    bounds : (B + 1,) int64; rows : (M,) int32; values : (M,) float32, of the items with any co-visit
    """
    # One layout, one compilation: a slice of columns would have another.
    histories = np.ascontiguousarray(histories)
    amounts = np.ascontiguousarray(weights, np.float64)
    tables = [part.tables for part in parts]
    most = sum(_room(one, histories) for one in tables)
    others, counts = np.empty(most, np.int32), np.empty(most, np.float64)
    bounds, end = np.zeros((len(parts), len(histories) + 1), np.int64), 0
    for one, of_part in zip(tables, bounds, strict=True):
        end = reads.gather_weighted(one, histories, amounts, of_part, others, counts, end)
    found, rows, sums = reads.add_up(bounds, others, counts, len(popularity))
    return found, rows, tempered(sums, np.sqrt(popularity[rows].astype(np.float64) + 10.0))


def _room(tables: groups.Tables, histories: NDArray[np.int64]) -> int:
    """Counters of these rows, twice: while they are read, each row may grow once."""
    rows = histories[(histories >= 0) & (histories < len(tables.start))]
    return 2 * int((groups.GROUP << tables.level[rows].astype(np.int64)).sum())


def tempered(sums: NDArray[np.float64], tempers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scores of items from their weighted counts, in units, and what these are divided by."""
    scale = 1.0 / (groups.UNIT * WEIGHT_UNIT)
    return (sums * scale / tempers).astype(np.float32)


def read_weights(*, window: int, decay: float, other: float) -> NDArray[np.int64]:
    """Weights of a history's events in `sparse_scores`, whole numbers of 1 / WEIGHT_UNIT: (2, window) int64.

    That of the event r before the last is ``decay ** r``; row 0, for events that are not positive, times
    `other`.
    """
    weights = decay ** np.arange(window) * WEIGHT_UNIT
    return np.rint((weights * other, weights)).astype(np.int64)


def total_popularity(parts: Sequence[CoVisitation], n_items: int) -> NDArray[np.float32]:
    """Positive events of every item over all partitions: (n_items,) float32."""
    total = np.zeros(n_items, np.int64)
    for part in parts:
        known = part.popularity[:n_items]
        total[: len(known)] += known
    return total.astype(np.float32)


def pair_counts(
    parts: Sequence[CoVisitation], history: NDArray[np.int64], items: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Co-visit weights between history and items, over all partitions: (H, n) float32."""
    out = np.zeros((len(history), len(items)), np.float32)
    for part in parts:
        reads.pair_counts(part.tables, history, items, out)
    out /= groups.UNIT
    return out


def warm() -> None:
    """Compile every kernel, or load it from the cache, so that no request waits for it."""
    part = CoVisitation(neighbours=32, window=2)
    part.grow(np.arange(3, dtype=np.uint64))
    history = np.zeros((1, 1), np.int64)
    weights = read_weights(window=1, decay=1.0, other=1.0)[:1]
    merge_signals([sparse_scores([part], history, weights, total_popularity([part], 3))] * 2)
    pair_counts([part], history[0], history[0])
