"""Compiled loops of co-visitation counting, and the arrays they work on."""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner, prefetch
from model_core.signals import sparse
from model_core.signals.horizons import HALF_LIVES_MS

FIRST, LAST = 0, 1  # columns of `Tables.times`
NO_TIME = -(2**62)

GROUP = 16  # counters in a group: 16 int32 fill a cache line
GROUP_BYTES = 2 * 4 * GROUP

UNIT = 1024  # counts are integers of 1 / UNIT: sums come out the same in any order
MAX_COUNT = 2**30
USED, DIRTY, FREE = 0, 1, 2  # cells of `heap`; level l's free list is FREE + l

Rows = NDArray[np.int32]
Cells = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Groups = NDArray[np.int32]
Windows = NDArray[np.int32]
Pairs = NDArray[np.int64]
Floats = NDArray[np.float32]
Sums = NDArray[np.float64]

njit = numba.njit(cache=True, nogil=True)


class Tables(NamedTuple):
    """The arrays of a `CoVisitation`; they are replaced when it grows.

    Kernels take this tuple, and their inner functions the arrays that they need: a function that takes
    arrays out of a tuple counts references to each of them, atomically, at every call.
    """

    groups: NDArray[np.int32]  # (capacity, 2, 16) neighbour rows (-1 = free) and their counts
    start: NDArray[np.int32]  # (n,) first group of a row, -1 = none
    level: NDArray[np.uint8]  # (n,) the row has 2**level groups
    low_bits: NDArray[np.uint8]  # (n,) of the item key
    applied: NDArray[np.int64]  # (n,) offset up to which the row has been applied
    popularity: NDArray[np.int64]  # (n,) positive events
    rates: NDArray[np.float32]  # (n, H) positive events, decayed to times[LAST]; see `horizons`
    times: NDArray[np.int64]  # (n, 2) ms, of the first and the last event; NO_TIME before the first
    dirty: NDArray[np.bool_]  # (n,)
    dirty_rows: NDArray[np.int32]  # (n,) the first heap[DIRTY] are dirty
    heap: NDArray[np.int64]  # cells named above, then one list of free blocks for every level


@inner
def _allocate(groups: Groups, heap: Cells, level: int) -> int:
    first = heap[FREE + level]
    if first >= 0:
        heap[FREE + level] = groups[first, 0, 0]
    else:
        first = heap[USED]
        heap[USED] += 1 << level
    for group in range(first, first + (1 << level)):
        for slot in range(GROUP):
            groups[group, 0, slot] = -1
            groups[group, 1, slot] = 0
    return int(first)


@inner
def _release(groups: Groups, heap: Cells, first: int, level: int) -> None:
    groups[first, 0, 0] = heap[FREE + level]
    heap[FREE + level] = first


@inner
def _double(groups: Groups, start: Rows, level: Bytes, low_bits: Bytes, heap: Cells, row: int) -> None:
    old, old_level = start[row], level[row]
    new = _allocate(groups, heap, old_level + 1)
    mask = (2 << old_level) - 1
    for group in range(old, old + (1 << old_level)):
        for slot in range(GROUP):
            other = groups[group, 0, slot]
            if other >= 0:
                target = new + (low_bits[other] & mask)
                free = 0
                while groups[target, 0, free] >= 0:
                    free += 1
                groups[target, 0, free] = other
                groups[target, 1, free] = groups[group, 1, slot]
    _release(groups, heap, old, old_level)
    start[row] = new
    level[row] = old_level + 1


@inner
def _group(start: Rows, level: Bytes, low_bits: Bytes, row: int, other: int) -> int:
    """Group of a row that `other` belongs to; negative if the row has none yet."""
    return start[row] + (low_bits[other] & ((1 << level[row]) - 1))  # type: ignore[no-any-return]


@inner
def _find(groups: Groups, group: int, other: int) -> tuple[np.int32, np.int32]:
    """Slot of `other` in a group, or -1 and then the slot of its first smallest counter.

    Loops without exits over a length that is not a constant: so they become vector instructions.
    Unsigned indices spare the test for negative ones.
    """
    at = np.uint64(group)
    wanted = np.int32(other)
    found = np.int32(-1)
    for slot in range(groups.shape[2]):
        here = groups[at, np.uint64(0), np.uint64(slot)] == wanted
        found = max(found, np.int32(slot) if here else np.int32(-1))
    if found >= 0:
        return found, found
    least = np.int32(2**31 - 1)
    for slot in range(groups.shape[2]):
        least = min(least, groups[at, np.uint64(1), np.uint64(slot)])
    first = np.int32(GROUP)
    for slot in range(groups.shape[2]):
        here = groups[at, np.uint64(1), np.uint64(slot)] == least
        first = min(first, np.int32(slot) if here else np.int32(GROUP))
    return found, first


@inner
def _takes_over(event: int, row_bits: int, other_bits: int, times: int, count: int) -> bool:
    """Draw with probability times / count, by a hash of portable values (the splitmix64 finaliser)."""
    x = np.uint64(event) * np.uint64(65536) + np.uint64(row_bits) * np.uint64(256) + np.uint64(other_bits)
    x = (x + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return float(x >> np.uint64(11)) * float(count) < times * float(1 << 53)


@inner
def _count(
    groups: Groups,
    start: Rows,
    level: Bytes,
    low_bits: Bytes,
    heap: Cells,
    row: int,
    other: int,
    times: int,
    event: int,
) -> None:
    """Add `times` to the counter of `other` in `row`; if it has none and none is free, to the smallest."""
    if start[row] < 0:
        start[row] = _allocate(groups, heap, 0)
    max_level = len(heap) - FREE - 1
    while True:
        group = _group(start, level, low_bits, row, other)
        found, slot = _find(groups, group, other)
        if found >= 0 or groups[group, 0, slot] < 0 or level[row] == max_level:
            break
        _double(groups, start, level, low_bits, heap, row)
    count = min(groups[group, 1, slot] + times, MAX_COUNT)
    groups[group, 1, slot] = count
    if found < 0 and _takes_over(event, low_bits[row], low_bits[other], times, count):
        groups[group, 0, slot] = other


@inner
def _touch(applied: Cells, dirty: Flags, dirty_rows: Rows, heap: Cells, row: int, offset: int) -> None:
    applied[row] = offset
    if not dirty[row]:
        dirty[row] = True
        dirty_rows[heap[DIRTY]] = row
        heap[DIRTY] += 1


@inner
def _has_room(groups: Groups, heap: Cells, size: int) -> bool:
    """Whether an event with a window of `size` items cannot run out of groups."""
    max_level = len(heap) - FREE - 1
    return bool(heap[USED] + ((size + 4) << max_level) <= groups.shape[0])


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
        theirs = np.int64(max(_group(start, level, low_bits, other, item), 0)) * GROUP_BYTES
        ours = np.int64(max(_group(start, level, low_bits, item, other), 0)) * GROUP_BYTES
        for half in (0, GROUP_BYTES // 2):
            prefetch(groups, theirs + half)
            prefetch(groups, ours + half)


@njit
def observe(
    t: Tables,
    items: Rows,
    positive: Flags,
    windows: Windows,
    windows_positive: Flags,
    offsets: Cells,
    event_times: Cells,
    weights: Windows,
    begin: int,
) -> int:
    """Fold events from `begin` on; return where it stopped, short of the end when groups run out.

    weights : (2, W) int32, in units, of a pair at each distance; row 1 when both are positive
    """
    groups, start, level, low_bits, applied, popularity, rates, times, dirty, dirty_rows, heap = t
    behind = np.empty(windows.shape[1], np.bool_)
    for event in range(begin, len(items)):
        if not _has_room(groups, heap, windows.shape[1]):
            return event
        item, offset = items[event], offsets[event]
        if event + 1 < len(items):
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
            weight = weights[1 if positive[event] and windows_positive[event, k] else 0, k]
            if fresh:
                _count(groups, start, level, low_bits, heap, item, other, weight, offset)
            if behind[k]:
                _count(groups, start, level, low_bits, heap, other, item, weight, offset)
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
            _release(groups, heap, start[row], level[row])
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
        if not _has_room(groups, heap, 1):
            return i
        row = rows[i]
        if applied[i] < all_applied[row]:
            continue
        all_applied[row] = applied[i]
        all_popularity[row] = popularity[i]
        all_rates[row] = rates[i]
        all_times[row] = times[i]
        if start[row] >= 0:
            _release(groups, heap, start[row], level[row])
            start[row] = -1
            level[row] = 0
        for k in range(bounds[i], bounds[i + 1]):
            _count(groups, start, level, low_bits, heap, row, others[k], counts[k], applied[i])
    return len(rows)


@njit
def gather(t: Tables, rows: Rows, sizes: Cells, others: Rows, counts: Rows) -> None:
    """Write out the neighbours of `rows` one after another, and how many each has."""
    groups, start, level = t.groups, t.start, t.level
    end = 0
    for i in range(len(rows)):
        row, begin = rows[i], end
        if start[row] >= 0:
            for group in range(start[row], start[row] + (1 << level[row])):
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
            group = _group(start, level, low_bits, row, items[i])
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
