"""Compiled loops that read co-visitation counts, and the events before each one of a log."""

import numba
import numpy as np

from model_core.signals import sparse
from model_core.signals.neighbour_groups import (
    GROUP,
    Cells,
    Flags,
    Floats,
    Pairs,
    Rows,
    Sums,
    Tables,
    group_of,
)

njit = numba.njit(cache=True, nogil=True)


@njit
def holders(t: Tables, gone: Flags, begin: int, end: int) -> Rows:
    """Rows in [begin, end) that have a neighbour among those marked."""
    groups, start, level = t.groups, t.start, t.level
    found = np.empty(end - begin, np.int32)
    n = 0
    for row in range(begin, end):
        if start[row] < 0:
            continue
        holds = False
        for group in range(start[row], start[row] + (1 << level[row])):
            for slot in range(groups.shape[2]):
                other = groups[group, 0, slot]
                holds |= other >= 0 and other < len(gone) and gone[other]
        if holds:
            found[n] = row
            n += 1
    return found[:n]


@njit
def gather(t: Tables, rows: Rows, sizes: Cells, others: Rows, counts: Rows) -> None:
    """Write out the neighbours of `rows` one after another, and how many each has.

    Rows may change meanwhile in another thread: what there is no room for, or no group, is left out.
    """
    groups, start, level = t.groups, t.start, t.level
    end = 0
    for i in range(len(rows)):
        row, begin = rows[i], end
        if start[row] >= 0:
            for group in range(start[row], min(start[row] + (1 << level[row]), len(groups))):
                if end + GROUP > len(others):
                    break
                for slot in range(GROUP):
                    if groups[group, 0, slot] >= 0:
                        others[end] = groups[group, 0, slot]
                        counts[end] = groups[group, 1, slot]
                        end += 1
        sizes[i] = end - begin


@njit
def gather_weighted(
    t: Tables,
    histories: Pairs,
    weights: Sums,
    bounds: Cells,
    others: Rows,
    amounts: Sums,
    end: int,
) -> int:
    """Append the counts of each history's neighbours, times its weight; return where they end now.

    Rows may change meanwhile in another thread: what there is no room for, or no group, is left out.

    histories, weights : (B, H); bounds : (B + 1,), where each request's part begins, written here
    """
    groups, start, level = t.groups, t.start, t.level
    bounds[0] = end
    for user in range(histories.shape[0]):
        for k in range(histories.shape[1]):
            row = histories[user, k]
            if row < 0 or row >= len(start):
                continue
            first, size = start[row], 1 << level[row]
            if first < 0:
                continue
            for group in range(first, min(first + size, len(groups))):
                if end + GROUP > len(others):
                    break
                for slot in range(GROUP):
                    other = groups[group, 0, slot]
                    if other >= 0:
                        others[end] = other
                        amounts[end] = weights[user, k] * groups[group, 1, slot]
                        end += 1
        bounds[user + 1] = end
    return end


@njit
def add_up(bounds: Pairs, others: Rows, amounts: Sums, n_items: int) -> tuple[Cells, Rows, Sums]:
    """Sum what `gather_weighted` appended: bounds (parts, B + 1); rows from n_items on fall out.

    Returns
    -------
    bounds (B + 1,), rows (M,), sums (M,) of each request
    """
    n_requests = bounds.shape[1] - 1
    total, marks = np.zeros(n_items), np.zeros((n_items + 63) >> 6, np.uint64)
    found = np.zeros(n_requests + 1, np.int64)
    rows, sums = np.empty(1024, np.int32), np.empty(1024, np.float64)
    n = 0
    for b in range(n_requests):
        for part in range(bounds.shape[0]):
            for k in range(bounds[part, b], bounds[part, b + 1]):
                if others[k] < n_items:
                    sparse.add(total, marks, others[k], amounts[k])
        rows, sums, n = sparse.take(total, marks, rows, sums, n)
        found[b + 1] = n
    return found, rows[:n].copy(), sums[:n].copy()


@njit
def pair_counts(t: Tables, history: Cells, items: Cells, out: Floats) -> None:
    """Add the co-visit counts of each pair of history and items, in units, to out (H, n)."""
    groups, start, level, low_bits = t.groups, t.start, t.level, t.low_bits
    for h in range(len(history)):
        row = history[h]
        if row < 0 or row >= len(start) or start[row] < 0:
            continue
        for i in range(len(items)):
            if items[i] < 0 or items[i] >= len(start):
                continue
            group = group_of(start, level, low_bits, row, items[i])
            for slot in range(GROUP):
                if groups[group, 0, slot] == items[i]:
                    out[h, i] += groups[group, 1, slot]


@njit
def previous_items(
    users: Rows, items: Rows, positive: Flags, window: int, n_users: int
) -> tuple[Rows, Flags]:
    """For each event of a log in time order, its user's `window` events before it.

    Parameters
    ----------
    users, items : (n,) int32
        Rows of the user and the item of every event; users in [0, n_users).
    positive : (n,) bool

    Returns
    -------
    windows : (n, window) int32, their items, most recent first, then -1
    windows_positive : (n, window) bool
    """
    last = np.full(n_users, -1, np.int64)
    before = np.empty(len(users), np.int64)
    windows = np.full((len(users), window), -1, np.int32)
    windows_positive = np.zeros((len(users), window), np.bool_)
    for event in range(len(users)):
        before[event] = last[users[event]]
        last[users[event]] = event
        other = before[event]
        for back in range(window):
            if other < 0:
                break
            windows[event, back] = items[other]
            windows_positive[event, back] = positive[other]
            other = before[other]
    return windows, windows_positive
