"""What serves, and since when: the records of `model-releases`, one for each change.

Each record has a key of its own, so compaction keeps them all: the topic is the history of what served.
"""

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from streams.events import UNDECODABLE
from streams.kafka.publisher import Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name
from streams.settings import Settings

LATEST_MS = 253_402_300_800_000  # the year 10,000: no calendar goes on
Kind = Literal["promote", "rollback", "refuse", "reject", "pin", "unpin"]
DECIDE = ("promote", "rollback")
"""Changes that say what is to serve; the others are about it."""


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A check of a release before it may serve: what was found, and the figures behind it."""

    name: str
    passed: bool
    reason: str
    figures: dict[str, float] = {}


class ReleaseChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of what serves.

    promote : `version` serves from now on; rollback : it serves again, and what came after it does not;
    refuse : `by` was to serve it and could not, `reason` says why, and it went on with what it had.
    reject : the trainer made it and a gate did not let it through, `reason` says which.
    pin, unpin : it stays what serves until it is unpinned; no other is promoted, and the store keeps it.
    gates : what a trainer checked before it said so, in order.
    replaces : what served when this was decided, "" for nothing. If something else serves by the time that
        the record is on the topic, it is void: somebody else was faster. None, as in older records: always.
    """

    change: Kind
    version: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]
    by: str
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, lt=LATEST_MS)]
    reason: str = ""
    replaces: str | None = None
    gates: tuple[Gate, ...] = ()


_decode = msgspec.json.Decoder(ReleaseChange).decode


def decode_change(value: bytes | None) -> ReleaseChange | None:
    """Return a record's change; None for what is no such record."""
    try:
        return _decode(value or b"")
    except UNDECODABLE:
        return None


def encode_change(change: ReleaseChange) -> tuple[bytes, bytes]:
    """Key and value of a record; keys sort by time."""
    return f"{change.timestamp_ms:015d}-{uuid.uuid4().hex}".encode(), msgspec.json.encode(change)


def serving(changes: Iterable[ReleaseChange]) -> list[str]:
    """Return the versions that a rollback would go back through, the one that serves last.

    Nothing serves when it is empty.
    """
    return _folded(changes)[0]


def voided(changes: Iterable[ReleaseChange]) -> set[int]:
    """Return the numbers, in their order from 0, of changes that came too late and change nothing."""
    return _folded(changes)[1]


def _folded(changes: Iterable[ReleaseChange]) -> tuple[list[str], set[int]]:
    stack: list[str] = []
    void: set[int] = set()
    pin: str | None = None
    for number, change in enumerate(changes):
        now = stack[-1] if stack else ""
        if change.change not in DECIDE:
            pin = {"pin": change.version, "unpin": None}.get(change.change, pin)
        elif change.replaces not in (None, now) or pin == now != change.version:
            void.add(number)
        elif change.change == "promote":
            if not stack or stack[-1] != change.version:
                stack.append(change.version)
        else:
            while stack and stack[-1] != change.version:
                stack.pop()
            if not stack:
                stack.append(change.version)
    return stack, void


def live(changes: Iterable[ReleaseChange]) -> str | None:
    """Return the version that serves; None for none."""
    stack = serving(changes)
    return stack[-1] if stack else None


def before(changes: Sequence[ReleaseChange], timestamp_ms: int) -> str | None:
    """Return the version that served at a time; None for none."""
    return live(change for change in changes if change.timestamp_ms <= timestamp_ms)


def pinned(changes: Iterable[ReleaseChange]) -> str | None:
    """Return the version that is to stay what serves; None where none is pinned."""
    found = None
    for change in changes:
        if change.change == "pin":
            found = change.version
        elif change.change == "unpin":
            found = None
    return found


async def read_changes(settings: Settings) -> list[ReleaseChange]:
    """Read every change to the end of the topic, in its order."""
    found = []
    async for records in read_partition(settings, topic_name(settings, "model-releases"), 0):
        found += [change for record in records if (change := decode_change(record.value)) is not None]
    return found


async def publish_change(
    settings: Settings,
    kind: Kind,
    version: str,
    *,
    by: str,
    reason: str = "",
    replaces: str | None = None,
    gates: tuple[Gate, ...] = (),
) -> ReleaseChange:
    """Write a change of now; return it when the broker has it."""
    change = ReleaseChange(kind, version, by, int(time.time() * 1000), reason, replaces, gates)
    publisher = Publisher(settings)
    await publisher.start()
    try:
        await publisher.publish_all([(topic_name(settings, "model-releases"), 0, encode_change(change))])
    finally:
        await publisher.stop()
    return change
