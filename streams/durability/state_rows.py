r"""The state of a shard as rows that any process makes alike, a bucket at a time: for whoever compares.

| kind | key | value |
|---|---|---|
| users | as in user-state | `UserChunk`, `UserStated` |
| items | as in policy-state | `CoVisits`, neighbours by their keys |
| slates | request_id | `SlateRow` |
| policy | feature space \0 (\0 arm) | a snapshot of statistics, or an arm's row of one |
| marks | as in user-state | `Erased`, `Quarantined`: from which click on something else holds |

A row is in the bucket of the hash of its user, item or request; what policies have learned is in all.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from online_learning.statistics.sums import Statistics
from streams.durability.profile_rows import rows_of_users
from streams.state.item_index import ItemIndex
from streams.state.rows import SCHEMA_VERSION, CoVisits, covisit_key, encode
from streams.state.shard import Shard

Kind = Literal["users", "items", "slates", "policy", "marks"]
FOLDED: tuple[Kind, ...] = ("users", "items")
"""What clicks are counted into, in any thread; the others belong to the event loop."""

StateRow = tuple[bytes, bytes]
_arm_rows = msgspec.msgpack.Decoder(list[bytes]).decode


class SlateRow(msgspec.Struct, array_like=True):
    """A slate that can still be rewarded, and the actions that rewarded each position."""

    user_id: str
    timestamp_ms: int
    after_offset: int
    item_ids: tuple[str, ...]
    actions: list[list[str]]


class Bucket(NamedTuple):
    """One of `of` parts of a partition's rows."""

    number: int
    of: int

    def takes(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of some hashes are in it."""
        inside: NDArray[np.bool_] = hashes % np.uint64(self.of) == np.uint64(self.number)
        return inside


def copy_rows(shard: Shard, index: ItemIndex, kind: Kind, bucket: Bucket) -> Callable[[], list[StateRow]]:
    """Copy the rows of a bucket as they are; return what packs them, which may take longer.

    Whoever copies users or items, in any thread, holds their locks; all else is for the event loop.
    """
    if kind == "users":
        users = bucket.takes(shard.profiles.ids.hashes)
        packed = rows_of_users(shard.profiles, index, users)
        return lambda: [(key, value or b"") for key, value in packed]
    if kind == "items":
        return _items(shard.covisits, index, shard.partition, bucket)
    if kind == "slates":
        return _slates(shard, bucket)
    if kind == "policy":
        return _policy(shard)
    profiles = shard.profiles
    marks: list[tuple[bytes, Any]] = [*profiles.erasures.marks.items(), *profiles.quarantine.marks.items()]
    return lambda: [(key, encode(mark)) for key, mark in marks]


def digest_of(rows: Iterable[StateRow]) -> str:
    """Hex digest of rows, in whatever order they come."""
    total = hashlib.blake2b(digest_size=16)
    for key, value in sorted(rows):
        for piece in (key, value):
            total.update(len(piece).to_bytes(8, "little") + piece)
    return total.hexdigest()


def _items(
    covisits: CoVisitation, index: ItemIndex, partition: int, bucket: Bucket
) -> Callable[[], list[StateRow]]:
    keys = index.keys[: covisits.n_items].copy()
    rows = np.flatnonzero((covisits.applied >= 0) & bucket.takes(keys)).astype(np.int32)
    bounds, others, counts = covisits.neighbours_of(rows)
    applied, popularity = covisits.applied[rows], covisits.popularity[rows]
    moments, neighbours = covisits.moments_of(rows), index.keys[others]

    def pack() -> list[StateRow]:
        order = np.lexsort((neighbours, np.repeat(np.arange(len(rows)), np.diff(bounds))))
        names, sums = neighbours[order].astype("<u8"), counts[order].astype("<i4")
        found = []
        for i, key in enumerate(keys[rows].tolist()):
            part = slice(bounds[i], bounds[i + 1])
            value = CoVisits(
                SCHEMA_VERSION, int(applied[i]), int(popularity[i]), names[part].tobytes(),
                sums[part].tobytes(), moments[i].tobytes(),
            )  # fmt: skip
            found.append((covisit_key(partition, key), encode(value)))
        return found

    return pack


def _slates(shard: Shard, bucket: Bucket) -> Callable[[], list[StateRow]]:
    slates = list(shard.slates)
    keys = [slate.request_id.encode() for slate in slates]
    inside = bucket.takes(np.array([xxhash.xxh3_64_intdigest(key) for key in keys], np.uint64))
    rows = []
    for at in np.flatnonzero(inside).tolist():
        one = slates[at]
        row = SlateRow(one.user_id, one.timestamp_ms, one.after_offset, one.item_ids, one.actions)
        rows.append((keys[at], row))
    return lambda: [(key, encode(row)) for key, row in rows]


def _policy(shard: Shard) -> Callable[[], list[StateRow]]:
    copies = [one.copy() for one in shard.statistics.every]
    return lambda: [row for one in copies for row in _learned(one)]


def _learned(one: Statistics) -> list[StateRow]:
    space = one.feature_space.encode() + b"\0"
    if one.summary():
        return [(space, one.to_bytes())]
    arms: Sequence[bytes] = _arm_rows(one.to_bytes())
    names = sorted(one.parts.tolist())  # the order in which they are written
    return [(space + b"\0" + arm.to_bytes(8, "big"), row) for arm, row in zip(names, arms, strict=True)]
