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

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from streams.events import DEAD_LETTER_BYTES, DEAD_LETTER_REASONS, UNDECODABLE, DeadLetter, Request, encode

T = TypeVar("T")

INVALID, TIMESTAMP, FUTURE, UNKNOWN_ACTION, NULL_VALUE, NULL_KEY, MEDIA, TEXT, TOO_LARGE, MAPPING = (
    DEAD_LETTER_REASONS
)

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

    def dead_letter(self, most: int = DEAD_LETTER_BYTES) -> tuple[bytes | None, bytes]:
        """Key and value for the dead-letters topic, with at most so many bytes of the record's value."""
        record = getattr(self.record, "origin", self.record)
        value = record.value or b""
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=self.error,
            reason=self.reason,
            value=value[:most],
            timestamp_ms=int(time.time() * 1000),
            truncated=len(value) > most,
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
    text = _no_number(value, str(error))
    if "$.timestamp_ms" in text or "`timestamp_ms`" in text:
        return TIMESTAMP, f"{text} (times are Unix milliseconds, in timestamp_ms)"
    return INVALID, text.replace("[...]", f"[{_which(value, text)!r}]") if "[...]" in text else text


_MALFORMED = re.compile(r"JSON is malformed: invalid character \(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"-?(?:NaN|nan|Infinity|inf)\b")
_KEY = re.compile(rb'"([^"\\]{1,80})"\s*:')


def _no_number(value: bytes, error: str) -> str:
    """Name the field where what is no JSON is the NaN or Infinity of pandas and of Python's json."""
    if (found := _MALFORMED.match(error)) is None:
        return error
    at = int(found[1])
    token = next((one for start in (at - 1, at) if (one := _NO_NUMBER.match(value, max(start, 0)))), None)
    keys = _KEY.findall(value, max(at - 4096, 0), at)
    if token is None or not keys:
        return error
    field = keys[-1].decode(errors="replace")
    return f"{token[0].decode()} is no number in JSON - at `$.{field}`; leave the field out, or write null"


def _which(value: bytes, error: str) -> str:
    """Name the key of an object that an error calls `[...]`: the first that breaks the same rule."""
    got = error.partition("got `")[2].partition("`")[0]
    kinds = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None), "object": dict}
    try:
        held = msgspec.json.decode(value)
        before, _, after = error.partition("`$")[2].partition("`")[0].partition("[...]")
        held = _at(held, before)
        wrong = [key for key, one in held.items() if type(_at(one, after)) is kinds.get(got)]
    except (*UNDECODABLE, TypeError, AttributeError):
        return "..."
    return str(wrong[0]) if wrong else "..."


_NOWHERE = object()
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def _at(held: Any, path: str) -> Any:
    """Return what is at a path such as `.a[1]`, `_NOWHERE` if nothing is."""
    for name, place in _STEP.findall(path):
        try:
            held = held[name] if name else held[int(place)]
        except (KeyError, IndexError, TypeError):
            return _NOWHERE
    return held


def broker_time(record: Any) -> int:
    """Return the time of a record, now where it has none that says anything: ms."""
    return time_now_ms() if record.timestamp < EARLIEST_MS else int(record.timestamp)


def time_now_ms() -> int:
    """Return the time: Unix milliseconds."""
    return int(time.time() * 1000)


def key_mismatches(records: Sequence[Any], users: Sequence[str]) -> int:
    """Count records whose key is not the user_id of their value."""
    return sum(r.key != user.encode() for r, user in zip(records, users, strict=True))


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
