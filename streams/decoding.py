"""From records to values: what each bad record means, in one place.

| what comes | outcome |
|---|---|
| malformed JSON, wrong type, missing field, id empty or too long, k out of range | dead letter, `invalid` |
| time in seconds or microseconds | dead letter, `timestamp` |
| event further than `max_future_ms` ahead of its record's broker time | dead letter, `future` |
| action not in `actions` | dead letter, `unknown_action` |
| null value where it means nothing (`clicks`, `requests`) | dead letter, `null_value` |
| null value on `content` or `users` without a key | dead letter, `null_key` |
| image or sound that cannot be decoded or encoded | dead letter, `media` |
| text that cannot be encoded | dead letter, `text` |
| item or user whose row no changelog takes | dead letter, `too_large` |
| key missing or different from the user_id | accepted: the value names the user; counted `key_mismatch` |
| user's key belongs to another partition | accepted where it is; counted as wrong partition |
| unknown item | accepted: the item may be described later |
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.events import DEAD_LETTER_BYTES, Click, DeadLetter, Request, decode_click, encode

T = TypeVar("T")

REASONS = (
    "invalid", "timestamp", "future", "unknown_action", "null_value", "null_key", "media", "text",
    "too_large",
)  # fmt: skip

INVALID, TIMESTAMP, FUTURE, UNKNOWN_ACTION, NULL_VALUE, NULL_KEY, MEDIA, TEXT, TOO_LARGE = REASONS


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, and why."""

    record: Any
    reason: str
    error: str

    def dead_letter(self) -> tuple[bytes | None, bytes]:
        """Key and value for the dead-letters topic."""
        record = self.record
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
    except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
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
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            reason = TIMESTAMP if "$.timestamp_ms" in str(error) else INVALID
            rejected.append(Rejected(record, reason, _hint(reason, str(error))))
        else:
            kept.append(record)
    return Decoded(values, kept, rejected)


def _hint(reason: str, error: str) -> str:
    return f"{error} (times are Unix milliseconds)" if reason == TIMESTAMP else error


@dataclass(frozen=True, slots=True)
class ClickColumns:
    """Accepted clicks of one partition batch, as columns of equal length n.

    users, items : list of str
    actions : (n,) uint8, codes of `Settings.actions` in its order
    times : (n,) int64, event time in ms
    event_keys : (n,) uint64, xxh3 of the event id
    offsets : (n,) int64
    """

    clicks: list[Click]
    users: list[str]
    items: list[str]
    actions: NDArray[np.uint8]
    times: NDArray[np.int64]
    event_keys: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    broker_times: NDArray[np.int64]
    rejected: list[Rejected]
    key_mismatches: int

    def __len__(self) -> int:
        return len(self.users)


def click_columns(
    records: Sequence[Any], action_codes: Mapping[str, int], max_future_ms: int
) -> ClickColumns:
    """Decode a batch of click records into columns, refusing what breaks a rule."""
    decoded = decode(records, decode_click)
    clicks, kept, rejected = decoded.values, decoded.records, decoded.rejected
    n = len(clicks)
    unknown = len(action_codes)
    actions = np.fromiter((action_codes.get(c.action, unknown) for c in clicks), np.int64, n)
    times = np.fromiter((c.timestamp_ms for c in clicks), np.int64, n)
    broker_times = np.fromiter((r.timestamp for r in kept), np.int64, n)
    bad = (actions == unknown) | (times > broker_times + max_future_ms)
    if bad.any():
        for row in np.flatnonzero(bad):
            rejected.append(_refuse_click(kept[row], clicks[row], int(actions[row]) == unknown, action_codes))
        good = np.flatnonzero(~bad)
        clicks = [clicks[row] for row in good]
        kept = [kept[row] for row in good]
        actions, times, broker_times = actions[good], times[good], broker_times[good]
        n = len(clicks)
    users = [c.user_id for c in clicks]
    digest = xxhash.xxh3_64_intdigest
    return ClickColumns(
        clicks=clicks,
        users=users,
        items=[c.item_id for c in clicks],
        actions=actions.astype(np.uint8),
        times=times,
        event_keys=np.fromiter((digest(c.event_id.encode()) for c in clicks), np.uint64, n),
        offsets=np.fromiter((r.offset for r in kept), np.int64, n),
        broker_times=broker_times,
        rejected=rejected,
        key_mismatches=key_mismatches(kept, users),
    )


def key_mismatches(records: Sequence[Any], users: Sequence[str]) -> int:
    """Count records whose key is not the user_id of their value."""
    return sum(r.key != user.encode() for r, user in zip(records, users, strict=True))


def _refuse_click(record: Any, click: Click, unknown: bool, action_codes: Mapping[str, int]) -> Rejected:
    if unknown:
        known = ", ".join(action_codes)
        return Rejected(record, UNKNOWN_ACTION, f"unknown action {click.action!r}; `actions` defines {known}")
    ahead = (click.timestamp_ms - record.timestamp) / 1000
    return Rejected(
        record, FUTURE, f"timestamp_ms {click.timestamp_ms} is {ahead:.0f} s ahead of the broker's time"
    )


def refuse_future_requests(
    decoded: Decoded[Request], max_future_ms: int
) -> tuple[list[tuple[Request, Any]], list[Rejected]]:
    """Split decoded requests into (request, record) pairs and refusals, by their event time."""
    accepted, rejected = [], list(decoded.rejected)
    for request, record in zip(decoded.values, decoded.records, strict=True):
        if request.timestamp_ms > record.timestamp + max_future_ms:
            error = f"timestamp_ms {request.timestamp_ms} lies ahead of the broker's time"
            rejected.append(Rejected(record, FUTURE, error))
        else:
            accepted.append((request, record))
    return accepted, rejected
