"""Records of a partition as columns: the bytes that the broker sent, and where in them each record lies.

No Python object is made for a record until somebody asks for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, overload

import numba
import numpy as np
from numpy.typing import NDArray

OFFSET, TIMESTAMP, KEY, KEY_SIZE, VALUE, VALUE_SIZE = range(6)  # columns; a size of -1 is a null
HEADER = 61  # bytes before the records of a batch, format 2

Data = NDArray[np.uint8]
Table = NDArray[np.int64]

_UNKNOWN: Mapping[tuple[str, int], int] = MappingProxyType({})

njit = numba.njit(cache=True, nogil=True)


@dataclass(frozen=True, slots=True)
class Record:
    """One record; the names are those of aiokafka's records."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    timestamp_type: int = 0


@dataclass(frozen=True, slots=True)
class MadeRecord(Record):
    """A record that was made of the one with its offset among `source`."""

    source: "RecordColumns | None" = None

    @property
    def origin(self) -> Record:
        """The record as the broker has it."""
        assert self.source is not None
        return self.source[int(np.searchsorted(self.source.offsets, self.offset))]


class RecordColumns(Sequence[Record]):
    """A sequence of records in offset order.

    Attributes
    ----------
    raw : bytes that keys and values lie in, each value followed by its record's headers if `headed`
    table : (n, 6) int64, see the columns named above; positions are bytes of `raw`
    ends : by topic and partition, where partitions ended when the broker read these records, as far as known
    headed : whether headers follow the values, as in a batch; if not, there are none
    source : what these records were made of, each of the one with its offset; None of what was fetched
    """

    __slots__ = ("_keys", "ends", "headed", "partition", "raw", "source", "table", "topic")

    def __init__(
        self,
        topic: str,
        partition: int,
        raw: bytes,
        table: Table,
        ends: Mapping[tuple[str, int], int] = _UNKNOWN,
        *,
        headed: bool = False,
        source: "RecordColumns | None" = None,
    ) -> None:
        self.headed = headed
        self.source = source
        self.topic = topic
        self.partition = partition
        self.raw = raw
        self.table = table
        self.ends = ends
        self._keys: frozenset[bytes | None] | None = None

    @classmethod
    def of(cls, records: Sequence[Any], *, ends: Mapping[tuple[str, int], int] = _UNKNOWN) -> "RecordColumns":
        """Columns of records that are objects of one partition."""
        if isinstance(records, cls):
            return records
        headers = [getattr(record, "headers", ()) for record in records]
        if headed := any(headers):
            rows = [
                (record.key, (record.value or b"") + _headers_bytes(of))
                for record, of in zip(records, headers, strict=True)
            ]
            columns = cls.of_rows(rows)
            sizes = [-1 if record.value is None else len(record.value) for record in records]
            columns.table[:, VALUE_SIZE] = sizes
        else:
            columns = cls.of_rows([(record.key, record.value) for record in records])
        columns.headed = headed
        columns.table[:, OFFSET] = [record.offset for record in records]
        columns.table[:, TIMESTAMP] = [record.timestamp for record in records]
        if len(records):
            columns.topic, columns.partition = records[0].topic, records[0].partition
        columns.ends = ends
        return columns

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[bytes | None, bytes | None]]) -> "RecordColumns":
        """Columns of keys and values, as the first records of a partition; they have no topic and no time."""
        pieces = [piece for row in rows for piece in row]
        sizes = np.array([-1 if piece is None else len(piece) for piece in pieces], np.int64)
        ends = np.cumsum(np.maximum(sizes, 0))
        table = np.zeros((len(pieces) // 2, 6), np.int64)
        table[:, OFFSET] = np.arange(len(table))
        table[:, KEY], table[:, VALUE] = (ends - np.maximum(sizes, 0)).reshape(-1, 2).T
        table[:, KEY_SIZE], table[:, VALUE_SIZE] = sizes.reshape(-1, 2).T
        return cls("", 0, b"".join(piece for piece in pieces if piece is not None), table)

    @classmethod
    def joined(cls, parts: Sequence["RecordColumns"]) -> "RecordColumns":
        """Records of a partition, all with headers behind them or none, one part after the other."""
        begins = np.cumsum([0, *(len(part.raw) for part in parts[:-1])])
        table = np.concatenate([part.table for part in parts])
        table[:, (KEY, VALUE)] += np.repeat(begins, [len(part) for part in parts])[:, None]
        last = parts[-1]
        raw = b"".join(part.raw for part in parts)
        return cls(last.topic, last.partition, raw, table, last.ends, headed=last.headed)

    @property
    def data(self) -> Data:
        """The bytes as an array: a view."""
        return np.frombuffer(self.raw, np.uint8)

    @property
    def offsets(self) -> Table:
        """(n,) int64: a view."""
        return self.table[:, OFFSET]

    @property
    def timestamps(self) -> Table:
        """(n,) int64 ms: a view."""
        return self.table[:, TIMESTAMP]

    def headers(self, index: int) -> list[tuple[str, bytes | None]]:
        """Return the headers of a record, in their order."""
        if not self.headed:
            return []
        value, size = self.table[index, VALUE:].tolist()
        at = value + max(size, 0)
        count, at = _read_varint(self.raw, at)
        found: list[tuple[str, bytes | None]] = []
        for _ in range(count):
            size, at = _read_varint(self.raw, at)
            name, at = self.raw[at : at + size].decode(errors="replace"), at + size
            size, at = _read_varint(self.raw, at)
            found.append((name, None if size < 0 else self.raw[at : at + size]))
            at += max(size, 0)
        return found

    def have_headers(self) -> NDArray[np.bool_]:
        """Return which records have headers: (n,) bool."""
        if not self.headed:
            return np.zeros(len(self), np.bool_)
        found: NDArray[np.bool_] = (
            self.data[self.table[:, VALUE] + np.maximum(self.table[:, VALUE_SIZE], 0)] != 0
        )
        return found

    def rows(self, rows: NDArray[np.int64]) -> "RecordColumns":
        """Return some of the records, in the order of `rows`."""
        return RecordColumns(
            self.topic, self.partition, self.raw, self.table[rows], self.ends,
            headed=self.headed, source=self.source,
        )  # fmt: skip

    def has_key(self, key: bytes) -> bool:
        """Whether a record has this key, or none at all, so that nobody knows whose it is."""
        if self._keys is None:  # found once: many may ask
            spans = self.table[:, [KEY, KEY_SIZE]].tolist()
            self._keys = frozenset(None if size < 0 else self.raw[at : at + size] for at, size in spans)
        return key in self._keys or None in self._keys

    def since(self, offset: int) -> "RecordColumns":
        """Return the records at or after an offset."""
        return self[int(np.searchsorted(self.offsets, offset)) :]

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "RecordColumns": ...
    def __getitem__(self, index: int | slice) -> "Record | RecordColumns":
        if isinstance(index, slice):
            return RecordColumns(
                self.topic, self.partition, self.raw, self.table[index], self.ends,
                headed=self.headed, source=self.source,
            )  # fmt: skip
        return self._record(self.table[index].tolist())

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, self.table.tolist())

    def _record(self, row: list[int]) -> Record:
        offset, timestamp, key, key_size, value, value_size = row
        raw = self.raw
        fields = (
            self.topic,
            self.partition,
            offset,
            timestamp,
            None if key_size < 0 else raw[key : key + key_size],
            None if value_size < 0 else raw[value : value + value_size],
        )
        return Record(*fields) if self.source is None else MadeRecord(*fields, source=self.source)


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _varint_bytes(number: int) -> bytes:
    value, out = (number << 1) ^ (number >> 63), bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _headers_bytes(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    out = [_varint_bytes(len(headers))]
    for name, value in headers:
        encoded = name.encode()
        out += [
            _varint_bytes(len(encoded)),
            encoded,
            _varint_bytes(-1 if value is None else len(value)),
            value or b"",
        ]
    return b"".join(out)


def warm() -> None:
    """Compile the reading of batches, or load it from the cache."""
    data, found, table = np.zeros(0, np.uint8), np.zeros((0, 8), np.int64), np.zeros((0, 6), np.int64)
    data.flags.writeable = False  # as fetched bytes are
    batches(data, found)
    read_batches(data, found, 0, table)
    read_records(data, 0, 0, np.zeros(4, np.int64), 0, table, 0)


@njit
def _number(data: Data, at: int, size: int) -> int:
    """Big-endian signed integer of `size` bytes."""
    value = np.int64(data[at]) - (np.int64(256) if data[at] > 127 else np.int64(0))
    for k in range(1, size):
        value = (value << np.int64(8)) | np.int64(data[at + k])
    return int(value)


@njit
def _varint(data: Data, at: int, end: int) -> tuple[Any, Any]:
    """Read a zigzag varint; return it and where the next byte is, beyond `end` when it does not fit."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < end and shift < np.uint64(64):
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), np.int64(at)
        shift += np.uint64(7)
    return np.int64(0), np.int64(end + 1)


@njit
def read_records(data: Data, at: int, end: int, header: Table, since: int, table: Table, n: int) -> int:
    """Append the records of one batch that lie in data[at:end] and are not before offset `since`.

    header : (4,) int64: number of records, base offset, first timestamp, and the timestamp of all or -1.
    Returns the number of rows then, -1 if the batch is damaged.
    """
    for _ in range(header[0]):
        size, at = _varint(data, at, end)
        stop = at + size
        if size < 0 or stop > end:
            return -1
        after, at = _varint(data, at + 1, stop)
        delta, at = _varint(data, at, stop)
        key_size, at = _varint(data, at, stop)
        key = at
        at += max(key_size, 0)
        value_size, at = _varint(data, at, stop)
        value = at
        if value + max(value_size, 0) > stop:
            return -1
        at = stop
        if header[1] + delta < since:
            continue
        table[n, OFFSET] = header[1] + delta
        table[n, TIMESTAMP] = header[2] + after if header[3] < 0 else header[3]
        table[n, KEY] = key
        table[n, KEY_SIZE] = max(key_size, -1)
        table[n, VALUE] = value
        table[n, VALUE_SIZE] = max(value_size, -1)
        n += 1
    return n if at == end else -1


@njit
def batches(data: Data, out: Table) -> int:
    """Write where the whole batches lie: out (k, 8) int64; return how many, at most k, there are.

    A row is begin, end, attributes, number of records, base offset, first timestamp, timestamp of all or -1,
    next offset; the attributes are -1 of a batch of an older format.
    """
    n = 0
    at = 0
    while n < len(out) and at + 17 <= len(data):
        end = at + 12 + _number(data, at + 8, 4)
        if end > len(data) or end < at + 17:
            break
        row = out[n]
        row[0], row[1], row[2] = at, end, -1
        if data[at + 16] == 2 and end >= at + HEADER:
            row[2] = _number(data, at + 21, 2)
            row[3] = _number(data, at + 57, 4)
            row[4] = _number(data, at, 8)
            row[5] = _number(data, at + 27, 8)
            row[6] = _number(data, at + 35, 8) if row[2] & 8 else -1
            row[7] = row[4] + _number(data, at + 23, 4) + 1
        n += 1
        at = end
    return n


@njit
def read_batches(data: Data, found: Table, since: int, table: Table) -> int:
    """Write the records of uncompressed batches, found by `batches`; as `read_records`."""
    n = 0
    for k in range(len(found)):
        n = read_records(data, found[k, 0] + HEADER, found[k, 1], found[k, 3:7], since, table, n)
        if n < 0:
            return -1
    return n
