"""What items with a budget have spent today, of one partition, and its rows in `policy-state`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.decoding.click_kernels import ITEM
from streams.decoding.clicks import ClickColumns
from streams.events import UNDECODABLE
from streams.state.fold_kernels import DUPLICATE
from streams.state.item_index import key_of
from streams.state.row_versions import unreadable
from streams.state.rows import Row, Taken

SPEND_PREFIX = b"spend\0"
ROW_VERSION = 1

_KEY = slice(len(SPEND_PREFIX) + 2, len(SPEND_PREFIX) + 10)


class SpentThrough(msgspec.Struct, array_like=True, frozen=True):
    """The last record that is in a partition's counts, and what they count.

    by is what spends: an action, "" for slates.
    """

    v: int
    by: str
    offset: int


class Spent(msgspec.Struct, array_like=True, frozen=True):
    """How often an item has spent on a day; day is a number as of `Day`."""

    v: int
    day: int
    count: int


_encode = msgspec.msgpack.Encoder().encode
_decode_through = msgspec.msgpack.Decoder(SpentThrough).decode
_decode_spent = msgspec.msgpack.Decoder(Spent).decode


def spend_key(partition: int, item: int | None = None) -> bytes:
    """Key of an item's row; without an item that of the partition's."""
    return SPEND_PREFIX + partition.to_bytes(2, "big") + (b"" if item is None else item.to_bytes(8, "big"))


def read_spend(key: bytes, value: bytes) -> tuple[int, Spent] | SpentThrough:
    """Read a row: an item's key and count, or how far the partition is.

    Raises
    ------
    ValueError
        If the row is damaged or of a newer schema.
    """
    try:
        row = _decode_spent(value) if key[_KEY] else _decode_through(value)
    except UNDECODABLE as error:
        raise unreadable("policy-state row of spending", value, ROW_VERSION, error) from None
    if row.v > ROW_VERSION:
        raise unreadable("policy-state row of spending", value, ROW_VERSION)
    return (int.from_bytes(key[_KEY], "big"), row) if isinstance(row, Spent) else row


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a time zone, in Unix ms: from begin_ms up to end_ms. number: days since the year 1."""

    number: int
    begin_ms: int
    end_ms: int

    @classmethod
    def at(cls, time_ms: int, zone: tzinfo) -> "Day":
        """Return the day of a time."""
        begin = datetime.fromtimestamp(time_ms / 1000, zone).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        # To the next midnight of the wall clock, be it 23 or 25 hours away.
        end = (begin.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
        return cls(begin.toordinal(), int(begin.timestamp() * 1000), int(end.timestamp() * 1000))


class Spending:
    """Counts of one partition by item key, of one day, and the last record that they have.

    It belongs to the event loop. A record counts once, also where it is read again: by its offset, with the
    log's base added. Days are those of when records came, not of what they say.

    Parameters
    ----------
    by : what spends: an action, "" for slates
    code : of that action, -1 for slates
    zone : where days begin at midnight
    wants : tells whether an item, by its key, is counted
    spends : is told of each item that has been counted once more

    Attributes
    ----------
    counts : by item key
    changed : item keys whose count has changed since somebody last emptied it
    """

    def __init__(
        self,
        partition: int,
        *,
        by: str,
        code: int,
        zone: tzinfo,
        wants: Callable[[int], bool],
        spends: Callable[[int], object] = lambda key: None,
    ) -> None:
        self._partition = partition
        self._by, self._code = by, code
        self._zone = zone
        self._wants, self._spends = wants, spends
        self._today = Day(0, 0, 0)
        self.offset = -1
        self.counts: dict[int, int] = {}
        self.changed: set[int] = set()
        self._dirty: set[int] = set()
        self._saved: set[int] = set()  # items that have rows
        self._saved_offset = -1

    @property
    def by_slates(self) -> bool:
        """Whether slates spend, and no action."""
        return not self._by

    @property
    def day(self) -> int:
        """Number of the day that is counted."""
        return self._today.number

    def begin(self, time_ms: int) -> None:
        """Let the day of a time be counted, if it is a later one than that which is."""
        if time_ms < self._today.end_ms:
            return
        day = Day.at(time_ms, self._zone)
        if day.number < self._today.number:  # another worker's clock is ahead
            return
        if day.number > self._today.number:
            self.changed.update(self.counts)
            self.counts = {}
            self._dirty = set()
        self._today = day

    def count_slate(self, item_ids: Iterable[str], *, time_ms: int, offset: int) -> None:
        """Count the items of a published slate, where slates spend."""
        if not self._by and offset > self.offset:
            self._count(map(key_of, item_ids), time_ms)
            self.offset = offset

    def count_clicks(self, columns: ClickColumns, outcomes: NDArray[np.uint8]) -> None:
        """Count clicks of the action that spends, where one does; repeated events do not.

        Parameters
        ----------
        outcomes : (n,) uint8, what became of each in its user's profile
        """
        if not self._by or not len(columns.offsets):
            return
        some = (columns.actions == self._code) & (outcomes != DUPLICATE) & (columns.offsets > self.offset)
        for key, time_ms in zip(
            columns.keys[ITEM][some].tolist(), columns.broker_times[some].tolist(), strict=True
        ):
            self._count((key,), time_ms)
        self.offset = max(self.offset, int(columns.offsets[-1]))

    def _count(self, items: Iterable[int], time_ms: int) -> None:
        self.begin(time_ms)
        if time_ms < self._today.begin_ms:
            return
        for item in filter(self._wants, items):
            self.counts[item] = self.counts.get(item, 0) + 1
            self.changed.add(item)
            self._dirty.add(item)
            self._spends(item)

    # Rows

    def take(self) -> Taken:
        """Return the rows that have changed; those of earlier days are deleted."""
        dirty, self._dirty = self._dirty, set()
        gone = self._saved - self.counts.keys()
        saved_offset, self._saved_offset = self._saved_offset, self.offset
        rows: list[Row] = [(spend_key(self._partition, item), None) for item in sorted(gone)]
        rows += [
            (spend_key(self._partition, item), _encode(Spent(ROW_VERSION, self.day, self.counts[item])))
            for item in sorted(dirty & self.counts.keys())
        ]
        if rows or saved_offset != self.offset:
            through = SpentThrough(ROW_VERSION, self._by, self.offset)
            rows.append((spend_key(self._partition), _encode(through)))
        self._saved = self._saved - gone | dirty

        def put_back() -> None:
            self._dirty |= dirty
            self._saved |= gone
            self._saved_offset = saved_offset

        return Taken(rows, put_back)

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Go on with what the changelog says, one row a key: with the counts of the last day there."""
        read = [read_spend(key, value) for key, value in rows]
        through = next((row for row in read if isinstance(row, SpentThrough)), None)
        counts = dict(row for row in read if not isinstance(row, SpentThrough))
        self._saved = set(counts)
        if through is not None and through.by == self._by:
            self.offset = self._saved_offset = through.offset
            self._today = Day(max((one.day for one in counts.values()), default=0), 0, 0)
            self.counts = {item: one.count for item, one in counts.items() if one.day == self.day}
            self.changed.update(self.counts)

    def on_row(self, key: bytes, value: bytes) -> None:
        """Take in a row of another worker's partition; older ones that are read again change nothing."""
        row = read_spend(key, value)
        if isinstance(row, SpentThrough) or row[1].day < self.day:
            return
        item, spent = row
        if spent.day > self.day:
            self.changed.update(self.counts)
            self.counts, self._today = {}, Day(spent.day, 0, 0)
        self.counts[item] = max(self.counts.get(item, 0), spent.count)
        self.changed.add(item)
