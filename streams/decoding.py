"""From records to values: what each bad record means, in one place.

| what comes | outcome |
|---|---|
| malformed JSON, wrong type, missing field, id empty or too long, k out of range | dead letter, `invalid` |
| time in seconds or microseconds | dead letter, `timestamp` |
| event further than `max_future_ms` ahead of its record's broker time | dead letter, `future` |
| action not in `actions` | dead letter, `unknown_action` |
| null value where it means nothing (`clicks`, `requests`), or the text `null` | dead letter, `null_value` |
| what a mapping asks for is not in the record | dead letter, `mapping` |
| null value on `content` or `users` without a key | dead letter, `null_key` |
| image or sound that cannot be decoded or encoded | dead letter, `media` |
| text that cannot be encoded | dead letter, `text` |
| item or user whose row no changelog takes | dead letter, `too_large` |
| key missing or different from the user_id | accepted: the value names the user; counted `key_mismatch` |
| user's key belongs to another partition | accepted where it is; counted as wrong partition |
| unknown item | accepted, it may be described later; refused and counted beyond `max_undescribed_items` |
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.click_kernels import EVENT, FIELDS, ITEM, USER, other_keys, read_clicks, texts
from streams.events import DEAD_LETTER_BYTES, UNDECODABLE, Click, DeadLetter, Request, decode_click, encode
from streams.kafka.columns import OFFSET, Record, RecordColumns

T = TypeVar("T")

REASONS = (
    "invalid", "timestamp", "future", "unknown_action", "null_value", "null_key", "media", "text",
    "too_large", "mapping",
)  # fmt: skip

INVALID, TIMESTAMP, FUTURE, UNKNOWN_ACTION, NULL_VALUE, NULL_KEY, MEDIA, TEXT, TOO_LARGE, MAPPING = REASONS

# A record's time before this (1973) is no time: of a producer that gave none, or a topic of old records.
EARLIEST_MS = 100_000_000_000
LONGEST_ERROR = 1_000


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, and why."""

    record: Any
    reason: str
    error: str

    def __post_init__(self) -> None:
        """Cut what is said to what a log and a dead letter can bear: it may repeat the record."""
        if len(self.error) > LONGEST_ERROR:
            object.__setattr__(self, "error", f"{self.error[:LONGEST_ERROR]}…")

    def dead_letter(self) -> tuple[bytes | None, bytes]:
        """Key and value for the dead-letters topic."""
        record = getattr(self.record, "origin", self.record)
        value = record.value or b""
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=self.error,
            reason=self.reason,
            value=value[:DEAD_LETTER_BYTES],
            timestamp_ms=int(time.time() * 1000),
            truncated=len(value) > DEAD_LETTER_BYTES,
        )
        key = record.key
        return (key[:1024] if key is not None else None), encode(letter)


@dataclass(frozen=True, slots=True)
class Decoded(Generic[T]):
    """Values and the records they came from, in offset order, and what was refused."""

    values: list[T]
    records: list[Any]
    rejected: list[Rejected]


def decode(records: Sequence[Any], decoder: Callable[[Any], T]) -> Decoded[T]:
    """Decode every record that can be; a bad one never costs its neighbours."""
    try:
        return Decoded([decoder(record.value) for record in records], list(records), [])
    except (*UNDECODABLE, TypeError):
        pass
    values: list[T] = []
    kept: list[Any] = []
    rejected: list[Rejected] = []
    for record in records:
        if record.value is None:
            rejected.append(Rejected(record, NULL_VALUE, f"a null value means nothing on {record.topic}"))
            continue
        try:
            values.append(decoder(record.value))
        except UNDECODABLE as error:
            rejected.append(Rejected(record, *why_undecodable(error, record.value)))
        else:
            kept.append(record)
    return Decoded(values, kept, rejected)


# What a value that is no JSON begins with, and what to do about it.
_PREFIXES = (
    (b"\x00", "begins with the 0 of a schema registry's serializer: read it by a mapping with its `format`"),
    (b"\xef\xbb\xbf", "begins with a byte order mark: write UTF-8 without one"),
    (b"\x1f\x8b", "is gzip: let the producer compress (compression.type), not who writes the value"),
    (b"\x78\x9c", "is zlib: let the producer compress (compression.type), not who writes the value"),
    (b"\xff\xfe", "is UTF-16: write UTF-8"),
    (b"\xfe\xff", "is UTF-16: write UTF-8"),
    (b"Obj\x01", "is an Avro file: write records"),
)


def why_undecodable(error: Exception, value: bytes) -> tuple[str, str]:
    """Return the reason and the words for a value that a decoder refuses."""
    for prefix, words in _PREFIXES:
        if value.startswith(prefix):
            schema = f" (schema {int.from_bytes(value[1:5], 'big')})" if prefix == b"\x00" else ""
            return INVALID, f"the value {words}{schema}; {error}"
    if value.strip() == b"null":
        return NULL_VALUE, "the text null is a value: a deletion is a record without one"
    text = str(error)
    if "$.timestamp_ms" in text or "`timestamp_ms`" in text:
        return TIMESTAMP, f"{text} (times are Unix milliseconds, in timestamp_ms)"
    return INVALID, text.replace("[...]", f"[{_which(value, text)!r}]") if "[...]" in text else text


def _which(value: bytes, error: str) -> str:
    """Name the key of an object that an error calls `[...]`: the first that breaks the same rule."""
    got = error.partition("got `")[2].partition("`")[0]
    kinds = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None), "object": dict}
    try:
        held = msgspec.json.decode(value)
        for name in error.partition("`$.")[2].partition("[...]")[0].split("."):
            held = held[name]
        wrong = [key for key, one in held.items() if type(one) is kinds.get(got)]
    except (*UNDECODABLE, KeyError, TypeError, AttributeError):
        return "..."
    return str(wrong[0]) if wrong else "..."


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
        broker_times = np.where(broker_times < EARLIEST_MS, _time_now(), broker_times)
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


def broker_time(record: Any) -> int:
    """Return the time of a record, now where it has none that says anything: ms."""
    return _time_now() if record.timestamp < EARLIEST_MS else int(record.timestamp)


def _time_now() -> int:
    return int(time.time() * 1000)


def key_mismatches(records: Sequence[Any], users: Sequence[str]) -> int:
    """Count records whose key is not the user_id of their value."""
    return sum(r.key != user.encode() for r, user in zip(records, users, strict=True))


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


def refuse_future_requests(
    decoded: Decoded[Request], max_future_ms: int
) -> tuple[list[tuple[Request, Any]], list[Rejected]]:
    """Split decoded requests into (request, record) pairs and refusals, by their event time."""
    accepted, rejected = [], list(decoded.rejected)
    for request, record in zip(decoded.values, decoded.records, strict=True):
        if request.timestamp_ms > broker_time(record) + max_future_ms:
            error = f"timestamp_ms {request.timestamp_ms} lies ahead of the broker's time"
            rejected.append(Rejected(record, FUTURE, error))
        else:
            accepted.append((request, record))
    return accepted, rejected
