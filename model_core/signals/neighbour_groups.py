"""The arrays of co-visitation counts, and the counters of an item's neighbours in groups of 16.

`co_visitation` says why they lie so. The other kernels go through the functions here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inlined, inner
from model_core.vectors import LANES, lane_of, least_lane

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
def _take_block(groups: Groups, heap: Cells, level: int) -> int:
    """First of 2**level groups, whatever is in them."""
    first = heap[FREE + level]
    if first >= 0:
        heap[FREE + level] = groups[first, 0, 0]
    else:
        first = heap[USED]
        heap[USED] += 1 << level
    return int(first)


@inner
def _empty(groups: Groups, group: int, begin: int) -> None:
    """Let the slots of a group be free from `begin` on."""
    for slot in range(begin, GROUP):
        groups[group, 0, slot] = -1
        groups[group, 1, slot] = 0


@inner
def release(groups: Groups, heap: Cells, first: int, level: int) -> None:
    """Free the 2**level groups from `first` on."""
    groups[first, 0, 0] = heap[FREE + level]
    heap[FREE + level] = first


@inner
def _double(groups: Groups, start: Rows, level: Bytes, low_bits: Bytes, heap: Cells, row: int) -> None:
    """Give a row twice as many groups: what was in one is in two, by one more bit."""
    old, old_level = start[row], level[row]
    size = 1 << old_level
    new = _take_block(groups, heap, old_level + 1)
    for k in range(size):
        below = above = 0
        for slot in range(GROUP):
            other = groups[old + k, 0, slot]
            if other < 0:
                continue
            if low_bits[other] & size:
                group, free = new + size + k, above
                above += 1
            else:
                group, free = new + k, below
                below += 1
            groups[group, 0, free] = other
            groups[group, 1, free] = groups[old + k, 1, slot]
        _empty(groups, new + k, below)
        _empty(groups, new + size + k, above)
    release(groups, heap, old, old_level)
    start[row] = new
    level[row] = old_level + 1


@inlined
def group_of(start: Rows, level: Bytes, low_bits: Bytes, row: int, other: int) -> int:
    """Group of a row that `other` belongs to; negative if the row has none yet."""
    return start[row] + (low_bits[other] & ((1 << level[row]) - 1))  # type: ignore[no-any-return]


@inner
def _takes_over(event: int, row_bits: int, other_bits: int, times: int, count: int) -> bool:
    """Draw with probability times / count, by a hash of portable values (the splitmix64 finaliser)."""
    x = np.uint64(event) * np.uint64(65536) + np.uint64(row_bits) * np.uint64(256) + np.uint64(other_bits)
    x = (x + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return float(x >> np.uint64(11)) * float(count) < times * float(1 << 53)


@inlined
def count_pair(
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
        start[row] = _take_block(groups, heap, 0)
        _empty(groups, start[row], 0)
    group = group_of(start, level, low_bits, row, other)
    slot = lane_of(groups, group * (2 * GROUP), other)
    if slot < LANES:
        groups[group, 1, slot] = min(groups[group, 1, slot] + times, MAX_COUNT)
    else:
        _count_new(groups, start, level, low_bits, heap, row, other, times, event)


@inner
def _count_new(
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
    """Do for one that has no counter what `count_pair` does."""
    max_level = len(heap) - FREE - 1
    while True:
        group = group_of(start, level, low_bits, row, other)
        slot = least_lane(groups, group * (2 * GROUP) + GROUP)
        if groups[group, 0, slot] < 0 or level[row] == max_level:
            break
        _double(groups, start, level, low_bits, heap, row)
    count = min(groups[group, 1, slot] + times, MAX_COUNT)
    groups[group, 1, slot] = count
    if _takes_over(event, low_bits[row], low_bits[other], times, count):
        groups[group, 0, slot] = other


@inner
def has_room(groups: Groups, heap: Cells, size: int) -> bool:
    """Whether an event with a window of `size` items cannot run out of groups."""
    max_level = len(heap) - FREE - 1
    return bool(heap[USED] + ((size + 4) << max_level) <= groups.shape[0])
