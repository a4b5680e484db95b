"""Arrays with room for what may come: addresses are reserved, memory is taken page by page, as it is written.

So an array that grows is not copied, nobody waits for that, and who holds a view of it goes on to see it all.
"""

import math
import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NORESERVE = 0x4000  # of Linux on x86 and ARM; `mmap` names it from 3.13 on


def room(rows: int, dtype: DTypeLike, *, width: tuple[int, ...] = (), likely: int = 0) -> NDArray[Any]:
    """Return zeros with at least `rows` rows, and `likely` where the system reserves as many addresses.

    Parameters
    ----------
    width : the other dimensions
    """
    kind = np.dtype(dtype)
    many = max(rows, likely)
    if sys.platform == "linux":
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        try:
            pages = mmap.mmap(-1, max(1, many * math.prod(width) * kind.itemsize), flags=flags)
        except (OSError, ValueError):  # a limit on addresses, or a system that counts all of them as used
            pass
        else:
            return np.frombuffer(pages, kind, count=many * math.prod(width)).reshape(many, *width)
    return np.zeros((rows + rows // 2, *width), kind)


def with_room(old: NDArray[Any], rows: int, *, likely: int = 0) -> NDArray[Any]:
    """Return the array itself if it has so many rows, else a copy that has them and as many again."""
    if rows <= len(old):
        return old
    new = room(rows, old.dtype, width=old.shape[1:], likely=max(likely, 2 * len(old)))
    new[: len(old)] = old
    return new


class Growing:
    """An array that grows where it is: a view of it stays good, and what is not used yet takes no memory.

    Parameters
    ----------
    fill : what new rows are
    """

    def __init__(self, dtype: DTypeLike, *, width: tuple[int, ...] = (), fill: int = 0, likely: int) -> None:
        self._room = room(0, dtype, width=width, likely=likely)
        self._fill = fill
        self._n = 0

    def reach(self, n: int) -> NDArray[Any]:
        """Return the first n rows, made where there are fewer: a view."""
        self._room = with_room(self._room, n)
        if self._fill and n > self._n:
            self._room[self._n : n] = self._fill
        self._n = max(self._n, n)
        return self._room[:n]
