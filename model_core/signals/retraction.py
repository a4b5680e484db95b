"""Compiled loops that take events out of co-visitation counts again."""

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner
from model_core.signals.horizons import HALF_LIVES_MS
from model_core.signals.neighbour_groups import (
    FREE,
    LAST,
    NO_TIME,
    Bytes,
    Cells,
    Flags,
    Groups,
    Rows,
    Tables,
    Windows,
    group_of,
)

njit = numba.njit(cache=True, nogil=True)


@inner
def _uncount_pair(
    groups: Groups, start: Rows, level: Bytes, low_bits: Bytes, heap: Cells, row: int, other: int, times: int
) -> None:
    """Take `times` off the counter of `other` in `row`: the reverse of `count_pair`.

    What a full row has counted under other names, it is taken off the smallest counters of the group: there
    it was added. So a group goes on to sum up to what has been counted in it.
    """
    if start[row] < 0:
        return
    group = group_of(start, level, low_bits, row, other)
    for slot in range(groups.shape[2]):
        if groups[group, 0, slot] == other:
            taken = min(groups[group, 1, slot], times)
            groups[group, 1, slot] -= taken
            times -= taken
            if not groups[group, 1, slot]:
                groups[group, 0, slot] = -1
    if level[row] < len(heap) - FREE - 1:
        return
    while times > 0:
        least = -1
        for slot in range(groups.shape[2]):
            if groups[group, 0, slot] >= 0 and (
                least < 0 or groups[group, 1, slot] < groups[group, 1, least]
            ):
                least = slot
        if least < 0:
            return
        taken = min(groups[group, 1, least], times)
        groups[group, 1, least] -= taken
        times -= taken
        if not groups[group, 1, least]:
            groups[group, 0, least] = -1


@inner
def _is_empty(groups: Groups, start: Rows, level: Bytes, row: int) -> bool:
    """Whether a row counts no pair."""
    first = start[row]
    if first >= 0:
        for group in range(first, first + (1 << level[row])):
            for slot in range(groups.shape[2]):
                if groups[group, 0, slot] >= 0:
                    return False
    return True


@njit
def retract(
    t: Tables,
    items: Rows,
    positive: Flags,
    windows: Windows,
    windows_positive: Flags,
    event_times: Cells,
    weights: NDArray[np.int32],
    changed: Flags,
) -> None:
    """Take events out of the rows that have them; parameters as of `co_visitation_kernels.observe`.

    changed : (n_items,) bool, written True at the rows that have changed. There may be free counters between
        others in these, which nothing else leaves: restore them.
    """
    groups, start, level, low_bits, _, popularity, rates, times, _, _, heap = t
    for event in range(len(items)):
        item = items[event]
        changed[item] = True
        for k in range(windows.shape[1]):
            other = windows[event, k]
            if other < 0:
                break
            if other == item:
                continue
            both = 1 if positive[event] and windows_positive[event, k] else 0
            _uncount_pair(groups, start, level, low_bits, heap, item, other, weights[1, both, k])
            _uncount_pair(groups, start, level, low_bits, heap, other, item, weights[0, both, k])
            changed[other] = True
        if not positive[event] or popularity[item] == 0:
            continue
        popularity[item] -= 1
        passed = np.float32(times[item, LAST] - event_times[event])
        for h in range(rates.shape[1]):
            rate = rates[item, h] - np.exp2(-abs(passed) * np.float32(1 / HALF_LIVES_MS[h]))
            rates[item, h] = max(rate, np.float32(0)) if popularity[item] else np.float32(0)
    for row in range(len(changed)):
        if changed[row] and popularity[row] == 0 and _is_empty(groups, start, level, row):
            times[row] = NO_TIME
