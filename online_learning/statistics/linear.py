"""Statistics of policies with one model for all items: sums over impressions and rewards."""

from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.decay import power_of_two
from online_learning.statistics.observations import Count, Int64, read_floats, unpack
from online_learning.statistics.sums import Rows, Statistics, check_same_space

SCHEMA_VERSION = 2


class Snapshot(msgspec.Struct, frozen=True):
    """The form that `to_bytes` writes."""

    v: int
    dim: int
    feature_space: str
    impressions: Count
    rewards: Count
    gram: bytes  # lower triangle by rows (schema 1: the whole matrix), float64, little-endian
    moment: bytes  # dim float64, little-endian
    half_life_ms: Int64 = 0  # 0: nothing is forgotten
    clock: tuple[Int64, Int64] = (0, 0)
    reference: bytes = b""  # of logistic statistics: dim float64, little-endian


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode
_decode_version = msgspec.msgpack.Decoder(dict[str, Any]).decode


class LinearStatistics(Statistics):
    """Sufficient statistics of a linear model of reward: additive over observations and partitions.

    An impression is counted when its slate is served, a reward when an event is attributed to it, so an
    item shown and not clicked counts as reward 0 from the moment it was shown.

    Rows are added one after another in float64: cutting a stream into batches in any way gives the same
    bits. Adding the statistics of partitions (`+`) equals one stream up to floating-point rounding.

    With a half-life, an observation's weight halves with every `half_life_ms` that lies between its time
    and the latest time seen (`online_learning.statistics.decay`). A reward must be given the time of its
    impression: both then weigh the same for ever.

    Parameters
    ----------
    dim : number of features F
    feature_space : names what the features mean, e.g. the version of the model release that makes them.
        Sums over different feature spaces have no meaning and refuse to be added.
    half_life_ms : in the unit of the times, at least 1; None forgets nothing
    """

    kind = "linear"

    def __init__(self, dim: int, *, feature_space: str = "", half_life_ms: int | None = None) -> None:
        super().__init__(dim, feature_space=feature_space, half_life_ms=half_life_ms, slots=1)

    @classmethod
    def blank(cls, prior: Any, *, half_life_ms: int | None) -> Self:
        """See `Statistics.blank`."""
        return cls(len(prior.weights), feature_space=prior.feature_space, half_life_ms=half_life_ms)

    @classmethod
    def read_for(cls, data: bytes, prior: Any, *, half_life_ms: int | None) -> Self:
        """See `Statistics.read_for`."""
        return cls.from_bytes(data, dim=len(prior.weights), feature_space=prior.feature_space)

    @classmethod
    def of_sums(
        cls,
        gram: NDArray[np.float64],
        moment: NDArray[np.float64],
        *,
        impressions: int,
        rewards: int,
        feature_space: str = "",
    ) -> Self:
        """Return statistics that forget nothing, of sums that somebody else has made.

        Parameters
        ----------
        gram : (F, F) float64, symmetric; moment : (F,) float64
        """
        statistics = cls(len(moment), feature_space=feature_space)
        statistics._packed = gram[np.tril_indices(len(moment))][None].copy()
        statistics._moment = np.array(moment, np.float64)[None]
        statistics._counts = np.array([[impressions], [rewards]], np.int64)
        return statistics

    @property
    def gram(self) -> NDArray[np.float64]:
        """Sum of outer(x, x) over impressions, discounted to `latest_ms`: (F, F) float64, a copy."""
        return unpack(self._packed[0] * self._scale()[0], self.dim)

    @property
    def moment(self) -> NDArray[np.float64]:
        """Sum of x * reward over rewards, discounted to `latest_ms`: (F,) float64, a copy."""
        total: NDArray[np.float64] = self._moment[0] * self._scale()[0]
        return total

    def _admit(
        self, arms: NDArray[np.uint64] | None, n: int, offsets: NDArray[Any] | int | None, kind: int
    ) -> tuple[NDArray[np.int64], Rows]:
        return np.zeros(n, np.int64), slice(None)

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        self._check_like(other)
        total = self.empty()
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

    def take_out(self, part: Self) -> bool:
        """See `Statistics.take_out`."""
        whole = np.zeros(1, np.int64)
        return self._take_out(whole, part, whole)

    def copy(self) -> Self:
        """Return statistics that share no memory with these."""
        return self + self.empty()

    def take_changes(self, most: int) -> Self | None:
        """See `Statistics.take_changes`; there is one part, the whole."""
        if not self._changed:
            return None
        self._changed = False
        return self.copy()

    def touch(self) -> None:
        """See `Statistics.touch`."""
        self._changed = True

    def replace(self, changes: Self) -> None:
        """See `Statistics.replace`."""
        self._check_like(changes)
        for name in ("_packed", "_moment", "_clocks", "_counts"):
            setattr(self, name, getattr(changes, name).copy())
        self._changed = True

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
        check_same_space(
            snapshot.dim if dim is None else dim,
            snapshot.feature_space if feature_space is None else feature_space,
            snapshot,
        )
        statistics = cls(
            snapshot.dim, feature_space=snapshot.feature_space, half_life_ms=snapshot.half_life_ms or None
        )
        statistics._load(snapshot)
        return statistics

    def empty(self) -> Self:
        """See `Statistics.empty`."""
        return type(self)(self.dim, feature_space=self.feature_space, half_life_ms=self.half_life_ms)

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


def read_snapshot(data: bytes) -> Snapshot:
    """Return what `to_bytes` wrote, or raise ValueError."""
    try:
        version = _decode_version(data).get("v")
        if version not in (1, SCHEMA_VERSION):
            raise ValueError(f"statistics must have schema version {SCHEMA_VERSION}, got {version!r}")
        snapshot = _decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a statistics snapshot: {error}") from None
    return snapshot
