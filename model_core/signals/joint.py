"""Co-visits and EASE of a batch of users in one compiled call.

What it gives has the bits of `co_visitation_scores.sparse_scores` and `Ease.sparse_scores` put side by side
by `sparse.merge_signals`, but for items of which both are 0: these are left out.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import SparseRows
from model_core.kernels import inner, prefetch
from model_core.signals.co_visitation_scores import WEIGHT_UNIT
from model_core.signals.ease import UNIT as EASE_UNIT
from model_core.signals.ease import Ease, Rows
from model_core.signals.neighbour_groups import GROUP, GROUP_BYTES
from model_core.signals.neighbour_groups import UNIT as COUNT_UNIT
from model_core.signals.parts import WIDTH, Parts, arrays_of, trailing_zeros

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_SCALE = 1.0 / (COUNT_UNIT * WEIGHT_UNIT)
_ONE = np.uint64(1)
_MET, _EASED = np.uint64(0), np.uint64(1)  # columns of the sums

njit = numba.njit(cache=True, nogil=True)


@dataclass(frozen=True, slots=True)
class LikedItems:
    """The likes of B users that EASE reads: ``places[begin[b]:end[b]]`` of each, as EASE numbers items.

    ease, rows : EASE's weights, and where its items stand among those that are scored
    place_of : (N,) int32, the other way round, -1 = not known to EASE
    places : (m,) int32, negative ones are not known to EASE; begin, end : (B,) int64
    """

    ease: Ease
    rows: Rows
    place_of: NDArray[np.int32]
    places: NDArray[np.int32]
    begin: Ints
    end: Ints


def joint_scores(
    parts: Parts, histories: Ints, weights: Ints, tempers: NDArray[np.float64], liked: LikedItems | None
) -> tuple[SparseRows, Floats]:
    """Score items by co-visits, and by EASE where there is one.

    Parameters
    ----------
    histories, weights : (B, W) int64, see `co_visitation_scores.sparse_scores`
    tempers : (N,) float64, what the co-visits of each item are divided by, see `popularity.tempers`

    Returns
    -------
    signals : the items of each user for which a signal is not 0
    values : (M, 1) or, with EASE, (M, 2) float32
    """
    width = 1 if liked is None else 2
    if liked is None:
        liked = nothing_liked(len(histories))
    ease, rows = liked.ease, liked.rows
    bounds, found, values = _joint(
        parts.where, histories, weights, tempers, liked.places, liked.begin, liked.end,
        ease.bounds, ease.items, ease.weights, rows.row_of, rows.size, rows.new_rows, rows.new_weights,
        width,
    )  # fmt: skip
    return SparseRows(bounds, found), values


def nothing_liked(n_users: int) -> LikedItems:
    """Return what users of an EASE that knows nothing liked."""
    none, nothing = np.zeros(0, np.int32), np.zeros(n_users, np.int64)
    ease = Ease(np.zeros(1, np.int64), none, np.zeros(0, np.float32))
    return LikedItems(ease, Rows.of(ease), none, none, nothing, nothing)


@njit
def _joint(  # type: ignore[no-untyped-def]
    where, histories, weights, tempers, liked, liked_begin, liked_end,
    ease_bounds, ease_items, ease_weights, row_of, size, new_rows, new_weights, width,
):  # fmt: skip
    n_items = len(tempers)
    sums, marks = np.zeros((n_items, 2)), np.zeros((n_items + 63) >> 6, np.uint64)
    last = np.full(len(ease_bounds), -1, np.int64)
    bounds = np.zeros(len(histories) + 1, np.int64)
    rows, values = np.empty(4096, np.int32), np.empty((4096, width), np.float32)
    n = 0
    for b in range(len(histories)):
        for part in range(len(where)):
            groups, start, level, _ = arrays_of(where[part])
            _meet(groups, start, level, histories[b], weights[b], sums, marks, n_items)
        for at in range(liked_begin[b], liked_end[b]):
            item = liked[at]
            if item >= 0 and last[item] != b:
                last[item] = b
                for k in range(ease_bounds[item], ease_bounds[item + 1]):
                    row = row_of[ease_items[k]]
                    if 0 <= row < n_items:
                        _add(sums, marks, row, _EASED, np.rint(np.float64(ease_weights[k]) * EASE_UNIT))
                for k in range(size[item]):
                    row = new_rows[item, k]
                    if row < n_items:
                        _add(sums, marks, row, _EASED, np.rint(np.float64(new_weights[item, k]) * EASE_UNIT))
        for word in range(len(marks)):
            bits = marks[word]
            if bits == 0:
                continue
            marks[word] = 0
            if n + 64 > len(rows):
                longer, larger = (
                    np.empty(2 * len(rows), np.int32),
                    np.empty((2 * len(rows), width), np.float32),
                )
                longer[:n], larger[:n] = rows[:n], values[:n]
                rows, values = longer, larger
            while bits != 0:
                row = np.uint64(word << 6) + trailing_zeros(bits)
                bits &= bits - _ONE
                met, eased = sums[row, _MET], max(sums[row, _EASED], 0.0)
                sums[row, _MET] = 0.0
                sums[row, _EASED] = 0.0
                rows[n] = row
                values[n, 0] = met * _SCALE / tempers[row]
                if width > 1:
                    values[n, 1] = eased / EASE_UNIT
                n += (met != 0) | (eased > 0)  # no branch, which could not be foretold
        bounds[b + 1] = n
    return bounds, rows[:n], values[:n]


@inner
def _add(sums, marks, row, column, amount):  # type: ignore[no-untyped-def]
    at = np.uint64(row)
    sums[at, column] += amount
    marks[at >> np.uint64(6)] |= _ONE << (at & np.uint64(63))


@inner
def _ask_for_groups(groups, start, level, row):  # type: ignore[no-untyped-def]
    """Let memory bring the groups of a row while the row before it is read."""
    if 0 <= row < len(start) and start[row] >= 0:
        begin = np.int64(start[row]) * GROUP_BYTES
        for line in range(begin, begin + (GROUP_BYTES << level[row]), GROUP_BYTES // 2):
            prefetch(groups, line)


@inner
def _meet(groups, start, level, history, weights, sums, marks, n_items):  # type: ignore[no-untyped-def]
    """Add the co-visits of one user in one partition; rows may change meanwhile in another thread."""
    for k in range(len(history)):
        if k + 1 < len(history):
            _ask_for_groups(groups, start, level, history[k + 1])
        row = history[k]
        if row < 0 or row >= len(start):
            continue
        first = start[row]
        if first < 0:
            continue
        weight = np.float64(weights[k])
        for group in range(first, min(first + (1 << level[row]), len(groups))):
            at = np.uint64(group)
            for slot in range(GROUP):
                other = groups[at, np.uint64(0), np.uint64(slot)]
                if 0 <= other < n_items:
                    _add(sums, marks, other, _MET, weight * groups[at, np.uint64(1), np.uint64(slot)])


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    one = np.ones((1, 1), np.int64)
    nobody = Parts(np.zeros((0, WIDTH), np.int64), ())
    joint_scores(nobody, one, one, np.ones(1), None)
