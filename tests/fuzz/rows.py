"""Rows of the compacted topics: what a restore reads."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import msgspec
import numpy as np

from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.logistic import LogisticStatistics
from online_learning.statistics.position_bias import PositionStatistics
from online_learning.statistics.posterior import LinearPrior
from streams.durability import unpacking
from streams.durability.covisit_restore import read_covisits
from streams.durability.unpacking import KIND, READ
from streams.kafka.columns import RecordColumns
from streams.state.feature_spaces import SpaceRow
from streams.state.policy_row import PolicyRow, decode_policy_row, encode_policy_row
from streams.state.rows import (
    ACTIONS_KEY,
    SCHEMA_VERSION,
    Actions,
    CoVisits,
    Erased,
    ItemState,
    Liked,
    Quarantined,
    SignalWeights,
    UserChunk,
    UserStated,
    chunk_key,
    covisit_key,
    decode,
    encode,
)
from tests.fuzz.engine import short
from tests.streams.durability.test_unpacking import ACTIONS, by_msgspec, restored

KEY = chunk_key("u1", 0)
ITEM_KEY = covisit_key(0, 7)
MSGPACK = (
    b"\x90",
    b"\x9a",
    b"\x96",
    b"\xc0",
    b"\xc4\x00",
    b"\xc6\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\0" * 7,
    b"\xdb\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\x02",
    b"\x7f",
    b"\xcb\x7f\xf8" + b"\0" * 6,
    b"\x91" * 5_000,
)


def chunk(n: int) -> bytes:
    """Return a row with n events of the user u1."""
    size = (n - 1) % 16 + 1
    numbers = np.arange(size)
    return encode(
        UserChunk(
            SCHEMA_VERSION, "u1", n, 10**12, np.array([1, 2, 3], "<i4").tobytes(),
            (numbers + 5).astype("<u8").tobytes(), (numbers % 3).astype(np.uint8).tobytes(),
            (10**12 + numbers).astype("<i8").tobytes(), (numbers + 9).astype("<u8").tobytes(),
            (numbers + 100).astype("<i8").tobytes(),
        )
    )  # fmt: skip


def named(error: ValueError, *words: str) -> str:
    """Return what an error says, in short; it must have one of the words in it."""
    if not any(word in str(error) for word in words):
        raise AssertionError(f"{words} must stand in the error") from error
    return short(str(error))


class UserRows:
    """Chunks of user-state: what the kernel reads, msgspec reads alike; a restore takes a row or names it."""

    batch = 200
    seeds = (chunk(1), chunk(5), chunk(16), chunk(40))
    words = MSGPACK
    whole_each = 10
    """One of so many rows is restored, too."""

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        records, n = RecordColumns.of_rows([(KEY, value) for value in inputs]), len(inputs)
        found, spans = np.empty((n, 9), np.int64), np.empty((n, 2), np.int64)
        unpacking.read_chunks(records.data, records.table, len(ACTIONS), found, spans, np.empty(n, np.uint64))
        answers: list[Hashable] = []
        for place, value in enumerate(inputs):
            read = bool(found[place, KIND] == READ)
            try:
                row, why = by_msgspec(KEY, value), ""
            except ValueError as error:
                row, why = None, short(str(error))
            # The kernel leaves to later what an action or a falling offset is at fault for.
            if read and row is None:
                assert why == "is damaged", why
            if place % self.whole_each == 0:
                self._restore(value, row)
            answers.append((read, why, None if row is None else len(row.actions)))
        return answers

    @staticmethod
    def _restore(value: bytes, row: UserChunk | None) -> None:
        try:
            rows = restored([(KEY, value)])
        except ValueError as error:
            if row is not None:
                raise AssertionError(f"msgspec reads {row}") from error
            named(error, "user-state row", "is damaged")
            return
        if row is not None:
            (made,) = rows.values()
            assert made is not None
            again = msgspec.msgpack.decode(made, type=UserChunk)
            assert (again.user_id, again.n, again.items, again.times, again.keys) == (
                row.user_id, row.n, row.items, row.times, row.keys,
            )  # fmt: skip


class CoVisitRows:
    """Rows of items in policy-state: what is read says what msgspec says."""

    batch = 100
    seeds = tuple(
        encode(
            CoVisits(
                SCHEMA_VERSION,
                5,
                3,
                np.arange(k).astype("<u8").tobytes(),
                np.arange(k).astype("<i4").tobytes(),
                moments,
            )
        )
        for k, moments in ((0, b""), (1, b""), (40, b""))
    )
    words = MSGPACK

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        return [self._answer(value) for value in inputs]

    @staticmethod
    def _answer(value: bytes) -> Hashable:
        try:
            rows, rest = read_covisits(RecordColumns.of_rows([(ITEM_KEY, value)]))
        except ValueError as error:
            return named(error, "policy-state row")
        row = decode(CoVisits, "policy-state", ITEM_KEY, value)
        assert not len(rest)
        assert (rows.applied.tolist(), rows.popularity.tolist()) == ([row.applied], [row.popularity])
        assert rows.others.astype("<u8").tobytes() == row.others
        assert rows.counts.astype("<i4").tobytes() == row.counts
        return len(row.others) > 0, len(row.moments) > 0


class OtherRows:
    """Rows that msgspec alone reads: a row, or an error that names it and its version."""

    batch = 500
    words = MSGPACK

    def __init__(self) -> None:
        v = SCHEMA_VERSION
        self._kinds = (UserStated, Liked, Actions, Erased, Quarantined, SignalWeights, ItemState)
        rows: Sequence[msgspec.Struct] = (
            UserStated(v, "u1", 3, {"age": "34"}, ["jazz"], b"\0" * 8, 10**12, b"\0" * 8),
            Liked(v, b"\0" * 8, b"\0" * 8),
            Actions(v, list(ACTIONS), b"logs"),
            Erased(v, 1, 2, 3),
            Quarantined(v, "u1", [(3, 9), (12, None)], 10**12, "fast", 5),
            SignalWeights(v, 1, 2, 0.5, 1.0, 2.0, b"\0" * 8, b"\0" * 8),
            ItemState(
                v, "i", "T", b"\0" * 4, None, None, {"genre": ["a"]}, [("by", "x")], True, None, None, 0, 1
            ),
        )
        self.seeds = [encode(row) for row in rows]

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        return [tuple(self._answer(kind, value) for kind in self._kinds) for value in inputs]

    @staticmethod
    def _answer(kind: type[Any], value: bytes) -> Hashable:
        try:
            row = decode(kind, "a-topic", ACTIONS_KEY, value)
        except ValueError as error:
            return named(error, "a-topic row")
        assert row.v <= SCHEMA_VERSION
        return tuple(type(one) for one in msgspec.structs.astuple(row))


class Learned:
    """What policies have learned, as rows and files have it: statistics, or a ValueError."""

    batch = 100
    words = MSGPACK

    def __init__(self) -> None:
        self._prior = LinearPrior(np.ones(3), feature_space="space")
        features, arms = np.arange(6, dtype=np.float64).reshape(2, 3) / 8, np.array([5, 6], np.uint64)
        by_arm = ArmStatistics.blank(self._prior, half_life_ms=1_000)
        linear = LinearStatistics.blank(self._prior, half_life_ms=1_000)
        logistic = LogisticStatistics.blank(self._prior, half_life_ms=1_000)
        by_arm.add_impressions(features, times_ms=10**12, arms=arms, offsets=3)
        linear.add_impressions(features, times_ms=10**12)
        logistic.add_impressions(features, times_ms=10**12)
        row = PolicyRow(1, "space", 3, 4, 1, 10**12, linear.to_bytes(), others=(SpaceRow("old", 4, b""),))
        self.seeds = [
            *(value for _, value in by_arm.take_rows()), by_arm.to_bytes(), linear.to_bytes(),
            logistic.to_bytes(), PositionStatistics().to_bytes(), encode_policy_row(row),
        ]  # fmt: skip

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        return [
            tuple(
                self._answer(read, value) for read in (self._row, self._whole, self._positions, self._policy)
            )
            for value in inputs
        ]

    @staticmethod
    def _answer(read: Callable[[bytes], Hashable], value: bytes) -> Hashable:
        try:
            return read(value)
        except ValueError as error:
            return short(str(error))

    def _row(self, value: bytes) -> Hashable:
        blank = ArmStatistics.blank(self._prior, half_life_ms=1_000)
        return blank.load_row(value) and len(blank.to_bytes()) > 0

    def _whole(self, value: bytes) -> Hashable:
        kinds = ArmStatistics, LinearStatistics, LogisticStatistics
        return tuple(self._answer(lambda of, kind=kind: self._same(kind, of), value) for kind in kinds)

    def _same(self, kind: type[Any], value: bytes) -> Hashable:
        found = kind.read_for(value, self._prior, half_life_ms=1_000)
        again = kind.read_for(found.to_bytes(), self._prior, half_life_ms=1_000)
        assert again.to_bytes() == found.to_bytes()
        return True

    @staticmethod
    def _positions(value: bytes) -> Hashable:
        return bool(PositionStatistics.from_bytes(value).shown.any())

    @staticmethod
    def _policy(value: bytes) -> Hashable:
        return len(decode_policy_row(value).spaces)


TARGETS: dict[str, Callable[[], Any]] = {
    "user-rows": UserRows,
    "covisit-rows": CoVisitRows,
    "other-rows": OtherRows,
    "learned": Learned,
}
