"""What the linear policies learn from: sums over impressions and rewards."""

from typing import Any, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.decay import check_half_life, first_exponent, power_of_two, row_times, scale_at
from online_learning.fold_kernels import add_moment, add_outer
from online_learning.observations import check_each, check_rows, check_weights, read_floats, unpack

SCHEMA_VERSION = 2


class InSpace(Protocol):
    """What says which features it is about."""

    @property
    def dim(self) -> int:
        """Number of features."""
        ...

    @property
    def feature_space(self) -> str:
        """What the features mean and how they are summed; others refuse to be added."""
        ...


class Statistics(InSpace, Protocol):
    """What every kind of statistics offers to whoever fills and keeps them."""

    @property
    def impressions(self) -> int:
        """How many shown items have been added."""
        ...

    @property
    def rewards(self) -> int:
        """How many rewards have been added."""
        ...

    def add_impressions(
        self,
        features: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        weights: NDArray[Any] | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """See `LinearStatistics.add_impressions`."""
        ...

    def add_rewards(
        self,
        features: NDArray[Any],
        rewards: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """See `LinearStatistics.add_rewards`."""
        ...

    def amend_impressions(
        self,
        features: NDArray[Any],
        weights: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """See `LinearStatistics.amend_impressions`."""
        ...

    def __add__(self, other: Any) -> Any: ...

    def to_bytes(self) -> bytes:
        """Return a versioned snapshot; equal statistics give equal bytes."""
        ...


class Snapshot(msgspec.Struct, frozen=True):
    """What `to_bytes` writes."""

    v: int
    dim: int
    feature_space: str
    impressions: int
    rewards: int
    gram: bytes  # lower triangle by rows (schema 1: the whole matrix), float64, little-endian
    moment: bytes  # dim float64, little-endian
    half_life_ms: int = 0  # 0: nothing is forgotten
    clock: tuple[int, int] = (0, 0)
    reference: bytes = b""  # of logistic statistics: dim float64, little-endian


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode
_decode_version = msgspec.msgpack.Decoder(dict[str, Any]).decode


class LinearStatistics:
    """Sufficient statistics of a linear model of reward: additive over observations and partitions.

    An impression is counted when its slate is served, a reward when an event is attributed to it, so an
    item shown and not clicked counts as reward 0 from the moment it was shown.

    Rows are added one after another in float64: cutting a stream into batches in any way gives the same
    bits. Adding the statistics of partitions (`+`) equals one stream up to floating-point rounding.

    With a half-life, an observation's weight halves with every `half_life_ms` that lies between its time
    and the latest time seen (`online_learning.decay`). A reward must be given the time of its impression:
    both then weigh the same for ever.

    Parameters
    ----------
    dim : number of features F
    feature_space : names what the features mean, e.g. the version of the model release that makes them.
        Sums over different feature spaces have no meaning and refuse to be added.
    half_life_ms : in the unit of the times, at least 1; None forgets nothing

    Attributes
    ----------
    impressions, rewards : how many of each have been added, however little they weigh by now
    """

    __slots__ = ("_clocks", "_counts", "_moment", "_packed", "dim", "feature_space", "half_life_ms")

    def __init__(self, dim: int, *, feature_space: str = "", half_life_ms: int | None = None) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        check_half_life(half_life_ms)
        self.dim = dim
        self.feature_space = feature_space
        self.half_life_ms = half_life_ms
        self._packed = np.zeros((1, dim * (dim + 1) // 2))
        self._moment = np.zeros((1, dim))
        self._clocks = np.array([[first_exponent(half_life_ms), 0]], np.int64)
        self._counts = np.zeros((2, 1), np.int64)

    @property
    def impressions(self) -> int:
        """Impressions added."""
        return int(self._counts[0, 0])

    @property
    def rewards(self) -> int:
        """Rewards added."""
        return int(self._counts[1, 0])

    @property
    def latest_ms(self) -> int:
        """The latest time added, which the sums are discounted to; 0 without a half-life."""
        return int(self._clocks[0, 1])

    @property
    def gram(self) -> NDArray[np.float64]:
        """Sum of outer(x, x) over impressions, discounted to `latest_ms`: (F, F) float64, a copy."""
        return unpack(self._packed[0] * self._scale(), self.dim)

    @property
    def moment(self) -> NDArray[np.float64]:
        """Sum of x * reward over rewards, discounted to `latest_ms`: (F,) float64, a copy."""
        total: NDArray[np.float64] = self._moment[0] * self._scale()
        return total

    def add_impressions(
        self,
        features: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        weights: NDArray[Any] | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """Add shown items and return how many were used.

        Parameters
        ----------
        features : (n, F) float, one row per shown item; a row with NaN or infinity is left out
        arms : which item each row is; not looked at here
        times_ms : (n,) int or one int, when they were shown; needed with a half-life
        weights : (n,) float, chance that a row was looked at, 1 when not given: an item that is looked at
            half as often has half the rewards, and half the impressions make up for it
        offsets : where in the log they stand; not looked at here, where whoever saves the sums keeps the
            offset up to which they go
        """
        rows = check_rows(features, self.dim)
        times, exponents, factors = row_times(times_ms, len(rows), self.half_life_ms)
        factors = factors * check_weights(weights, len(rows))
        return self._fold(rows, factors, times, exponents)

    def add_rewards(
        self,
        features: NDArray[Any],
        rewards: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """Add rewards of items already added as impressions and return how many were used.

        Parameters
        ----------
        features : (n, F) float, the rows that were shown
        rewards : (n,) float; a reward or a row with NaN or infinity is left out
        arms : which item each row is; not looked at here
        times_ms : (n,) int or one int, when the items were shown (not rewarded); needed with a half-life
        offsets : as of `add_impressions`
        """
        rows = check_rows(features, self.dim)
        values = check_each("rewards", rewards, len(rows))
        times, exponents, factors = row_times(times_ms, len(rows), self.half_life_ms)
        slots = np.zeros(len(rows), np.int64)
        used = add_moment(
            rows, values, factors, times, exponents, slots,
            self._packed, self._moment, self._clocks, self._counts[1],
        )  # fmt: skip
        return int(used)

    def amend_impressions(
        self,
        features: NDArray[Any],
        weights: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """Add to the weights of items already added as impressions and return how many were used.

        Parameters
        ----------
        features : (n, F) float, the rows that were shown
        weights : (n,) float; -1 takes a row of weight 1 back, 1 puts it in again
        arms : which item each row is; not looked at here
        times_ms : (n,) int or one int, when the items were shown; needed with a half-life
        offsets : as of `add_impressions`
        """
        rows = check_rows(features, self.dim)
        values = check_each("weights", weights, len(rows))
        times, exponents, factors = row_times(times_ms, len(rows), self.half_life_ms)
        slots = np.zeros(len(rows), np.int64)
        used = add_outer(
            rows, factors * values, times, exponents, slots,
            self._packed, self._moment, self._clocks, np.zeros(1, np.int64),
        )  # fmt: skip
        return int(used)

    def _fold(
        self,
        rows: NDArray[np.float64],
        weights: NDArray[np.float64],
        times: NDArray[np.int64],
        exponents: NDArray[np.int64],
    ) -> int:
        slots = np.zeros(len(rows), np.int64)
        used = add_outer(
            rows, weights, times, exponents, slots,
            self._packed, self._moment, self._clocks, self._counts[0],
        )  # fmt: skip
        return int(used)

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        check_same_space(self.dim, self.feature_space, other)
        if self.half_life_ms != other.half_life_ms:
            raise ValueError(
                f"half_life_ms must be {self.half_life_ms} to be added, got {other.half_life_ms}"
            )
        total = self._empty()
        exponent = max(self._clocks[0, 0], other._clocks[0, 0])
        mine = power_of_two(self._clocks[0, 0] - exponent)
        theirs = power_of_two(other._clocks[0, 0] - exponent)
        total._packed = self._packed * mine + other._packed * theirs
        total._moment = self._moment * mine + other._moment * theirs
        total._clocks = np.array([[exponent, max(self.latest_ms, other.latest_ms)]], np.int64)
        total._counts = self._counts + other._counts
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinearStatistics):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(dim={self.dim}, feature_space={self.feature_space!r}, "
            f"impressions={self.impressions}, rewards={self.rewards})"
        )

    def copy(self) -> Self:
        """Return statistics that share no memory with these."""
        return self + self._empty()

    def to_bytes(self) -> bytes:
        """Return a versioned msgpack snapshot; equal statistics give equal bytes."""
        return _encode(self._snapshot())

    @classmethod
    def from_bytes(cls, data: bytes, *, dim: int | None = None, feature_space: str | None = None) -> Self:
        """Read what `to_bytes` wrote, exactly; a snapshot of schema 1 too.

        Raises
        ------
        ValueError
            The bytes are not a snapshot, are of another schema version, hold values that no stream of
            observations gives, or are not of the `dim` or `feature_space` asked for.
        """
        snapshot = read_snapshot(data)
        statistics = cls(
            snapshot.dim, feature_space=snapshot.feature_space, half_life_ms=snapshot.half_life_ms or None
        )
        check_same_space(
            statistics.dim if dim is None else dim,
            statistics.feature_space if feature_space is None else feature_space,
            statistics,
        )
        statistics._load(snapshot)
        return statistics

    def _empty(self) -> Self:
        return type(self)(self.dim, feature_space=self.feature_space, half_life_ms=self.half_life_ms)

    def _scale(self) -> Any:
        return scale_at(self._clocks[0, 0], self.latest_ms, self.half_life_ms)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            v=SCHEMA_VERSION,
            dim=self.dim,
            feature_space=self.feature_space,
            impressions=self.impressions,
            rewards=self.rewards,
            gram=self._packed.astype("<f8").tobytes(),
            moment=self._moment.astype("<f8").tobytes(),
            half_life_ms=self.half_life_ms or 0,
            clock=(int(self._clocks[0, 0]), self.latest_ms),
        )

    def _load(self, snapshot: Snapshot) -> None:
        dim = self.dim
        if snapshot.v == 1:
            gram = read_floats(snapshot.gram, (dim, dim), "gram")
            self._packed = gram[np.tril_indices(dim)][None]
        else:
            self._packed = read_floats(snapshot.gram, self._packed.shape, "gram")
        self._moment = read_floats(snapshot.moment, (1, dim), "moment")
        self._clocks = np.array([snapshot.clock], np.int64)
        self._counts = np.array([[snapshot.impressions], [snapshot.rewards]], np.int64)


def check_same_space(dim: int, feature_space: str, statistics: InSpace) -> None:
    """Raise ValueError unless `statistics` are over `dim` features of `feature_space`."""
    if statistics.dim != dim:
        raise ValueError(f"statistics must have dim {dim}, got {statistics.dim}")
    if statistics.feature_space != feature_space:
        raise ValueError(
            f"statistics must be of feature_space {feature_space!r}, got {statistics.feature_space!r}"
        )


def read_snapshot(data: bytes) -> Snapshot:
    """Return what `to_bytes` wrote, or raise ValueError."""
    try:
        version = _decode_version(data).get("v")
        if version not in (1, SCHEMA_VERSION):
            raise ValueError(f"statistics must have schema version {SCHEMA_VERSION}, got {version!r}")
        snapshot = _decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a statistics snapshot: {error}") from None
    if snapshot.impressions < 0 or snapshot.rewards < 0:
        raise ValueError(
            f"impressions and rewards must be at least 0, got {snapshot.impressions} and {snapshot.rewards}"
        )
    return snapshot
