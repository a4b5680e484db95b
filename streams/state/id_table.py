"""Ids of users and their rows: bytes in one slab, found by a hash table of open addressing.

A `dict` of `str` costs about 250 bytes an id and a Python object to look it up; this costs the id and about
32 bytes.
"""

from collections.abc import Sequence

import numba
import numpy as np
import xxhash
from numpy.typing import NDArray

from model_core.kernels import inner, prefetch
from model_core.signals.reserved import room, with_room

Data = NDArray[np.uint8]
Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Hashes = NDArray[np.uint64]

LIKELY_IDS = 1 << 21  # reserved; what comes beyond is copied once, to twice the room
_FREE, _FORGOTTEN = -1, -2  # slots without a row; a search goes on past the second
# Numbers that a call goes on from: rows, vacant ones, bytes, new ones.
_ROWS, _VACANT, _END, _FRESH = range(4)
AHEAD = 16  # ids for which `_find_all` asks memory at once

njit = numba.njit(cache=True, nogil=True)


@inner
def _slot_of(
    slots: Rows, hashes: Hashes, names: Ints, slab: Data, data: Data, at: int, size: int, wanted: np.uint64
) -> int:  # fmt: skip
    """Slot of an id; one that is free if it has none."""
    mask = np.uint64(len(slots) - 1)
    slot = wanted & mask
    while slots[slot] != _FREE:
        row = slots[slot]
        if row >= 0 and hashes[row] == wanted and names[row, 1] == size:
            same = True
            for k in range(size):
                same &= slab[names[row, 0] + k] == data[at + k]
            if same:
                break
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)  # type: ignore[return-value]


@numba.njit(cache=True)  # one id takes less long than to have the interpreter again
def _find(
    slots: Rows, hashes: Hashes, names: Ints, slab: Data, data: Data, at: int, size: int, wanted: np.uint64
) -> int:  # fmt: skip
    return int(_slot_of(slots, hashes, names, slab, data, at, size, wanted))


@inner
def _ask_for(slots: Rows, hashes: Hashes, names: Ints, slab: Data, wanted: Hashes) -> None:
    """Let memory bring what looking for some ids reads: one thing says where the next one lies."""
    mask = np.uint64(len(slots) - 1)
    for hashed in wanted:
        prefetch(slots, np.int64(hashed & mask) * 4)
    for hashed in wanted:
        row = np.int64(slots[hashed & mask])
        if row >= 0:
            prefetch(hashes, row * 8)
            prefetch(names, row * 16)
    for hashed in wanted:
        row = np.int64(slots[hashed & mask])
        if row >= 0:
            prefetch(slab, names[row, 0])


@njit
def _find_all(
    slots: Rows, hashes: Hashes, names: Ints, slab: Data, data: Data, spans: Ints, wanted: Hashes,
    vacant: Rows, numbers: Ints, out: Rows, fresh: Rows,
) -> None:  # fmt: skip
    """Write the rows of ids, made where there are none, and which were made."""
    for k in range(len(out)):
        if k % AHEAD == 0:
            _ask_for(slots, hashes, names, slab, wanted[k : k + AHEAD])
        at, size = spans[k, 0], spans[k, 1]
        slot = _slot_of(slots, hashes, names, slab, data, at, size, wanted[k])
        if slots[slot] < 0:
            if numbers[_VACANT]:
                numbers[_VACANT] -= 1
                row = np.int64(vacant[numbers[_VACANT]])
            else:
                row = numbers[_ROWS]
                numbers[_ROWS] += 1
            slots[slot] = row
            hashes[row] = wanted[k]
            names[row, 0], names[row, 1] = numbers[_END], size
            for i in range(size):
                slab[names[row, 0] + i] = data[at + i]
            numbers[_END] += size
            fresh[numbers[_FRESH]] = row
            numbers[_FRESH] += 1
        out[k] = slots[slot]


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


@njit
def _copy(names: Ints, slab: Data, gone: NDArray[np.bool_], n: int, new: Data) -> int:
    """Copy the bytes of all ids, and note where they lie now; return their number."""
    end = 0
    for row in range(n):
        if gone[row]:
            continue
        for k in range(names[row, 1]):
            new[end + k] = slab[names[row, 0] + k]
        names[row, 0] = end
        end += names[row, 1]
    return end


class IdTable:
    """Id -> row. The row of a forgotten id is given to a new one, so do not keep rows across `forget`.

    Attributes
    ----------
    fresh : (n,) int32, the rows that were made when rows were last asked for
    """

    def __init__(self) -> None:
        self._n_gone = 0
        self._n_taken = 0  # slots, forgotten ones included
        self._slots = np.full(4096, _FREE, np.int32)
        self._hashes = room(0, np.uint64, likely=LIKELY_IDS)
        self._names = room(0, np.int64, width=(2,), likely=LIKELY_IDS)
        self._gone = room(0, np.bool_, likely=LIKELY_IDS)
        self._vacant = room(0, np.int32, likely=LIKELY_IDS)
        self._slab = np.zeros(16 * 1024, np.uint8)
        self._numbers = np.zeros(4, np.int64)
        self.fresh = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return int(self._numbers[_ROWS])

    @property
    def n_live(self) -> int:
        """Rows that have a name."""
        return len(self) - self._n_gone

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are in use: more is reserved."""
        of_rows = sum(array[:1].nbytes for array in (self._hashes, self._names, self._gone))
        return (
            len(self) * of_rows
            + self._vacant[:1].nbytes * self._n_gone
            + self._slots.nbytes
            + self._slab.nbytes
        )

    @property
    def gone(self) -> NDArray[np.bool_]:
        """(len(self),) bool, rows without a name: a view."""
        return self._gone[: len(self)]

    @property
    def hashes(self) -> Hashes:
        """(len(self),) uint64, xxh3 of the id of each row, 0 of a forgotten one: a view."""
        return self._hashes[: len(self)]

    def text(self, row: int) -> str:
        """The id of a row, "" of a forgotten one."""
        return "" if self._gone[row] else self.bytes_of(row).decode()

    def bytes_of(self, row: int) -> bytes:
        """UTF-8 bytes of the id of a row."""
        begin, size = self._names[row].tolist()
        return self._slab[begin : begin + size].tobytes()

    @property
    def slab(self) -> tuple[Data, Ints]:
        """Bytes of all ids; (len(self), 2) where each begins, and its size: views, until an id is added."""
        return self._slab, self._names[: len(self)]

    def row_of(self, text: str) -> int:
        """Row of an id, -1 if it has none."""
        encoded = text.encode()
        data = np.frombuffer(encoded, np.uint8)
        hashed = np.uint64(xxhash.xxh3_64_intdigest(encoded))
        slot = _find(self._slots, self._hashes, self._names, self._slab, data, 0, len(data), hashed)
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
        out, fresh = np.empty(len(spans), np.int32), np.empty(len(spans), np.int32)
        self._numbers[_FRESH] = 0
        vacant = int(self._numbers[_VACANT])
        _find_all(
            self._slots, self._hashes, self._names, self._slab, data, spans, hashes, self._vacant,
            self._numbers, out, fresh,
        )  # fmt: skip
        self.fresh = fresh[: self._numbers[_FRESH]]
        self._gone[self.fresh] = False
        self._n_taken += len(self.fresh)
        self._n_gone -= vacant - int(self._numbers[_VACANT])
        return out

    def forget(self, row: int) -> None:
        """Take a row's name away; the bytes are overwritten."""
        begin, size = self._names[row].tolist()
        name = self._slab[begin : begin + size]
        slot = _find(self._slots, self._hashes, self._names, self._slab, name, 0, size, self._hashes[row])
        self._slots[slot] = _FORGOTTEN
        name[:] = 0
        self._hashes[row] = 0
        self._names[row] = 0
        self._gone[row] = True
        self._n_gone += 1
        self._vacant[self._numbers[_VACANT]] = row
        self._numbers[_VACANT] += 1

    def _reserve(self, rows: int, size: int) -> None:
        needed = len(self) + max(0, rows - int(self._numbers[_VACANT]))
        self._hashes, self._names = with_room(self._hashes, needed), with_room(self._names, needed)
        self._gone, self._vacant = with_room(self._gone, needed), with_room(self._vacant, needed)
        if int(self._numbers[_END]) + size > len(self._slab):
            used = int(self._names[: len(self), 1].sum()) + size
            new = np.zeros(max(len(self._slab), used * 3 // 2), np.uint8)
            self._numbers[_END] = _copy(self._names, self._slab, self._gone, len(self), new)
            self._slab = new
        if 2 * (self._n_taken + rows) > len(self._slots):
            live = self.n_live + rows
            self._slots = np.full(max(4096, 1 << (2 * live).bit_length()), _FREE, np.int32)
            self._n_taken = self.n_live
            _enter(self._slots, self._hashes, self._gone, len(self))


def warm() -> None:
    """Compile what a table that grows needs, or load it from the cache."""
    IdTable().rows_of_texts([f"{n:08}" for n in range(3000)])
