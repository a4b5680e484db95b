"""What compiled readers of JSON share: steps over bytes, and texts that they look for."""

import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner

Data = NDArray[np.uint8]
Table = NDArray[np.int64]


def texts(names: tuple[bytes, ...]) -> tuple[Data, Table]:
    """Some short texts for the kernel: their bytes one after another, and where each begins and ends."""
    bounds = np.zeros(len(names) + 1, np.int64)
    np.cumsum([len(name) for name in names], out=bounds[1:])
    return np.frombuffer(b"".join(names), np.uint8), bounds


@inner
def index_of_text(data: Data, at: int, size: int, texts: Data, bounds: Table) -> int:
    """Number of the text that data[at:at + size] is, or how many there are if it is none."""
    for k in range(len(bounds) - 1):
        begin = bounds[k]
        if bounds[k + 1] - begin == size:
            same = True
            for i in range(size):
                same &= data[at + i] == texts[begin + i]
            if same:
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
