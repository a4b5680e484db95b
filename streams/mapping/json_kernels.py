"""Walks JSON by the paths of a mapping, and notes where the values lie that they lead to."""

from typing import Any

import numpy as np

from model_core.kernels import inner
from streams.decoding.byte_steps import Data, Table, is_word, skip_digits, skip_space

# Kinds of values. ESCAPED is a text with escapes, OTHER a number with a sign.
ABSENT, NONE, TEXT, INTEGER, DECIMAL, BOOLEAN, OBJECT, ARRAY, ESCAPED, OTHER = range(-1, 9)
KIND, BEGIN, SIZE, NUMBER = range(4)  # columns of slots
MAX_DEPTH = 32
MAX_GUESSES = 64
_MAX_DIGITS = 18
# By byte: whether it stands for itself in a text; whether it may follow a backslash.
_PLAIN = np.array([32 <= byte < 128 and byte not in (34, 92) for byte in range(256)])
_ESCAPES = np.array([chr(byte) in '"\\/bfnrt' for byte in range(256)])


@inner
def _sequence(data: Data, at: int, end: int) -> int:
    """Bytes of the UTF-8 character at `at`, 0 if it is none."""
    first = data[at]
    low, high = 128, 191
    if 194 <= first <= 223:
        size = 2
    elif 224 <= first <= 239:
        size = 3
        if first == 224:
            low = 160
        elif first == 237:
            high = 159
    elif 240 <= first <= 244:
        size = 4
        if first == 240:
            low = 144
        elif first == 244:
            high = 143
    else:
        return 0
    if at + size > end or not low <= data[at + 1] <= high:
        return 0
    for k in range(at + 2, at + size):
        if not 128 <= data[k] <= 191:
            return 0
    return size


@inner
def _escape(data: Data, at: int, end: int) -> int:
    """Bytes of the escape at `at`, 0 if it is none, or half of a character."""
    if at + 1 >= end:
        return 0
    if _ESCAPES[data[at + 1]]:
        return 2
    if data[at + 1] != 117 or at + 6 > end or (data[at + 2] | 32 == 100 and data[at + 3] > 55):
        return 0
    for k in range(at + 2, at + 6):
        letter = data[k] | 32
        if not (48 <= data[k] <= 57 or 97 <= letter <= 102):
            return 0
    return 6


@inner
def _text_end(data: Data, at: Any, end: int) -> Any:
    """Position of the quote that ends a text; minus that of one that has escapes; 0 where it is none."""
    sign = 1
    while at < end:
        place, stop = (
            np.uint64(at),
            np.uint64(end),
        )  # without a sign: NumPy's negative places are not looked for
        while place < stop and _PLAIN[data[place]]:
            place += np.uint64(1)
        at = np.int64(place)
        if at == end:
            return 0
        byte = data[place]
        if byte == 34:
            return sign * at
        elif byte == 92:
            size = _escape(data, at, end)
            if size == 0:
                return 0
            sign = -1
            at += size
        else:
            size = _sequence(data, at, end)
            if size == 0:
                return 0
            at += size
    return 0


@inner
def is_utf8(data: Data, at: int, end: int) -> bool:
    """Whether the bytes from `at` to `end` are UTF-8."""
    while at < end:
        size = 1 if data[at] < 128 else _sequence(data, at, end)
        if size == 0:
            return False
        at += size
    return True


@inner
def _number(data: Data, at: int, end: int, slots: Table, slot: int) -> int:
    """Read a number without exponent into a slot; return where it ends, -1 where it is none."""
    begin = at
    negative = data[at] == 45
    if negative:
        at += 1
    number, stop = np.int64(0), at
    while stop < end and 48 <= data[stop] <= 57:
        number = number * 10 + np.int64(data[stop] - 48)
        stop += 1
    if stop == at or stop - at > _MAX_DIGITS or (data[at] == 48 and stop - at > 1):
        return -1
    kind = INTEGER
    if stop < end and data[stop] == 46:
        whole = stop
        stop = skip_digits(data, whole + 1, end)
        if not 1 < stop - whole <= _MAX_DIGITS:
            return -1
        kind = DECIMAL
    if stop < end and (data[stop] == 101 or data[stop] == 69):
        return -1
    slots[slot, KIND], slots[slot, NUMBER] = OTHER if negative else kind, number
    slots[slot, BEGIN], slots[slot, SIZE] = begin, stop - begin
    return stop


@inner
def _scalar(data: Data, at: int, end: int, slots: Table, slot: int) -> Any:
    """Read a text, a number, true, false or null into a slot; return where it ends, -1 where it is none."""
    byte = data[at]
    if byte == 34:
        stop = _text_end(data, at + 1, end)
        if stop == 0:
            return -1
        kind = TEXT
        if stop < 0:
            kind, stop = ESCAPED, -stop
        slots[slot, KIND], slots[slot, BEGIN], slots[slot, SIZE] = kind, at + 1, stop - at - 1
        return stop + 1
    if byte == 45 or 48 <= byte <= 57:
        return _number(data, at, end, slots, slot)
    kind, size = BOOLEAN, 4
    if is_word(data, at, end, 110, 117, 108, 108):  # null
        kind = NONE
    elif byte == 102 and is_word(data, at + 1, end, 97, 108, 115, 101):  # false
        size = 5
    elif not is_word(data, at, end, 116, 114, 117, 101):  # true
        return -1
    slots[slot, KIND], slots[slot, BEGIN], slots[slot, SIZE] = kind, at, size
    return at + size


@inner
def _child(data: Data, at: int, size: int, node: int, nodes: Table, children: Table, names: Data) -> int:
    """Number of the child of a node that has this name, -1 if none has."""
    for k in range(nodes[node], nodes[node + 1]):
        begin = children[k, 0]
        if children[k, 1] == size:
            same = True
            for i in range(size):
                same &= data[at + i] == names[begin + i]
            if same:
                return k
    return -1


@inner
def walk(
    data: Data, at: int, end: int, nodes: Table, children: Table, names: Data, slots: Table, stack: Table,
    guesses: Table,
) -> bool:  # fmt: skip
    """Read one JSON object: what lies at the leaves of the tree of paths goes to slots.

    Parameters
    ----------
    nodes : (nodes + 1,) where the children of each begin
    children : (children, 4) begin and size of the name, number of its node or -1, of its slot or -1
    slots : (slots + 1, 4) out; the last takes what nobody wants
    stack : (deepest, 2) scratch: the node of each open object, -1 of others; whether it is an array
    guesses : (keys, 4) of the object before this one, by the order of the keys: where a key begins, the size
        of it and its colon, the number of its child, and of its object's node. Most objects are alike.
    """
    nobody = len(slots) - 1
    at = skip_space(data, at, end)
    if at >= end or data[at] != 123:
        return False
    at += 1
    depth, seen = 0, np.uint64(0)
    stack[0, 0], stack[0, 1] = 0, 0
    fresh = True  # nothing has been read of the innermost object or array
    key = 0
    while True:
        if at < end and data[at] <= 32:
            at = skip_space(data, at, end)
        if at >= end:
            return False
        array = stack[depth, 1] == 1
        if fresh and data[at] == (93 if array else 125):
            at += 1
        else:
            child = -1
            if not array:
                if data[at] != 34:
                    return False
                node, size = int(stack[depth, 0]), 0
                if key < len(guesses) and guesses[key, 3] == node:
                    begin, size = int(guesses[key, 0]), int(guesses[key, 1])
                    if at + size > end:
                        size = 0
                    here, there = np.uint64(at), np.uint64(begin)
                    for i in range(np.uint64(size)):
                        if data[here + i] != data[there + i]:
                            size = 0
                            break
                if size:
                    child = guesses[key, 2]
                    at += size
                else:
                    begin, stop = at, _text_end(data, at + 1, end)
                    if stop <= 0:
                        return False
                    if node >= 0:
                        child = _child(data, at + 1, stop - at - 1, node, nodes, children, names)
                    at = skip_space(data, stop + 1, end)
                    if at >= end or data[at] != 58:
                        return False
                    at += 1
                    if key < len(guesses):
                        guesses[key, 0], guesses[key, 1] = begin, at - begin
                        guesses[key, 2], guesses[key, 3] = child, node
                key += 1
                if at < end and data[at] <= 32:
                    at = skip_space(data, at, end)
                if at >= end:
                    return False
            node, slot = -1, nobody
            if child >= 0:
                bit = np.uint64(1) << np.uint64(child)
                if seen & bit:
                    return False  # twice: the last one counts
                seen |= bit
                node = int(children[child, 2])
                if children[child, 3] >= 0:
                    slot = int(children[child, 3])
            byte = data[at]
            if byte == 123 or byte == 91:
                slots[slot, KIND] = OBJECT if byte == 123 else ARRAY
                depth += 1
                if depth >= MAX_DEPTH:
                    return False
                stack[depth, 0] = node if byte == 123 else -1
                stack[depth, 1] = byte == 91
                fresh = True
                at += 1
                continue
            at = _scalar(data, at, end, slots, slot)
            if at < 0:
                return False
            fresh = False
            if at < end and data[at] <= 32:
                at = skip_space(data, at, end)
            if at >= end:
                return False
            if data[at] == 44:
                at += 1
                continue
            if data[at] != (93 if stack[depth, 1] == 1 else 125):
                return False
            at += 1
        # An object or array has ended; so may have those around it.
        while True:
            depth -= 1
            at = skip_space(data, at, end)
            if depth < 0:
                return at == end
            if at >= end:
                return False
            if data[at] == 44:
                at += 1
                break
            if data[at] != (93 if stack[depth, 1] == 1 else 125):
                return False
            at += 1
        fresh = False


@inner
def opens_with(data: Data, at: int, end: int, opening: Data) -> bool:
    """Whether a value begins with a text, if there is one, and ends with the brace that this text opens."""
    size = np.uint64(len(opening))
    if size == 0 or end - at <= len(opening) or data[end - 1] != 125:
        return False
    same, begin = True, np.uint64(at)
    for k in range(size):
        same &= data[begin + k] == opening[k]
    return same
