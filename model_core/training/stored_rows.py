"""Rows of numbers that lie in a file and not in memory, read by number."""

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StoredRows:
    """n rows of one shape in a file without a name, which ends with the object.

    What is read is copied: no page of the file counts as this process's memory.

    Parameters
    ----------
    shape : of a row
    folder : on whose disk the file lies; that of temporary files when None

    Raises
    ------
    OSError
        If there is no room.
    """

    def __init__(
        self, n: int, shape: tuple[int, ...], dtype: type[np.generic], *, folder: Path | None = None
    ) -> None:
        self.shape = (n, *shape)
        self.dtype = np.dtype(dtype)
        self._size = self.dtype.itemsize * int(np.prod(shape))
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._file.truncate(n * self._size)

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, rows: slice, values: NDArray[Any]) -> None:
        begin, end, step = rows.indices(len(self))
        given = np.ascontiguousarray(values, self.dtype)
        if step != 1 or given.shape != (end - begin, *self.shape[1:]):
            raise ValueError(f"values must be those of rows one after another, got shape {given.shape}")
        left, place = given.view(np.uint8).ravel().data, begin * self._size
        while left:
            written = os.pwrite(self._file.fileno(), left, place)
            left, place = left[written:], place + written

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        read, handle = np.empty((len(rows), self._size), np.uint8), self._file.fileno()
        for k, row in enumerate(rows.tolist()):
            os.preadv(handle, [read[k].data], row * self._size)
        return read.view(self.dtype).reshape(len(rows), *self.shape[1:])
