"""From records of clicks to columns: those that the kernel cannot read are decoded one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.decoding.byte_steps import texts
from streams.decoding.click_kernels import EVENT, FIELDS, ITEM, USER, other_keys, read_clicks
from streams.decoding.records import (
    EARLIEST_MS,
    FUTURE,
    UNKNOWN_ACTION,
    Decoded,
    Rejected,
    broker_time,
    decode,
    time_now_ms,
)
from streams.events import Click, decode_click
from streams.kafka.columns import OFFSET, Record, RecordColumns


def read_click(records: RecordColumns, row: int) -> Click:
    """Return one click of a topic of our own, with all its fields."""
    value = records[row].value
    assert value is not None  # it has been read
    return decode_click(value)


@dataclass(slots=True)
class ClickColumns:
    """Accepted clicks of one partition batch, as columns of equal length n.

    data : (bytes,) uint8, in which the ids lie
    spans : (3, n, 2) int64, begin and size in `data` of the UTF-8 bytes of user, item and event id
    keys : (3, n) uint64, xxh3 of the ids
    actions : (n,) uint8, codes of `Settings.actions` in its order
    times : (n,) int64, event time in ms
    offsets : (n,) int64
    broker_times : (n,) int64, ms
    records : of the batch, refused ones included; rows : (n,) int64, those of the clicks among them
    rejected, left_out, key_mismatches : of the whole batch
    read_click : makes a click of one of the records
    """

    data: NDArray[np.uint8]
    spans: NDArray[np.int64]
    keys: NDArray[np.uint64]
    actions: NDArray[np.uint8]
    times: NDArray[np.int64]
    offsets: NDArray[np.int64]
    broker_times: NDArray[np.int64]
    records: RecordColumns
    rows: NDArray[np.int64]
    rejected: list[Rejected]
    read_click: Callable[[RecordColumns, int], Click] = read_click
    left_out: int = 0
    key_mismatches: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "ClickColumns":
        """Some of the clicks: views. What was refused and counted of the batch is not among it."""
        return ClickColumns(
            self.data, self.spans[:, part], self.keys[:, part], self.actions[part], self.times[part],
            self.offsets[part], self.broker_times[part], self.records, self.rows[part], [],
            self.read_click,
        )  # fmt: skip

    def moved(self, base: int) -> "ClickColumns":
        """The same clicks as rows count their offsets: with a base added; see `streams.state.log_bases`."""
        return replace(self, offsets=self.offsets + base)

    @property
    def users(self) -> list[str]:
        """Ids of the users, one a click."""
        return self._texts(USER)

    @property
    def items(self) -> list[str]:
        """Ids of the items."""
        return self._texts(ITEM)

    @property
    def event_keys(self) -> NDArray[np.uint64]:
        """(n,) uint64, xxh3 of the event ids."""
        keys: NDArray[np.uint64] = self.keys[EVENT]
        return keys

    def _texts(self, which: int) -> list[str]:
        raw = self.data.tobytes()
        return [raw[begin : begin + size].decode() for begin, size in self.spans[which].tolist()]

    def click(self, row: int) -> Click:
        """One of the clicks, with all its fields."""
        return self.read_click(self.records, int(self.rows[row]))


@dataclass(slots=True)
class ReadClicks:
    """Clicks of n records while they are read, a row each.

    data : (bytes,) uint8, in which the ids lie
    spans, keys : as of `ClickColumns`
    numbers : (n, 2) int64, code of the action, or how many there are; event time in ms
    read : (n,) bool, whether the row has been read
    """

    data: NDArray[np.uint8]
    spans: NDArray[np.int64]
    numbers: NDArray[np.int64]
    keys: NDArray[np.uint64]
    read: NDArray[np.bool_]

    @classmethod
    def none(cls, batch: RecordColumns) -> "ReadClicks":
        """Return rows of which none has been read."""
        n = len(batch)
        return cls(
            batch.data, np.zeros((3, n, 2), np.int64), np.zeros((n, 2), np.int64),
            np.zeros((3, n), np.uint64), np.zeros(n, np.bool_),
        )  # fmt: skip

    def add(self, decoded: Decoded[Click], offsets: NDArray[np.int64], codes: Mapping[str, int]) -> None:
        """Add clicks that were read one by one; `offsets` are those of the rows."""
        pieces, end = [self.data.tobytes()], len(self.data)
        rows = np.searchsorted(offsets, [record.offset for record in decoded.records])
        for row, click in zip(rows.tolist(), decoded.values, strict=True):
            self.read[row] = True
            self.numbers[row] = codes.get(click.action, len(codes)), click.timestamp_ms
            for which, text in enumerate((click.user_id, click.item_id, click.event_id)):
                encoded = text.encode()
                self.spans[which, row] = end, len(encoded)
                self.keys[which, row] = xxhash.xxh3_64_intdigest(encoded)
                pieces.append(encoded)
                end += len(encoded)
        self.data = np.frombuffer(b"".join(pieces), np.uint8)


def click_columns(
    records: Sequence[Any], action_codes: Mapping[str, int], max_future_ms: int
) -> ClickColumns:
    """Read a batch of click records as columns, refusing what breaks a rule."""
    batch = RecordColumns.of(records)
    clicks = ReadClicks.none(batch)
    names, name_bounds = texts(tuple(name.encode() for name in action_codes))
    read_clicks(
        batch.data, batch.table, *FIELDS, names, name_bounds, clicks.spans, clicks.numbers, clicks.keys,
        clicks.read,
    )  # fmt: skip
    rejected: list[Rejected] = []
    if not clicks.read.all():
        decoded = decode([batch[row] for row in np.flatnonzero(~clicks.read).tolist()], decode_click)
        clicks.add(decoded, batch.offsets, action_codes)
        rejected = decoded.rejected
    columns = accepted_clicks(batch, clicks, action_codes, max_future_ms, rejected=rejected)
    columns.key_mismatches = other_keys(columns.data, batch.table[columns.rows], columns.spans)
    return columns


def accepted_clicks(
    batch: RecordColumns,
    clicks: ReadClicks,
    action_codes: Mapping[str, int],
    max_future_ms: int,
    *,
    rejected: list[Rejected],
    click: Callable[[RecordColumns, int], Click] = read_click,
) -> ClickColumns:
    """Return the clicks that have been read, but for those that break a rule, which `rejected` gets too."""
    numbers, unknown, read = clicks.numbers, len(action_codes), clicks.read
    broker_times = batch.timestamps
    if len(batch) and broker_times.min() < EARLIEST_MS:
        broker_times = np.where(broker_times < EARLIEST_MS, time_now_ms(), broker_times)
    bad = read & ((numbers[:, 0] == unknown) | (numbers[:, 1] > broker_times + max_future_ms))
    for row in np.flatnonzero(bad).tolist():
        refused = click(batch, row)
        rejected.append(_refuse_click(batch[row], refused, numbers[row, 0] == unknown, action_codes))
    rows = np.flatnonzero(read & ~bad)
    spans, keys = clicks.spans, clicks.keys
    if len(rows) < len(batch):
        spans, numbers, keys = spans[:, rows], numbers[rows], keys[:, rows]
    return ClickColumns(
        data=clicks.data,
        spans=spans,
        keys=keys,
        actions=numbers[:, 0].astype(np.uint8),
        times=np.ascontiguousarray(numbers[:, 1]),
        offsets=np.ascontiguousarray(batch.table[rows, OFFSET]),
        broker_times=broker_times[rows],
        records=batch,
        rows=rows,
        rejected=rejected,
        read_click=click,
    )


def warm() -> ClickColumns:
    """Compile the reading of clicks, or load it from the cache; return the columns of one click."""
    value = b'{"event_id":"e","user_id":"u","item_id":"i","action":"like","timestamp_ms":1000000000000}'
    return click_columns([Record("clicks", 0, 0, 10**12, b"u", value)], {"like": 0}, 0)


def _refuse_click(record: Any, click: Click, unknown: bool, action_codes: Mapping[str, int]) -> Rejected:
    if unknown:
        known = ", ".join(action_codes)
        return Rejected(record, UNKNOWN_ACTION, f"unknown action {click.action!r}; `actions` defines {known}")
    ahead = (click.timestamp_ms - broker_time(record)) / 1000
    return Rejected(
        record, FUTURE, f"timestamp_ms {click.timestamp_ms} is {ahead:.0f} s ahead of the broker's time"
    )
