"""Rows in one buffer, and the record batches (Kafka's format 2) that a kernel writes of them.

A client makes a Python object of every row it sends, and several of every batch; here a batch of thousands
of rows is one call.
"""

import struct
from collections.abc import Callable, Collection, Iterator, Sequence

import numba
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from model_core.kernels import copy_bytes
from streams.kafka.columns import HEADER

Data = NDArray[np.uint8]
Spans = NDArray[np.int64]
Row = tuple[bytes | None, bytes | None]
KeyedRow = tuple[bytes, bytes | None]

KEY, VALUE, END = 0, 1, 2  # columns of `spans`: where a row's key and value begin, and where the value ends
_LEAST_ROOM = 32  # for what a record has beside its key and value
_TRANSACTIONAL = 16  # bit of a batch's attributes
# Of a batch: base offset, length, leader epoch, format; then its checksum; then what that is taken of.
_FRONT = struct.Struct(">qiib")
_CHECKSUM = struct.Struct(">I")
# Attributes, last offset delta, first and last timestamp, producer id and epoch, base sequence, records.
_REST = struct.Struct(">hiqqqhii")
_CHECKED = _FRONT.size + _CHECKSUM.size

njit = numba.njit(cache=True, nogil=True)


class PackedRows(Collection[KeyedRow]):
    """Rows that lie in one buffer; each becomes Python's when it is come to.

    Parameters
    ----------
    n : number of packed rows
    pack : returns their bytes, one row after the other, and (n, 3) where in these keys and values begin and
        values end
    before, after : other rows that go first and last
    """

    def __init__(
        self,
        n: int,
        pack: Callable[[], tuple[Data, Spans]],
        *,
        before: Sequence[KeyedRow] = (),
        after: Sequence[KeyedRow] = (),
    ) -> None:
        self._n = n
        self._pack: Callable[[], tuple[Data, Spans]] | None = pack
        self.before, self.after = before, after
        self._data, self._spans = np.zeros(0, np.uint8), np.zeros((0, 3), np.int64)

    def pack(self) -> None:
        """Pack the rows, if they are not: what takes long of them. It may be called from another thread."""
        if self._pack is not None:
            self._data, self._spans = self._pack()
            self._pack = None

    @property
    def nbytes(self) -> int:
        """Bytes of the packed rows; 0 until they are packed."""
        return len(self._data)

    def batches(self, most: int, now_ms: int, *, transactional: bool) -> "Iterator[PackedBatch]":
        """Yield the packed rows, without those before and after, as batches of at most `most` bytes.

        A row that is larger has a batch of its own.
        """
        self.pack()
        begin = 0
        while begin < self._n:
            out, spans = np.empty(most, np.uint8), self._spans
            end, size = write_records(self._data, spans, begin, out, HEADER)
            if end == begin:
                out = np.empty(HEADER + _LEAST_ROOM + int(spans[begin, END] - spans[begin, KEY]), np.uint8)
                end, size = write_records(self._data, spans[: begin + 1], begin, out, HEADER)
            yield PackedBatch(out[:size], end - begin, now_ms, transactional=transactional)
            begin = end

    def __len__(self) -> int:
        return len(self.before) + self._n + len(self.after)

    def __contains__(self, row: object) -> bool:
        return any(row == other for other in self)

    def __iter__(self) -> Iterator[KeyedRow]:
        self.pack()
        yield from self.before
        for begin in range(0, self._n, 1024):
            spans = self._spans[begin : begin + 1024]
            first = int(spans[0, KEY])
            raw = self._data[first : int(spans[-1, END])].tobytes()
            for key, value, end in (spans - first).tolist():
                yield raw[key:value], raw[value:end]
        yield from self.after


class PackedBatch:
    """A whole batch, in the place of aiokafka's `BatchBuilder`.

    Parameters
    ----------
    data : (bytes,) uint8, room for the header and then the records
    """

    def __init__(self, data: Data, records: int, now_ms: int, *, transactional: bool) -> None:
        self._data = data
        self._records = records
        self._now_ms = now_ms
        self._attributes = _TRANSACTIONAL if transactional else 0
        self._producer = (-1, -1, -1)
        self._built: bytes | None = None

    def close(self) -> None:
        """Do nothing: it is closed."""

    def closed(self) -> bool:
        """Say so."""
        return True

    def record_count(self) -> int:
        """Return the number of records."""
        return self._records

    def size(self) -> int:
        """Return the bytes of it."""
        return len(self._data)

    def let_go(self) -> None:
        """Give the bytes back, which nobody sends any more: the producer's own objects of it live on.

        They refer to each other, and Python looks for such ones rarely.
        """
        self._data, self._built = np.zeros(0, np.uint8), None

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._built is None:
            data, last = self._data.data, self._records - 1
            times = self._now_ms, self._now_ms
            _REST.pack_into(data, _CHECKED, self._attributes, last, *times, *self._producer, self._records)
            _FRONT.pack_into(data, 0, 0, len(data) - 12, -1, 2)
            _CHECKSUM.pack_into(data, _FRONT.size, crc32c(data[_CHECKED:]))
            self._built = bytes(data)
        return self._built


@njit
def _varint_size(value: int) -> int:
    """Bytes of a number that is not negative, as a zigzag varint."""
    size = 1
    value >>= 6
    while value:
        value >>= 7
        size += 1
    return size


@njit
def _put_varint(out: Data, at: int, value: int) -> int:
    value <<= 1
    while value > 127:
        out[at] = value & 127 | 128
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


@njit
def write_records(data: Data, spans: Spans, begin: int, out: Data, at: int) -> tuple[int, int]:
    """Write rows from `begin` on as the records of one batch into out[at:], as many as there is room for.

    Returns
    -------
    the row after the last one written, and where the next byte goes
    """
    row = begin
    while row < len(spans):
        key, value, end = spans[row, KEY], spans[row, VALUE], spans[row, END]
        delta = row - begin
        size = 3 + _varint_size(delta) + _varint_size(value - key) + _varint_size(end - value) + end - key
        if at + _varint_size(size) + size > len(out):
            break
        at = _put_varint(out, at, size)
        out[at] = 0  # attributes
        out[at + 1] = 0  # after the batch's time
        at = _put_varint(out, at + 2, delta)
        at = _put_varint(out, at, value - key)
        copy_bytes(out, at, data, key, value - key)
        at = _put_varint(out, at + value - key, end - value)
        copy_bytes(out, at, data, value, end - value)
        at += end - value
        out[at] = 0  # headers
        at += 1
        row += 1
    return row, at


def warm() -> None:
    """Compile the writing of batches, or load it from the cache."""
    rows = PackedRows(1, lambda: (np.zeros(2, np.uint8), np.array([[0, 1, 2]], np.int64)))
    for batch in rows.batches(1024, 0, transactional=False):
        batch._build()
