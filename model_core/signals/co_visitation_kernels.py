"""Compiled loops that change co-visitation counts."""

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner, prefetch
from model_core.signals.horizons import HALF_LIVES_MS
from model_core.signals.neighbour_groups import (
    DIRTY,
    FIRST,
    GROUP_BYTES,
    LAST,
    NO_TIME,
    Bytes,
    Cells,
    Flags,
    Floats,
    Groups,
    Rows,
    Tables,
    Windows,
    count_pair,
    group_of,
    has_room,
    release,
)

njit = numba.njit(cache=True, nogil=True)


@inner
def _touch(applied: Cells, dirty: Flags, dirty_rows: Rows, heap: Cells, row: int, offset: int) -> None:
    applied[row] = offset
    if not dirty[row]:
        dirty[row] = True
        dirty_rows[heap[DIRTY]] = row
        heap[DIRTY] += 1


@inner
def _note(rates: Floats, times: Cells, row: int, time: int, amount: float) -> None:
    """Take an event into the rates of a row, in the order of the log; a late one is decayed itself."""
    last = times[row, LAST]
    if last == NO_TIME:
        times[row, FIRST] = last = time
    passed = np.float32(time - last)
    for h in range(rates.shape[1]):
        shrink = np.exp2(-abs(passed) * np.float32(1 / HALF_LIVES_MS[h]))
        if passed >= 0:
            rates[row, h] = rates[row, h] * shrink + np.float32(amount)
        else:
            rates[row, h] += shrink * np.float32(amount)
    times[row, FIRST] = min(times[row, FIRST], time)
    times[row, LAST] = max(last, time)


@inner
def _ask_for_groups(
    groups: Groups, start: Rows, level: Bytes, low_bits: Bytes, item: int, window: Rows
) -> None:
    """Let memory bring the groups of an event's pairs, both ways, while the event before it is folded."""
    for k in range(len(window)):
        other = window[k]
        if other < 0:
            break
        theirs = np.int64(max(group_of(start, level, low_bits, other, item), 0)) * GROUP_BYTES
        ours = np.int64(max(group_of(start, level, low_bits, item, other), 0)) * GROUP_BYTES
        for half in (0, GROUP_BYTES // 2):
            prefetch(groups, theirs + half)
            prefetch(groups, ours + half)


@inner
def _ask_for_item(popularity: Cells, rates: Floats, times: Cells, item: int) -> None:
    """Let memory bring what else an event changes of its item."""
    row = np.int64(item)
    prefetch(popularity, row * 8)
    prefetch(rates, row * rates.shape[1] * 4)
    prefetch(times, row * times.shape[1] * 8)


@njit
def observe(
    t: Tables,
    items: Rows,
    positive: Flags,
    windows: Windows,
    windows_positive: Flags,
    offsets: Cells,
    event_times: Cells,
    weights: NDArray[np.int32],
    begin: int,
) -> int:
    """Fold events from `begin` on; return where it stopped, short of the end when groups run out.

    weights : (2, 2, W) int32, of `co_visitation.pair_weights`
    """
    groups, start, level, low_bits, applied, popularity, rates, times, dirty, dirty_rows, heap = t
    behind = np.empty(windows.shape[1], np.bool_)
    for event in range(begin, len(items)):
        if not has_room(groups, heap, windows.shape[1]):
            return event
        item, offset = items[event], offsets[event]
        if event + 1 < len(items):
            _ask_for_item(popularity, rates, times, items[event + 1])
            _ask_for_groups(groups, start, level, low_bits, items[event + 1], windows[event + 1])
        size = 0
        for k in range(windows.shape[1]):
            other = windows[event, k]
            if other < 0:
                break
            size += 1
            behind[k] = applied[other] < offset
        fresh = applied[item] < offset
        for k in range(size):
            other = windows[event, k]
            if other == item:
                continue
            both = 1 if positive[event] and windows_positive[event, k] else 0
            along, back = weights[0, both, k], weights[1, both, k]
            if fresh and back > 0:
                count_pair(groups, start, level, low_bits, heap, item, other, back, offset)
            if behind[k]:
                count_pair(groups, start, level, low_bits, heap, other, item, along, offset)
                _touch(applied, dirty, dirty_rows, heap, other, offset)
        if fresh:
            popularity[item] += positive[event]
            _note(rates, times, item, event_times[event], 1.0 if positive[event] else 0.0)
            _touch(applied, dirty, dirty_rows, heap, item, offset)
    return len(items)


@njit
def mark(t: Tables, rows: Rows) -> None:
    """Make rows dirty."""
    dirty, dirty_rows, heap = t.dirty, t.dirty_rows, t.heap
    for row in rows:
        if not dirty[row]:
            dirty[row] = True
            dirty_rows[heap[DIRTY]] = row
            heap[DIRTY] += 1


@njit
def drop(t: Tables, rows: Rows) -> None:
    """Make rows as they were before their first event; none of them is dirty."""
    groups, start, level, _, applied, popularity, rates, times, dirty, dirty_rows, heap = t
    for row in rows:
        if start[row] >= 0:
            release(groups, heap, start[row], level[row])
        start[row] = -1
        level[row] = 0
        applied[row] = -1
        popularity[row] = 0
        rates[row] = 0
        times[row] = NO_TIME
        dirty[row] = False
    kept = 0
    for k in range(heap[DIRTY]):
        if dirty[dirty_rows[k]]:
            dirty_rows[kept] = dirty_rows[k]
            kept += 1
    heap[DIRTY] = kept


@njit
def restore(
    t: Tables,
    rows: Rows,
    applied: Cells,
    popularity: Cells,
    rates: Floats,
    times: Cells,
    bounds: Cells,
    others: Rows,
    counts: Rows,
    begin: int,
) -> int:
    """Put rows back from `begin` on; return where it stopped, as `observe` does."""
    groups, start, level, low_bits, all_applied, all_popularity, all_rates, all_times, _, _, heap = t
    for i in range(begin, len(rows)):
        if not has_room(groups, heap, 1):
            return i
        row = rows[i]
        if applied[i] < all_applied[row]:
            continue
        all_applied[row] = applied[i]
        all_popularity[row] = popularity[i]
        all_rates[row] = rates[i]
        all_times[row] = times[i]
        if start[row] >= 0:
            release(groups, heap, start[row], level[row])
            start[row] = -1
            level[row] = 0
        for k in range(bounds[i], bounds[i + 1]):
            count_pair(groups, start, level, low_bits, heap, row, others[k], counts[k], applied[i])
    return len(rows)
