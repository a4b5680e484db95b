r"""Rows of the compacted state topics: their keys and their schemas.

| topic | key | value |
|---|---|---|
| user-state | user_id \0 slot | `UserChunk`: 16 events of a user and the counters as of the last |
| user-state | user_id \0 \xff\xff | `UserStated`: what the user stated |
| user-state | \xff `actions` | `Actions`: names of the action codes, and which logs the rows are of |
| user-state | \xff `erased` hash | `Erased`: up to where a forgotten user's events do not count |
| user-state | \xff `quarantine` hash | `Quarantined`: which clicks of a user count for nobody else |
| policy-state | `covisit` \0 partition item key | `CoVisits`: neighbours, popularity and times of an item |
| policy-state | `likes` \0 partition user key | `Liked`: what a user, somebody's friend, liked last |
| policy-state | `weights` \0 partition | `SignalWeights`: what was learned online of the signals |
| policy-state | `spend` \0 partition | `spending.SpentThrough`: what the partition's counts of budgets have |
| policy-state | `spend` \0 partition item key | `spending.Spent`: what an item has spent today |
| item-state | item_id | `ItemState` |

Values are msgpack arrays that begin with a schema version; fields may only be added, at the end. Columns
inside a row are little-endian bytes. Items are named by their keys (`item_index`).
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.events import UNDECODABLE
from streams.state.row_versions import unreadable

SCHEMA_VERSION = 1

COVISIT_PREFIX = b"covisit\0"
LIKES_PREFIX = b"likes\0"
META_PREFIX = b"\xff"  # begins no UTF-8 text, so no user_id
ACTIONS_KEY = META_PREFIX + b"actions"
WEIGHTS_PREFIX = b"weights\0"
ERASED_PREFIX = META_PREFIX + b"erased"
QUARANTINE_PREFIX = META_PREFIX + b"quarantine"
STATED_SUFFIX = b"\0\xff\xff"

Row = tuple[bytes, bytes | None]
T = TypeVar("T", bound=msgspec.Struct)
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # what columns hold


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows taken for the changelog: what they say counts as saved, unless they are put back.

    put_back : makes all of it dirty again. Whoever takes rows and does not get them confirmed must call it,
        before rows are taken again; what has changed meanwhile stays dirty.
    """

    rows: Collection[Row]
    put_back: Callable[[], None]


class UserChunk(msgspec.Struct, array_like=True, gc=False):
    """Events n - len(actions) to n - 1 of a user, and the counters as of event n - 1."""

    v: int
    user_id: str
    n: Int64
    first_ms: Int64
    counts: bytes  # int32, per action
    items: bytes  # uint64 keys
    actions: bytes  # uint8 codes
    times: bytes  # int64 ms
    keys: bytes  # uint64, of the event ids
    offsets: bytes  # int64


class UserStated(msgspec.Struct, array_like=True):
    """Attributes, preferences, blocked items and friends, from the record at `offset` of `users`."""

    v: int
    user_id: str
    offset: Int64
    attributes: dict[str, str]
    preferences: list[str]
    blocked: bytes  # uint64 item keys
    timestamp_ms: Int64 = 0  # of that record
    friends: bytes = b""  # uint64 user keys


class Actions(msgspec.Struct, array_like=True):
    """Names of the action codes in this partition's rows; logs is a `LogsRow`, as in policy-state."""

    v: int
    names: list[str]
    logs: bytes = b""


class Life(msgspec.Struct, array_like=True, frozen=True):
    """What a user had added to shared statistics by one erasure.

    Attributes
    ----------
    clicks_offset : the last click before it: those up to there are out of the items' statistics
    users_offset : the record of `users` that asked for it; of several after one click, they tell the order
    closed_ms : watermark at which slates had last been closed; what the later ones taught is out of the
        policies' sums. -1 where nothing is out of anything: an earlier version erased the user.
    settled : so is what the others taught, or it stays
    """

    clicks_offset: Int64
    users_offset: Int64
    closed_ms: Int64
    settled: bool


class Erased(msgspec.Struct, array_like=True):
    """A forgotten user: clicks and users records up to these offsets are not theirs any more.

    erased_ms is when it was asked for, 0 if that is not known. lives has an entry for each erasure; none in
    rows of earlier versions.
    """

    v: int
    clicks_offset: Int64
    users_offset: Int64
    erased_ms: Int64 = 0
    lives: list[Life] = []

    @property
    def settled(self) -> bool:
        """Whether nothing is to be taken out of policies' sums any more."""
        return all(life.settled for life in self.lives)

    @property
    def steps(self) -> "list[Erased]":
        """The mark after each of the erasures, the first one first."""
        return [
            msgspec.structs.replace(
                self,
                clicks_offset=life.clicks_offset,
                users_offset=life.users_offset,
                lives=self.lives[: n + 1],
            )
            for n, life in enumerate(self.lives)
        ] or [self]


class Quarantined(msgspec.Struct, array_like=True, frozen=True):
    """A user who is or was in quarantine.

    Attributes
    ----------
    user_id : empty for one who was erased
    spans : offsets of clicks from which it held and up to which, excluded; None while it lasts
    since_ms, why : of the last of them
    forgotten : clicks before this offset do not count in items either
    """

    v: int
    user_id: str
    spans: list[tuple[Int64, Int64 | None]]
    since_ms: Int64
    why: str
    forgotten: Int64 = 0

    @property
    def lasts(self) -> bool:
        """Whether it holds now."""
        return bool(self.spans) and self.spans[-1][1] is None

    def ended_before(self, offset: int) -> bool:
        """Whether it had ended by the click at an offset."""
        ends = [end for _, end in self.spans]
        return not ends or (ends[-1] is not None and ends[-1] <= offset)

    @property
    def uncounted(self) -> list[tuple[int, int | None]]:
        """Spans of clicks that do not count in items."""
        return [(0, self.forgotten), *self.spans] if self.forgotten else self.spans

    def holds(self, offset: int) -> bool:
        """Whether a click at an offset is in one of the spans."""
        return _within(self.spans, offset)

    def leaves_out(self, offset: int) -> bool:
        """Whether a click at an offset does not count in items."""
        return _within(self.uncounted, offset)

    def first_difference(self, other: "Quarantined | None") -> int | None:
        """Return the first offset at which a click counts by one of two marks only, None if there is none."""
        theirs = [] if other is None else other.uncounted
        changes = {at for span in (*self.uncounted, *theirs) for at in span if at is not None}
        differ = (
            at
            for at in sorted(changes)
            if self.leaves_out(at) != _within(theirs, at)
            or self.holds(at) != (other is not None and other.holds(at))
        )
        return next(differ, None)


def _within(spans: Iterable[tuple[int, int | None]], offset: int) -> bool:
    return any(begin <= offset and (end is None or offset < end) for begin, end in spans)


class CoVisits(msgspec.Struct, array_like=True, gc=False):
    """An item's counters as of the click at offset `applied`."""

    v: int
    applied: Int64
    popularity: Int64
    others: bytes  # uint64 keys of the neighbours, in the order of their counters
    counts: bytes  # int32
    moments: bytes = b""  # see `model_core.signals.horizons`; none where the times are not known


class Liked(msgspec.Struct, array_like=True, gc=False):
    """The items that a user liked last, the newest first."""

    v: int
    items: bytes  # uint64 keys
    times: bytes  # int64 ms


class SignalWeights(msgspec.Struct, array_like=True):
    """Weights of signals that a worker learned, also from its clicks in this partition up to an offset."""

    v: int
    offset: Int64
    events: Int64
    level: float
    wins: float
    losses: float
    values: bytes  # float64, by signal
    squares: bytes  # float64


class ItemState(msgspec.Struct, array_like=True):
    """An item as it is served, from the record at (partition, offset) of `content`.

    Embeddings are float16 bytes. deleted marks an item that is never served again until it is republished.
    since_ms is when the item was first described, where that was earlier than this row.
    """

    v: int
    item_id: str
    title: str
    text: bytes | None
    image: bytes | None
    audio: bytes | None
    attributes: dict[str, list[str]]
    triples: list[tuple[str, str]]
    available: bool
    published_ms: Int64 | None
    expires_ms: Int64 | None
    partition: Int64
    offset: Int64
    deleted: bool = False
    since_ms: Int64 | None = None

    def __post_init__(self) -> None:
        if any(len(vector) % 2 for vector in (self.text, self.image, self.audio) if vector):
            raise ValueError("an embedding must be of whole float16 numbers")


encode = msgspec.msgpack.Encoder().encode

_decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {
    schema: msgspec.msgpack.Decoder(schema)
    for schema in (
        UserChunk,
        UserStated,
        Actions,
        Erased,
        Quarantined,
        CoVisits,
        Liked,
        SignalWeights,
        ItemState,
    )
}


def decode(schema: type[T], topic: str, key: bytes, value: bytes) -> T:
    """Read one row.

    Raises
    ------
    ValueError
        If the row is damaged or of a newer schema; the message names its topic, key and version.
    """
    try:
        row: T = _decoders[schema].decode(value)
    except UNDECODABLE as error:
        raise unreadable(f"{topic} row {key!r}", value, SCHEMA_VERSION, error) from None
    if row.v > SCHEMA_VERSION:  # type: ignore[attr-defined]
        raise unreadable(f"{topic} row {key!r}", value, SCHEMA_VERSION)
    return row


def chunk_key(user_id: str, slot: int) -> bytes:
    """Key of a user's chunk in user-state."""
    return user_id.encode() + b"\0" + slot.to_bytes(2, "big")


def stated_key(user_id: str) -> bytes:
    """Key of what a user stated, in user-state."""
    return user_id.encode() + STATED_SUFFIX


def erased_key(user_id: str) -> bytes:
    """Key of a forgotten user: a hash, for the id itself is to be forgotten."""
    return ERASED_PREFIX + xxhash.xxh3_128_digest(user_id.encode())


def quarantine_key(user_id: str) -> bytes:
    """Key of a user's quarantine: a hash, which is what is kept of one who is erased."""
    return QUARANTINE_PREFIX + xxhash.xxh3_128_digest(user_id.encode())


def joined(pieces: Iterable[bytes], dtype: str) -> NDArray[Any]:
    """One column from the pieces of many rows; `dtype` as it lies in the rows, e.g. "<u8"."""
    column = np.frombuffer(b"".join(pieces), dtype)
    return column.astype(column.dtype.newbyteorder("="), copy=False)


def bounds_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bounds of consecutive pieces: where each begins, and the end: (n + 1,) int64."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))


def covisit_key(partition: int, item_key: int) -> bytes:
    """Key of an item's co-visits in policy-state."""
    return COVISIT_PREFIX + partition.to_bytes(2, "big") + item_key.to_bytes(8, "big")


def likes_key(partition: int, user_key: int) -> bytes:
    """Key of what a user liked last, in policy-state."""
    return LIKES_PREFIX + partition.to_bytes(2, "big") + user_key.to_bytes(8, "big")


def weights_key(partition: int) -> bytes:
    """Key of what was learned of the signals, in policy-state."""
    return WEIGHTS_PREFIX + partition.to_bytes(2, "big")
