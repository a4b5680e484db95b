"""Columns of a catalogue by item row: embeddings, and times at which items may be served."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.signals.reserved import Growing

LIKELY_ITEMS = 1 << 22  # reserved; what comes beyond is copied once, to twice the room
FOR_EVER = np.iinfo(np.int64).max


class ItemVectors:
    """Embeddings of one kind, by item row; one table for every dimension that occurs."""

    def __init__(self) -> None:
        self.tables: dict[int, tuple[NDArray[np.float16], NDArray[np.bool_]]] = {}
        self._growing: dict[int, tuple[Growing, Growing]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return sum(table.nbytes + mask.nbytes for table, mask in self.tables.values())

    def put(self, rows: NDArray[np.int32], data: Sequence[bytes | None], capacity: int) -> None:
        """Keep the vectors of distinct rows, as float16 bytes; None where a row has none any more."""
        for _, mask in self.tables.values():
            mask[rows[rows < len(mask)]] = False
        by_size: dict[int, list[int]] = {}
        for place, value in enumerate(data):
            if value:
                by_size.setdefault(len(value), []).append(place)
        for size, places in by_size.items():
            vectors = np.frombuffer(b"".join(data[place] or b"" for place in places), "<f2")
            dim = size // 2
            table, mask = self.tables.get(dim, (np.zeros((0, dim), np.float16), np.zeros(0, np.bool_)))
            here = rows[places]
            if here.max() >= len(mask):
                if dim not in self._growing:
                    vectors_of = Growing(np.float16, width=(dim,), likely=LIKELY_ITEMS)
                    self._growing[dim] = vectors_of, Growing(np.bool_, likely=LIKELY_ITEMS)
                of_dim = self._growing[dim]
                table, mask = self.tables[dim] = of_dim[0].reach(capacity), of_dim[1].reach(capacity)
            table[here], mask[here] = vectors.reshape(-1, dim), True

    def read(self, rows: NDArray[Any], dim: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors of this dimension, zero where there is none: (n, dim) float32; who has one: (n,) bool."""
        vectors, mask = np.zeros((len(rows), dim), np.float32), np.zeros(len(rows), np.bool_)
        if dim in self.tables:
            table, present = self.tables[dim]
            inside = np.flatnonzero((rows >= 0) & (rows < len(present)))
            inside = inside[present[rows[inside]]]
            vectors[inside], mask[inside] = table[rows[inside]], True
        return vectors, mask


class Windows(NamedTuple):
    """Times at which items may be served, by row: replaced when it grows, so that threads may read it.

    known, available : (capacity,) bool; published, expires : (capacity,) int64 ms; since : when it was first
    described
    """

    known: NDArray[np.bool_]
    available: NDArray[np.bool_]
    published: NDArray[np.int64]
    expires: NDArray[np.int64]
    since: NDArray[np.int64]

    def open(self, now_ms: int, rows: NDArray[Any] | slice) -> NDArray[np.bool_]:
        """Tell which of some rows may be served: existing, available, published and not expired."""
        return (
            self.known[rows]
            & self.available[rows]
            & (self.published[rows] <= now_ms)
            & (self.expires[rows] > now_ms)
        )


def grown(array: NDArray[Any], capacity: int, fill: int = 0) -> NDArray[Any]:
    """Return the array with `capacity` rows; new ones are `fill`. Zeros take no memory until written to."""
    shape = (capacity, *array.shape[1:])
    new = np.full(shape, fill, array.dtype) if fill else np.zeros(shape, array.dtype)
    new[: len(array)] = array
    return new
