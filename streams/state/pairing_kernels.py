"""What an event of a user's ring, see `rings`, is paired with: the events before it, as far as they count."""

from model_core.kernels import inner
from model_core.robust.influence import HOUR_MS, Bound
from streams.state.rings import (
    ACTION,
    ACTION_BITS,
    CHUNK,
    HEAD,
    OWNER,
    PREV,
    SIGN,
    SINCE,
    STORED,
    Deltas,
    Flags,
    Ints,
    N,
    Rows,
    at,
    sign_bit,
)


@inner
def look_back(
    items: Rows,
    stamps: Ints,
    cells: Rows,
    links: Rows,
    positive: Flags,
    chunk: int,
    position: int,
    size: int,
    window: Rows,
    window_positive: Flags,
) -> None:
    """Write the items of the `size` events before (chunk, position), most recent first, then -1."""
    for k in range(size):
        position -= 1
        if position < 0:
            chunk = links[chunk, PREV]
            position = CHUNK - 1
        event = at(cells, chunk, position)
        window[k] = items[event]
        window_positive[k] = positive[stamps[event] & ACTION]
    if size < len(window):
        window[size] = -1


@inner
def _of_hour(stamps: Ints, cells: Rows, chunk: int, first: int, position: int, hour: int) -> int:
    """Count a chunk's events in [first, position) of an hour or later, from the last one back."""
    size = 0
    for k in range(position - 1, first - 1, -1):
        if (stamps[at(cells, chunk, k)] >> ACTION_BITS) // HOUR_MS < hour:
            break
        size += 1
    return size


@inner
def is_counted(
    items: Rows,
    stamps: Ints,
    cells: Rows,
    links: Rows,
    positive: Flags,
    chunk: int,
    position: int,
    before: int,
    item: int,
    stamp: int,
    bound: Bound,
) -> bool:
    """Whether the event at (chunk, position), `before` kept before it, counts: see `influence.counted`."""
    hour, is_positive = (stamp >> ACTION_BITS) // HOUR_MS, positive[stamp & ACTION]
    bit = sign_bit(item)
    left, in_hour = min(before, bound.depth), 0
    while left > 0:
        if position == 0:
            chunk, position = links[chunk, PREV], CHUNK
        first = position - min(position, left)
        if links[chunk, SIGN + (bit >> 5)] >> (bit & 31) & 1:
            for k in range(first, position):
                where = at(cells, chunk, k)
                if items[where] == item and positive[stamps[where] & ACTION] >= is_positive:
                    return False
        if in_hour >= 0:
            size = position - first
            if links[chunk, SINCE] < hour:
                size = _of_hour(stamps, cells, chunk, first, position, hour)
            in_hour += size
            if in_hour >= bound.per_hour:
                return False
            if size < position - first:
                in_hour = -1  # from here back nothing is of the hour
        left -= position - first
        position = 0
    return True


@inner
def is_held(held: Ints, user: int, offset: int) -> bool:
    """Whether one of the user's spans has the offset; held : (m, 3) user, begin, end, in the users' order."""
    low, high = 0, len(held)
    while low < high:
        middle = (low + high) >> 1
        if held[middle, 0] < user:
            low = middle + 1
        else:
            high = middle
    while low < len(held) and held[low, 0] == user:
        if held[low, 1] <= offset < held[low, 2]:
            return True
        low += 1
    return False


@inner
def leave_out(
    items: Rows,
    stamps: Ints,
    cells: Rows,
    links: Rows,
    bases: Ints,
    offsets: Deltas,
    positive: Flags,
    chunk: int,
    position: int,
    before: int,
    item: int,
    bound: Bound,
    held: Ints,
    window: Rows,
) -> None:
    """Put `item`, with which an event of it is not paired, for events in its window that do not count."""
    for k in range(min(before, len(window))):
        position -= 1
        if position < 0:
            chunk = links[chunk, PREV]
            position = CHUNK - 1
        where = at(cells, chunk, position)
        if is_held(held, links[chunk, OWNER], bases[chunk] + offsets[where]) or not is_counted(
            items, stamps, cells, links, positive, chunk, position, before - 1 - k, items[where],
            stamps[where], bound,
        ):  # fmt: skip
            window[k] = item


@inner
def pair_again(
    users: Ints,
    items: Rows,
    stamps: Ints,
    cells: Rows,
    links: Rows,
    bases: Ints,
    offsets: Deltas,
    positive: Flags,
    user: int,
    offset: int,
    item: int,
    stamp: int,
    bound: Bound,
    held: Ints,
    window: Rows,
    window_positive: Flags,
) -> bool:
    """Whether a replayed event is stored and counts; then its window is written."""
    chunk = users[user, HEAD]
    position = (users[user, N] - 1) % CHUNK
    left = users[user, STORED]
    while left > 0 and bases[chunk] + offsets[at(cells, chunk, position)] > offset:
        left -= 1
        position -= 1
        if position < 0:
            chunk = links[chunk, PREV]
            position = CHUNK - 1
    before = left - 1
    if left == 0 or bases[chunk] + offsets[at(cells, chunk, position)] != offset:
        return False
    if is_held(held, user, offset):
        return False
    if bound.depth:
        # What it was decided by is gone: item rows were confirmed before the row that says so.
        if left <= len(window) + bound.depth and users[user, STORED] < users[user, N]:
            return False
        if not is_counted(items, stamps, cells, links, positive, chunk, position, before, item, stamp, bound):
            return False
    size = min(before, len(window))
    look_back(items, stamps, cells, links, positive, chunk, position, size, window, window_positive)
    if bound.depth or len(held):
        leave_out(
            items, stamps, cells, links, bases, offsets, positive, chunk, position, before, item, bound, held,
            window,
        )  # fmt: skip
    return True
