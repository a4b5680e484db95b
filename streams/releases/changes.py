"""The history of what serves: the records of `model-releases`, one for each change.

Each record has a key of its own, so compaction keeps them all: the topic is the history of what served.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from streams.events import UNDECODABLE
from streams.kafka.publisher import Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name
from streams.settings import Settings

LONGEST_TEXT = 500
"""Characters of what people and machines say in a change: the beginning of it, whoever wrote the record."""
LATEST_MS = 253_402_300_800_000  # the year 10,000: no calendar goes on
Kind = Literal["promote", "rollback", "refuse", "delay", "reject", "pin", "unpin", "shadow", "canary"]
DECIDE = ("promote", "rollback")
"""Changes that say what is to serve all users; the others are about it."""
TRY = ("shadow", "canary")
"""Changes that let a release be tried beside what serves."""
WANT = (*DECIDE, *TRY)
"""Changes that ask workers to load a release."""


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A check of a release before it may serve: what was found, and the figures behind it."""

    name: str
    passed: bool
    reason: str
    figures: dict[str, float] = {}

    def __post_init__(self) -> None:
        _keep_short(self, "name", "reason")


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """The terms by which a canary or a shadow is compared with the live release.

    Attributes
    ----------
    share : of the users who are served by it; of a shadow, of the requests that it answers as well
    least_slates : closed slates of either side before anything is said
    longest_s : after which it ends, whatever is known
    harm : share of what a slate earns that it may surely not lose
    then : how a shadow that passes is compared as a canary; None: it is promoted
    """

    share: Annotated[float, msgspec.Meta(gt=0, le=0.5)]
    least_slates: Annotated[int, msgspec.Meta(ge=1)]
    longest_s: Annotated[float, msgspec.Meta(gt=0)]
    harm: Annotated[float, msgspec.Meta(ge=0, le=1)]
    then: "Trial | None" = None


class ReleaseChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of what serves.

    promote : `version` serves from now on; rollback : it serves again, and what came after it does not;
    refuse : `by` was to serve it and could not, `reason` says why, and it went on with what it had.
    delay : `by` is to serve it, or to put it into the store, and cannot yet; `reason` says why, and it tries
        again.
    reject : the trainer made it and a gate did not let it through, `reason` says which.
    pin, unpin : it stays what serves until it is unpinned; no other is promoted, and the store keeps it.
    canary : it serves a share of the users beside what serves, as `trial` says, until the next promotion or
        rollback; again, it goes on with another share, and is compared anew.
    shadow : a worker answers live requests with it as well, as `trial` says; nobody is served by it.
    gates : what was checked before this was said, in order.
    replaces : what served when this was decided, "" for nothing. If something else serves by the time that
        the record is on the topic, it is void: somebody else was faster. None, as in older records: always.
    decides_ms : time of the canary's or shadow's record that this decides on; void if that is decided on.
    """

    change: Kind
    version: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$", max_length=12)]
    by: str
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, lt=LATEST_MS)]
    reason: str = ""
    replaces: str | None = None
    gates: tuple[Gate, ...] = ()
    trial: Trial | None = None
    decides_ms: int | None = None

    def __post_init__(self) -> None:
        _keep_short(self, "by", "reason")


def _keep_short(said: msgspec.Struct, *names: str) -> None:
    for name in names:
        if len(text := getattr(said, name)) > LONGEST_TEXT:
            msgspec.structs.force_setattr(said, name, f"{text[:LONGEST_TEXT]}…")


@dataclass(slots=True)
class ReleaseState:
    """The state after some changes.

    Attributes
    ----------
    served : versions that a rollback would go back through, the one that serves last
    pinned : version that is to stay what serves; None where none is pinned
    canary : the change by which a release serves a share of the users; None where none does
    shadow : the change by which a worker answers live requests with a release that serves nobody
    void : numbers, in their order from 0, of changes that came too late and change nothing
    """

    served: list[str] = field(default_factory=list)
    pinned: str | None = None
    canary: ReleaseChange | None = None
    shadow: ReleaseChange | None = None
    void: set[int] = field(default_factory=set)

    @property
    def live(self) -> str | None:
        """The version that serves; None for none."""
        return self.served[-1] if self.served else None

    @property
    def tried(self) -> ReleaseChange | None:
        """The change by which a release is tried beside what serves; None where none is."""
        return self.canary or self.shadow

    def counts(self, change: ReleaseChange) -> bool:
        """Return whether a change that comes now is in time, and allowed."""
        now, asked, tried = self.live or "", change.version, self.tried
        if change.change in TRY:
            another = tried is not None and tried.version != asked
            back = self.canary is not None and change.change == "shadow"
            if change.trial is None or another or back or asked == now or not now or self.pinned == now:
                return False
        elif change.change in DECIDE:
            if self.pinned == now != asked:
                return False
        elif change.decides_ms is None:
            return True
        begun_ms = None if tried is None else tried.timestamp_ms
        return change.replaces in (None, now) and change.decides_ms in (None, begun_ms)

    def take(self, change: ReleaseChange) -> None:
        """Go on to what a change that counts leads to."""
        match change.change:
            case "pin":
                self.pinned = change.version
                if change.version == self.live:
                    self.canary = self.shadow = None
            case "unpin":
                self.pinned = None
            case "shadow":
                self.shadow = change
            case "canary":
                self.canary, self.shadow = change, None
            case "reject" if change.decides_ms is not None:
                self.canary = self.shadow = None
            case "promote":
                self.canary = self.shadow = None
                if self.live != change.version:
                    self.served.append(change.version)
            case "rollback":
                self.canary = self.shadow = None
                while self.served and self.live != change.version:
                    self.served.pop()
                if not self.served:
                    self.served.append(change.version)


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


def fold_changes(changes: Iterable[ReleaseChange]) -> ReleaseState:
    """Return what changes have led to."""
    found = ReleaseState()
    for number, change in enumerate(changes):
        if found.counts(change):
            found.take(change)
        else:
            found.void.add(number)
    return found


def live_at(changes: Iterable[ReleaseChange], timestamp_ms: int) -> str | None:
    """Return the version that served at a time; None for none."""
    return fold_changes(change for change in changes if change.timestamp_ms <= timestamp_ms).live


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
    trial: Trial | None = None,
    decides_ms: int | None = None,
) -> ReleaseChange:
    """Write a change of now; return it when the broker has it."""
    now_ms = int(time.time() * 1000)
    change = ReleaseChange(kind, version, by, now_ms, reason, replaces, gates, trial, decides_ms)
    publisher = Publisher(settings)
    await publisher.start()
    try:
        await publisher.publish_all([(topic_name(settings, "model-releases"), 0, encode_change(change))])
    finally:
        await publisher.stop()
    return change
