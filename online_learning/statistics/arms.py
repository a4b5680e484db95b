"""Statistics of policies with a model per item: sums for each arm by itself."""

from collections.abc import Iterable
from typing import Annotated, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.decay import first_exponent, power_of_two
from online_learning.statistics.observations import Count, Int64, read_floats, unpack
from online_learning.statistics.sums import (
    AMENDMENTS,
    IMPRESSIONS,
    REWARDS,
    Rows,
    Statistics,
    check_same_space,
)

SCHEMA_VERSION = 1


class _Version(msgspec.Struct, frozen=True, array_like=True):
    v: int


class _Row(msgspec.Struct, frozen=True, array_like=True):
    v: int
    arm: Annotated[int, msgspec.Meta(ge=0)]
    dim: int
    feature_space: str
    half_life_ms: Int64  # 0: nothing is forgotten
    counts: tuple[Count, Count]
    applied: tuple[Int64, Int64]
    clock: tuple[Int64, Int64]
    gram: bytes  # lower triangle by rows, float64, little-endian
    moment: bytes
    amended: Int64 = -1


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode
_decode_version = msgspec.msgpack.Decoder(_Version).decode
_decode_all = msgspec.msgpack.Decoder(list[bytes]).decode


class ArmStatistics(Statistics):
    """Sufficient statistics of a linear model of reward per arm; see `LinearStatistics` for what they are.

    Arms are named by numbers of 64 bits that mean the same everywhere. An arm takes memory from its first
    impression on: 8 F (F + 3) / 2 bytes and a little more.

    Each arm is saved in a row of its own. Rows written at different times belong together because every
    one carries the offsets of the logs up to which it has been applied (`applied`), and adds nothing that
    is given again.

    Parameters
    ----------
    dim, feature_space, half_life_ms : as of `LinearStatistics`

    Attributes
    ----------
    arms : (A,) uint64
    counts : (2, A) int64, impressions and rewards of each
    """

    kind = "arms"

    def __init__(self, dim: int, *, feature_space: str = "", half_life_ms: int | None = None) -> None:
        super().__init__(dim, feature_space=feature_space, half_life_ms=half_life_ms, slots=0)
        self._slot_of: dict[int, int] = {}
        self._names = np.zeros(0, np.uint64)  # with room for more, as all arrays by slot
        self._applied = np.zeros((3, 0), np.int64)
        self._dirty = np.zeros(0, np.bool_)
        self._untaken = np.zeros(0, np.bool_)

    @classmethod
    def blank(cls, prior: Any, *, half_life_ms: int | None) -> Self:
        """See `Statistics.blank`."""
        return cls(len(prior.weights), feature_space=prior.feature_space, half_life_ms=half_life_ms)

    @classmethod
    def read_for(cls, data: bytes, prior: Any, *, half_life_ms: int | None) -> Self:
        """See `Statistics.read_for`."""
        dim, space = len(prior.weights), prior.feature_space
        return cls.from_bytes(data, dim=dim, feature_space=space, half_life_ms=half_life_ms)

    @property
    def arms(self) -> NDArray[np.uint64]:
        """The arms in the order of their first appearance: (A,) uint64, read only."""
        return self._names[: len(self._slot_of)]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Impressions and rewards of each arm: (2, A) int64, a copy."""
        return self._counts[:, : len(self.arms)].copy()

    @property
    def gram(self) -> NDArray[np.float64]:
        """Sums of outer(x, x) over impressions, discounted to `latest_ms`: (A, F, F) float64, a copy."""
        n = len(self.arms)
        return unpack(self._packed[:n] * self._scale()[:n, None], self.dim)

    @property
    def moment(self) -> NDArray[np.float64]:
        """Sums of x * reward over rewards, discounted to `latest_ms`: (A, F) float64, a copy."""
        n = len(self.arms)
        total: NDArray[np.float64] = self._moment[:n] * self._scale()[:n, None]
        return total

    def __add__(self, other: "ArmStatistics") -> "ArmStatistics":
        if not isinstance(other, ArmStatistics):
            return NotImplemented
        self._check_like(other)
        total = self.empty()
        total._slots(
            np.union1d(self.arms, other.arms).tolist()
        )  # sorted, so that the order of adding does not show
        for part in (self, other):
            total._absorb(part)
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ArmStatistics):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"ArmStatistics(dim={self.dim}, feature_space={self.feature_space!r}, arms={len(self.arms)}, "
            f"impressions={self.impressions}, rewards={self.rewards})"
        )

    def take_out(self, part: "ArmStatistics") -> bool:
        """See `Statistics.take_out`; of arms that have been forgotten, nothing is left to subtract from."""
        at = np.flatnonzero([arm in self._slot_of for arm in part.arms.tolist()])
        slots = self._slots(part.arms[at].tolist())
        if not self._take_out(slots, part, at):
            return False
        self._dirty[slots] = self._untaken[slots] = True
        return True

    def copy(self) -> "ArmStatistics":
        """Return statistics that share no memory with these; it takes what copying the memory takes."""
        n, made = len(self.arms), self.empty()
        made._slot_of = dict(self._slot_of)
        for name in ("_names", "_packed", "_moment", "_clocks"):
            setattr(made, name, getattr(self, name)[:n].copy())
        made._counts, made._applied = self._counts[:, :n].copy(), self._applied[:, :n].copy()
        made._dirty, made._untaken = np.zeros(n, np.bool_), np.ones(n, np.bool_)
        return made

    def to_bytes(self) -> bytes:
        """Return a versioned msgpack snapshot of all arms; equal statistics give equal bytes."""
        return _encode([self._row(slot) for slot in np.argsort(self.arms).tolist()])

    @classmethod
    def from_bytes(
        cls, data: bytes, *, dim: int, feature_space: str, half_life_ms: int | None = None
    ) -> Self:
        """Read what `to_bytes` wrote, exactly; `load_row` says what it refuses."""
        statistics = cls(dim, feature_space=feature_space, half_life_ms=half_life_ms)
        try:
            rows = _decode_all(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"not a statistics snapshot: {error}") from None
        for row in rows:
            if not statistics.load_row(row):
                raise ValueError(f"statistics must be of feature_space {feature_space!r}, got another")
        statistics._dirty[:] = False
        return statistics

    def summary(self) -> bytes:
        """Return b"": every arm has a row of its own."""
        return b""

    def take_rows(self) -> list[tuple[int, bytes]]:
        """Return the rows of the arms that have changed since the last call, as (arm, row)."""
        slots = np.flatnonzero(self._dirty[: len(self.arms)])
        self._dirty[slots] = False
        return [(int(self.arms[slot]), self._row(int(slot))) for slot in slots]

    def put_back(self, parts: Iterable[int]) -> None:
        """See `Statistics.put_back`."""
        self._dirty[self._slots(parts)] = True

    @property
    def parts(self) -> NDArray[np.uint64]:
        """See `Statistics.parts`: the arms."""
        return self.arms

    def forget(self, parts: Iterable[int]) -> None:
        """See `Statistics.forget`; the last arm takes the place of one that goes."""
        by_slot = (self._names, self._packed, self._moment, self._clocks, self._dirty, self._untaken)
        for arm in parts:
            slot = self._slot_of.pop(arm, None)
            if slot is None:
                continue
            last = len(self._slot_of)
            if slot != last:
                for column in by_slot:
                    column[slot] = column[last]
                self._counts[:, slot], self._applied[:, slot] = self._counts[:, last], self._applied[:, last]
                self._slot_of[int(self._names[slot])] = slot
            for column in by_slot:
                column[last] = 0
            self._clocks[last] = first_exponent(self.half_life_ms), 0
            self._counts[:, last], self._applied[:, last] = 0, -1
            self.n_forgotten += 1

    def load_rows(self, rows: Iterable[bytes]) -> None:
        """See `Statistics.load_rows` and `load_row`."""
        for row in rows:
            self.load_row(row)

    def load_row(self, data: bytes) -> bool:
        """Put in place of an arm's sums those of a row written by `take_rows`.

        Returns False, and changes nothing, for a row of another feature space.

        Raises
        ------
        ValueError
            The bytes are not a row, are of another schema version, dimension or half-life, or hold values
            that no stream of observations gives.
        """
        try:
            version = _decode_version(data).v
            if version != SCHEMA_VERSION:
                raise ValueError(f"arm statistics must have schema version {SCHEMA_VERSION}, got {version}")
            row = _decode(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"not a row of arm statistics: {error}") from None
        if row.feature_space != self.feature_space:
            return False
        check_same_space(self.dim, self.feature_space, row)
        if (row.half_life_ms or None) != self.half_life_ms:
            raise ValueError(f"half_life_ms must be {self.half_life_ms}, got {row.half_life_ms or None}")
        packed = read_floats(row.gram, self._packed.shape[1:], "gram")
        moment = read_floats(row.moment, (self.dim,), "moment")
        slot = self._slots([row.arm])[0]
        self._packed[slot], self._moment[slot] = packed, moment
        self._clocks[slot] = row.clock
        self._counts[:, slot] = row.counts
        self._applied[:, slot] = (*row.applied, row.amended)
        self._untaken[slot] = True
        return True

    def take_changes(self, most: int) -> "ArmStatistics | None":
        """See `Statistics.take_changes`; a part is an arm."""
        slots = np.flatnonzero(self._untaken[: len(self.arms)])[:most]
        if not len(slots):
            return None
        self._untaken[slots] = False
        changes = self.empty()
        changes._put(self.arms[slots].tolist(), self, slots)
        return changes

    def touch(self) -> None:
        """See `Statistics.touch`."""
        self._untaken[: len(self.arms)] = True

    def replace(self, changes: "ArmStatistics") -> None:
        """See `Statistics.replace`."""
        self._check_like(changes)
        self._put(changes.arms.tolist(), changes, np.arange(len(changes.arms)))

    def _put(self, arms: list[int], source: "ArmStatistics", at: NDArray[np.int64]) -> None:
        slots = self._slots(arms)
        for mine, others in (
            (self._packed, source._packed), (self._moment, source._moment), (self._clocks, source._clocks)
        ):  # fmt: skip
            mine[slots] = others[at]
        self._counts[:, slots] = source._counts[:, at]
        self._applied[:, slots] = source._applied[:, at]
        self._untaken[slots] = True

    def _row(self, slot: int) -> bytes:
        counts, applied, clock = self._counts[:, slot], self._applied[:, slot], self._clocks[slot]
        return _encode(
            _Row(
                v=SCHEMA_VERSION,
                arm=int(self.arms[slot]),
                dim=self.dim,
                feature_space=self.feature_space,
                half_life_ms=self.half_life_ms or 0,
                counts=(int(counts[0]), int(counts[1])),
                applied=(int(applied[IMPRESSIONS]), int(applied[REWARDS])),
                clock=(int(clock[0]), int(clock[1])),
                gram=self._packed[slot].astype("<f8").tobytes(),
                moment=self._moment[slot].astype("<f8").tobytes(),
                amended=int(applied[AMENDMENTS]),
            )
        )

    def empty(self) -> "ArmStatistics":
        """See `Statistics.empty`."""
        return ArmStatistics(self.dim, feature_space=self.feature_space, half_life_ms=self.half_life_ms)

    def _admit(
        self, arms: NDArray[np.uint64] | None, n: int, offsets: NDArray[Any] | int | None, kind: int
    ) -> tuple[NDArray[np.int64], Rows]:
        """Return each row's slot, and which rows their arms have not seen yet."""
        if arms is None or np.shape(arms) != (n,):
            got = None if arms is None else np.shape(arms)
            raise ValueError(f"arms must have shape ({n},) as the features, got {got}")
        slots = self._slots(np.asarray(arms, np.uint64).tolist())
        self._dirty[slots] = self._untaken[slots] = True
        if offsets is None:
            return slots, slice(None)
        at = np.broadcast_to(np.asarray(offsets, np.int64), (n,))
        fresh = at > self._applied[kind, slots]
        np.maximum.at(self._applied[kind], slots, at)
        return slots, fresh

    def _slots(self, arms: Iterable[int]) -> NDArray[np.int64]:
        """Return the slots of arms, made where there are none."""
        known = self._slot_of
        found = [slot if (slot := known.get(arm)) is not None else self._make(arm) for arm in arms]
        return np.array(found, np.int64)

    def _make(self, arm: int) -> int:
        slot = len(self._slot_of)
        if slot == len(self._names):
            self._grow(max(16, slot))
        self._slot_of[arm] = slot
        self._names[slot] = arm
        return slot

    def _grow(self, more: int) -> None:
        """Make room for more arms: as many again, so that an arm is moved twice at most on average."""
        clocks = np.array([[first_exponent(self.half_life_ms), 0]], np.int64).repeat(more, axis=0)
        flags = np.zeros(more, np.bool_)
        self._names = np.concatenate([self._names, np.zeros(more, np.uint64)])
        self._packed = np.concatenate([self._packed, np.zeros((more, self._packed.shape[1]))])
        self._moment = np.concatenate([self._moment, np.zeros((more, self.dim))])
        self._clocks = np.concatenate([self._clocks, clocks])
        self._counts = np.concatenate([self._counts, np.zeros((2, more), np.int64)], axis=1)
        self._applied = np.concatenate([self._applied, np.full((3, more), -1, np.int64)], axis=1)
        self._dirty = np.concatenate([self._dirty, flags])
        self._untaken = np.concatenate([self._untaken, flags])

    def _absorb(self, part: "ArmStatistics") -> None:
        n = len(part.arms)
        slots = self._slots(part.arms.tolist())
        exponents = np.maximum(self._clocks[slots, 0], part._clocks[:n, 0])
        mine = power_of_two(self._clocks[slots, 0] - exponents)[:, None]
        theirs = power_of_two(part._clocks[:n, 0] - exponents)[:, None]
        self._packed[slots] = self._packed[slots] * mine + part._packed[:n] * theirs
        self._moment[slots] = self._moment[slots] * mine + part._moment[:n] * theirs
        latest = np.maximum(self._clocks[slots, 1], part._clocks[:n, 1])
        self._clocks[slots] = np.stack([exponents, latest], axis=1)
        self._counts[:, slots] += part._counts[:, :n]
        self._applied[:, slots] = np.maximum(self._applied[:, slots], part._applied[:, :n])
        self._untaken[slots] = True
