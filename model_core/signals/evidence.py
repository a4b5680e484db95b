"""Finds the item of a user's history that a signal owes most to: exact, as co-visits and EASE are sums."""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_scores import pair_counts
from model_core.signals.ease import Ease


def covisit_parts(
    parts: Sequence[CoVisitation],
    history: NDArray[np.int64],
    weights: NDArray[np.float32],
    items: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Summands of the co-visit signal, by history item and not by event.

    Parameters
    ----------
    history, weights : (h,) item rows, -1 = padding, and weights of `pasts.recent`
    items : (k,) int64 rows

    Returns
    -------
    rows : (m,) int64, the distinct items of the history
    summands : (m, k) float64, in units that the items' popularity tempers: shares are exact
    """
    rows, place = np.unique(history[history >= 0], return_inverse=True)
    counts = pair_counts(parts, rows, np.ascontiguousarray(items, np.int64)).astype(np.float64)
    weight = np.bincount(place, weights=weights[history >= 0], minlength=len(rows))
    return rows, counts * weight[:, None]


def ease_parts(ease: Ease, liked: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float64]:
    """Summands of EASE's signal before it is cut at 0: weights of each liked item for each item.

    Parameters
    ----------
    liked : (m,) int32, distinct rows of EASE
    items : (k,) int32, distinct rows of EASE; -1 = not known to it

    Returns
    -------
    summands : (m, k) float64
    """
    out = np.zeros((len(liked), len(items)))
    column = np.full(ease.n_items, -1, np.int32)
    known = np.flatnonzero(items >= 0)
    column[items[known]] = known
    _gather(ease.bounds, ease.items, ease.weights, liked.astype(np.int32, copy=False), column, out)
    return out


def strongest(summands: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the largest summand of each column, and its share of their sum.

    Returns
    -------
    place : (k,) int64, -1 where the sum is not positive
    share : (k,) float64; above 1 where others count against
    """
    if not len(summands):
        return np.full(summands.shape[1], -1), np.zeros(summands.shape[1])
    place, total = summands.argmax(axis=0), summands.sum(axis=0)
    positive = total > 0
    share = np.divide(summands.max(axis=0), total, out=np.zeros(len(total)), where=positive)
    return np.where(positive, place, -1), share


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    none = np.zeros(0, np.int32)
    ease_parts(Ease(np.zeros(2, np.int64), none, np.zeros(0, np.float32)), np.zeros(1, np.int32), none)


@numba.njit(cache=True, nogil=True)
def _gather(bounds, items, weights, liked, column, out):  # type: ignore[no-untyped-def]
    for m in range(len(liked)):
        for k in range(bounds[liked[m]], bounds[liked[m] + 1]):
            at = column[items[k]]
            if at >= 0:
                out[m, at] = weights[k]
