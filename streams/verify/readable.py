"""Rows of a state as fields that a person reads, and where two of them differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from streams.durability.state_rows import Kind, SlateRow, StateRow
from streams.state import rows as changelog
from streams.state.rows import STATED_SUFFIX, CoVisits, UserChunk, UserStated, joined

TOLERANCE = 1e-9
"""Of sums, relative to the largest: partitions whose sums were moved by a half-life round elsewhere."""

Named = Callable[[int], str]
Fields = dict[str, Any]
_slate = msgspec.msgpack.Decoder(SlateRow).decode


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not what the logs say.

    Attributes
    ----------
    kind : user, item, slate or policy
    name : of whose row it is: a user, an item, a request, a feature space with an arm
    expected, found : None where there is no such field
    offset : the last click that has been applied to the row that was found, as rows count offsets; -1 if none
    """

    partition: int
    kind: str
    name: str
    field: str
    expected: Any
    found: Any
    offset: int

    @property
    def place(self) -> tuple[str, str, str]:
        """Key that tells it from others."""
        return self.kind, self.name, self.field


class Rows:
    """Rows of one kind, as fields by whose they are.

    Parameters
    ----------
    named : says which item a key is of
    actions : names of the action codes
    """

    def __init__(self, kind: Kind, *, named: Named, actions: Sequence[str], sums: bool = True) -> None:
        self._named = named
        self._actions = actions
        self._sums = sums
        self._read = {
            "users": self._user, "items": self._item, "slates": self._slate, "policy": self._policy
        }[kind]  # fmt: skip

    def fields(self, rows: Sequence[StateRow]) -> dict[str, tuple[int, Fields]]:
        """By name: the last click applied, and the fields."""
        found: dict[str, tuple[int, Fields]] = {}
        for row in rows:
            name, offset, fields = self._read(*row)
            before = found.get(name, (-1, {}))
            found[name] = max(before[0], offset), before[1] | fields
        return found

    def _user(self, key: bytes, value: bytes) -> tuple[str, int, Fields]:
        if key.endswith(STATED_SUFFIX):
            said = changelog.decode(UserStated, "user-state", key, value)
            blocked = [self._named(one) for one in joined([said.blocked], "<u8").tolist()]
            return said.user_id, -1, {
                "attributes": said.attributes, "preferences": said.preferences, "blocked_items": blocked,
                "friends": [f"{one:016x}" for one in joined([said.friends], "<u8").tolist()],
                "stated at offset": said.offset,
            }  # fmt: skip
        row, slot = changelog.decode(UserChunk, "user-state", key, value), int.from_bytes(key[-2:], "big")
        items, keys = (joined([column], "<u8").tolist() for column in (row.items, row.keys))
        times, offsets = (joined([column], "<i8").tolist() for column in (row.times, row.offsets))
        counts = joined([row.counts], "<i4").tolist()
        fields: Fields = {f"events, slot {slot}": row.n, f"first_ms, slot {slot}": row.first_ms}
        fields |= {f"{self._action(code)}s, slot {slot}": n for code, n in enumerate(counts)}
        for k, code in enumerate(row.actions):
            event = f"event {row.n - len(row.actions) + k}"
            fields |= {
                f"{event} item_id": self._named(items[k]), f"{event} action": self._action(code),
                f"{event} timestamp_ms": times[k], f"{event} offset": offsets[k],
                f"{event} event_id's hash": keys[k],
            }  # fmt: skip
        return row.user_id, max(offsets, default=-1), fields

    def _action(self, code: int) -> str:
        return self._actions[code] if code < len(self._actions) else f"action {code}"

    def _item(self, key: bytes, value: bytes) -> tuple[str, int, Fields]:
        row = changelog.decode(CoVisits, "policy-state", key, value)
        others = joined([row.others], "<u8").tolist()
        counts = joined([row.counts], "<i4").tolist()
        fields: Fields = {
            "applied": row.applied, "popularity": row.popularity, "popularity over time": row.moments.hex()
        }  # fmt: skip
        fields |= {f"met with {self._named(one)}": n for one, n in zip(others, counts, strict=True)}
        return self._named(int.from_bytes(key[-8:], "big")), row.applied, fields

    def _slate(self, key: bytes, value: bytes) -> tuple[str, int, Fields]:
        row = _slate(value)
        return key.decode(), row.after_offset, {
            "user_id": row.user_id, "timestamp_ms": row.timestamp_ms, "items": list(row.item_ids),
            "actions": row.actions,
        }  # fmt: skip

    def _policy(self, key: bytes, value: bytes) -> tuple[str, int, Fields]:
        space, _, arm = key.partition(b"\0")
        row: Any = msgspec.msgpack.decode(value)
        if arm:
            _, number, _, _, _, counts, applied, _, gram, moment, *_ = row
            name, offset = f"{space.decode()}, arm {self._named(number)}", int(applied[1])
        else:
            counts, gram, moment = (row["impressions"], row["rewards"]), row["gram"], row["moment"]
            name, offset = space.decode(), -1
        fields: Fields = {"impressions": counts[0], "rewards": counts[1]}
        if self._sums:
            fields |= {"sums of features": _floats(gram), "sums of rewards": _floats(moment)}
        return name, offset, fields


def _floats(column: bytes) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return joined([column], "<f8").astype(np.float64)


def differences(
    partition: int, kind: str, expected: dict[str, tuple[int, Fields]], found: dict[str, tuple[int, Fields]]
) -> Iterator[Difference]:
    """Yield the fields that differ; of a row that only one of them has, that it is missing or not wanted."""
    for name in sorted(expected.keys() | found.keys()):
        offset, there = found.get(name, (-1, {}))
        wanted = expected.get(name, (-1, {}))[1]
        if not wanted or not there:
            if any(_counts(wanted or there)):
                yield Difference(partition, kind, name, "row", _told(wanted), _told(there), offset)
            continue
        for field in (*wanted, *(field for field in there if field not in wanted)):
            if not same(one := wanted.get(field), other := there.get(field)):
                yield Difference(partition, kind, name, field, _plain(one), _plain(other), offset)


def _counts(fields: Fields) -> Iterator[bool]:
    """Whether there is anything in a row: blank statistics say as much as none."""
    return (not isinstance(value, int | np.ndarray) or bool(np.any(value)) for value in fields.values())


def _told(fields: Fields) -> Any:
    return {name: _plain(value) for name, value in fields.items()} or None


def same(one: Any, other: Any) -> bool:
    """Whether two values of a field are the same, sums but for how they round."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape:
            return False
        most = max(float(np.abs(one).max(initial=0)), float(np.abs(other).max(initial=0)))
        return bool(np.all(np.abs(one - other) <= TOLERANCE * most))
    return bool(one == other)


def _plain(value: Any) -> Any:
    """Sums by their sum: hundreds of numbers tell a reader less."""
    return (
        f"{len(value)} numbers, in all {float(value.sum()):.9g}" if isinstance(value, np.ndarray) else value
    )
