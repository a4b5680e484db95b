"""What compiled readers of JSON share: steps over bytes, and texts that they look for."""

import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inlined, inner
from model_core.vectors import LANES, agreeing, plain

Data = NDArray[np.uint8]
Table = NDArray[np.int64]


def texts(names: tuple[bytes, ...]) -> tuple[Data, Table]:
    """Some short texts for the kernel: their bytes one after another, and where each begins and ends.

    Behind the last one are `LANES` more bytes, so that a text can be compared at once.
    """
    bounds = np.zeros(len(names) + 1, np.int64)
    np.cumsum([len(name) for name in names], out=bounds[1:])
    return np.frombuffer(b"".join((*names, bytes(LANES))), np.uint8), bounds


@inlined
def same_bytes(one: Data, at: int, other: Data, there: int, size: int) -> bool:
    """Whether `size` bytes are the same."""
    if size <= LANES and at + LANES <= len(one) and there + LANES <= len(other):
        return agreeing(one, at, other, there) >= size  # type: ignore[no-any-return]
    same = True
    for k in range(size):
        same &= one[at + k] == other[there + k]
    return same


@inlined
def end_of_text(data: Data, at: int, end: int) -> int:
    """Position of the quote that ends a plain text (ASCII, no escapes), -1 where it is not plain."""
    while at < end and at + LANES <= len(data):
        size = plain(data, at)
        at += size
        if size < LANES:
            return at if at < end and data[at] == 34 else -1
    while at < end:
        byte = data[at]
        if byte == 34:
            return at
        if byte == 92 or byte < 32 or byte > 126:
            return -1
        at += 1
    return -1


@inner
def index_of_text(data: Data, at: int, size: int, texts: Data, bounds: Table) -> int:
    """Number of the text that data[at:at + size] is, or how many there are if it is none."""
    for k in range(len(bounds) - 1):
        begin = bounds[k]
        if bounds[k + 1] - begin == size and same_bytes(data, at, texts, begin, size):
            return k
    return len(bounds) - 1


@inner
def skip_space(data: Data, at: int, end: int) -> int:
    """Position of the first byte from `at` on that is no white space, `end` without one."""
    while at < end and (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
        at += 1
    return at


@inner
def skip_digits(data: Data, at: int, end: int) -> int:
    """Position of the first byte from `at` on that is no digit, `end` without one."""
    while at < end and 48 <= data[at] <= 57:
        at += 1
    return at


@inner
def is_word(data: Data, at: int, end: int, a: int, b: int, c: int, d: int) -> bool:
    """Whether data[at:end] begins with the bytes a, b, c and d."""
    return at + 4 <= end and data[at] == a and data[at + 1] == b and data[at + 2] == c and data[at + 3] == d
