"""Arrays in .npz files, read as what may be damaged, or be something else."""

import struct
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

_DAMAGED = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    RuntimeError,
    BadZipFile,
    zlib.error,
    struct.error,
)


def read_arrays(path: Path, what: str, *names: str) -> tuple[NDArray[Any], ...]:
    """Return some arrays of a file; nothing is unpickled.

    Parameters
    ----------
    what : what the file holds, for the error

    Raises
    ------
    ValueError
        If it cannot be read, or lacks one of them.
    """
    try:
        with path.open("rb") as file:
            if not is_zipfile(file):  # of which NumPy says how to unpickle it
                raise ValueError("it is no archive of arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return tuple(arrays[name] for name in names)
    except _DAMAGED as error:
        raise ValueError(f"{str(path)!r} must hold {what}: {error}") from None


def are_finite(*arrays: NDArray[Any], ndim: int) -> bool:
    """Return whether these are float32 of so many dimensions, and numbers everywhere."""
    return all(one.dtype == np.float32 and one.ndim == ndim and np.isfinite(one).all() for one in arrays)
