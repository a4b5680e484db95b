"""Ids of users and their rows: bytes in one slab, found by a hash table of open addressing.

A `dict` of `str` costs about 250 bytes an id and a Python object to look it up; this costs the id and about
32 bytes.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import xxhash
from numpy.typing import NDArray

Data = NDArray[np.uint8]
Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Hashes = NDArray[np.uint64]

_FREE, _FORGOTTEN = -1, -2  # slots without a row; a search goes on past the second

njit = numba.njit(cache=True, nogil=True)


@njit
def _find(
    slots: Rows, hashes: Hashes, starts: Ints, slab: Data, data: Data, at: int, size: int, wanted: np.uint64
) -> int:  # fmt: skip
    """Slot of an id; one that is free if it has none."""
    mask = np.uint64(len(slots) - 1)
    slot = wanted & mask
    while slots[slot] != _FREE:
        row = slots[slot]
        if row >= 0 and hashes[row] == wanted and starts[row + 1] - starts[row] == size:
            same = True
            for k in range(size):
                same &= slab[starts[row] + k] == data[at + k]
            if same:
                break
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)  # type: ignore[return-value]


@njit
def _find_all(
    slots: Rows, hashes: Hashes, starts: Ints, slab: Data, data: Data, spans: Ints, wanted: Hashes, n: int,
    out: Rows,
) -> int:  # fmt: skip
    """Write the rows of ids, made where there are none; return how many rows there are then."""
    for k in range(len(out)):
        at, size = spans[k, 0], spans[k, 1]
        slot = _find(slots, hashes, starts, slab, data, at, size, wanted[k])
        if slots[slot] < 0:
            slots[slot] = n
            hashes[n] = wanted[k]
            for i in range(size):
                slab[starts[n] + i] = data[at + i]
            starts[n + 1] = starts[n] + size
            n += 1
        out[k] = slots[slot]
    return n


@njit
def _enter(slots: Rows, hashes: Hashes, gone: NDArray[np.bool_], n: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for row in range(n):
        if gone[row]:
            continue
        slot = hashes[row] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row


class IdTable:
    """Id -> row, growing and never renumbered; a forgotten id leaves its row without a name."""

    def __init__(self) -> None:
        self._n = 0
        self._n_gone = 0
        self._slots = np.full(4096, _FREE, np.int32)
        self._hashes = np.zeros(1024, np.uint64)
        self._starts = np.zeros(1025, np.int64)
        self._gone = np.zeros(1024, np.bool_)
        self._slab = np.zeros(16 * 1024, np.uint8)

    def __len__(self) -> int:
        return self._n

    @property
    def n_live(self) -> int:
        """Rows that have a name."""
        return self._n - self._n_gone

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self._slots, self._hashes, self._starts, self._gone, self._slab)
        return sum(array.nbytes for array in arrays)

    def text(self, row: int) -> str:
        """The id of a row, "" of a forgotten one."""
        return "" if self._gone[row] else self.bytes_of(row).decode()

    def bytes_of(self, row: int) -> bytes:
        """UTF-8 bytes of the id of a row."""
        return self._slab[self._starts[row] : self._starts[row + 1]].tobytes()

    @property
    def slab(self) -> tuple[Data, Ints]:
        """Bytes of all ids, and where each begins and ends: views, valid until the next id is added."""
        return self._slab, self._starts[: self._n + 1]

    def row_of(self, text: str) -> int:
        """Row of an id, -1 if it has none."""
        encoded = text.encode()
        data = np.frombuffer(encoded, np.uint8)
        hashed = np.uint64(xxhash.xxh3_64_intdigest(encoded))
        slot = _find(self._slots, self._hashes, self._starts, self._slab, data, 0, len(data), hashed)
        return max(-1, int(self._slots[slot]))

    def rows_of_texts(self, texts: Sequence[str]) -> Rows:
        """Rows of ids, made where there are none: (n,) int32."""
        encoded = [text.encode() for text in texts]
        sizes = np.array([len(piece) for piece in encoded], np.int64)
        spans = np.stack((np.cumsum(sizes) - sizes, sizes), axis=1)
        hashes = np.array([xxhash.xxh3_64_intdigest(piece) for piece in encoded], np.uint64)
        return self.rows_of(np.frombuffer(b"".join(encoded), np.uint8), spans, hashes)

    def rows_of(self, data: Data, spans: Ints, hashes: Hashes) -> Rows:
        """Rows of ids, made where there are none: (n,) int32.

        Parameters
        ----------
        spans : (n, 2) int64, begin and size of each id's UTF-8 bytes in `data`
        hashes : (n,) uint64, their xxh3
        """
        self._reserve(len(spans), int(spans[:, 1].sum()))
        out = np.empty(len(spans), np.int32)
        self._n = _find_all(
            self._slots, self._hashes, self._starts, self._slab, data, spans, hashes, self._n, out
        )
        return out

    def forget(self, row: int) -> None:
        """Take a row's name away; the bytes are overwritten."""
        begin, end = self._starts[row], self._starts[row + 1]
        name = self._slab[begin:end]
        slot = _find(
            self._slots, self._hashes, self._starts, self._slab, name, 0, len(name), self._hashes[row]
        )
        self._slots[slot] = _FORGOTTEN
        name[:] = 0
        self._hashes[row] = 0
        self._gone[row] = True
        self._n_gone += 1

    def _reserve(self, rows: int, size: int) -> None:
        needed = self._n + rows
        if needed > len(self._hashes):
            capacity = needed + needed // 2
            self._hashes = _grown(self._hashes, capacity)
            self._starts = _grown(self._starts, capacity + 1)
            self._gone = _grown(self._gone, capacity)
        if int(self._starts[self._n]) + size > len(self._slab):
            self._slab = _grown(self._slab, (len(self._slab) + size) * 3 // 2)
        if 2 * needed > len(self._slots):
            self._slots = np.full(1 << (3 * needed).bit_length(), _FREE, np.int32)
            _enter(self._slots, self._hashes, self._gone, self._n)


def _grown(old: NDArray[Any], capacity: int) -> NDArray[Any]:
    new = np.zeros(capacity, old.dtype)
    new[: len(old)] = old
    return new
