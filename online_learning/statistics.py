"""What the linear policies learn from: sums over impressions and rewards."""

from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.kernels import accumulate_moment, accumulate_outer

SCHEMA_VERSION = 1


class _Snapshot(msgspec.Struct, frozen=True):
    v: int
    dim: int
    feature_space: str
    impressions: int
    rewards: int
    gram: bytes  # dim x dim float64, little-endian, row-major
    moment: bytes  # dim float64, little-endian


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode
_decode_version = msgspec.msgpack.Decoder(dict[str, Any]).decode


class LinearStatistics:
    """Sufficient statistics of a linear model of reward: additive over observations and partitions.

    An impression is counted when its slate is served, a reward when an event is attributed to it, so an
    item shown and not clicked counts as reward 0 from the moment it was shown.

    Rows are added one after another in float64: cutting a stream into batches in any way gives the same
    bits. Adding the statistics of partitions (`+`) equals one stream up to floating-point rounding.

    Parameters
    ----------
    dim : number of features F
    feature_space : names what the features mean, e.g. the version of the model release that makes them.
        Sums over different feature spaces have no meaning and refuse to be added.

    Attributes
    ----------
    gram : (F, F) float64, sum of outer(x, x) over impressions
    moment : (F,) float64, sum of x * reward over rewards
    impressions, rewards : how many of each have been added
    """

    __slots__ = ("dim", "feature_space", "gram", "impressions", "moment", "rewards")

    def __init__(self, dim: int, *, feature_space: str = "") -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.dim = dim
        self.feature_space = feature_space
        self.gram = np.zeros((dim, dim))
        self.moment = np.zeros(dim)
        self.impressions = 0
        self.rewards = 0

    def add_impressions(self, features: NDArray[Any]) -> int:
        """Add shown items and return how many were used.

        Parameters
        ----------
        features : (n, F) float, one row per shown item; a row with NaN or infinity is left out
        """
        used = int(accumulate_outer(self._rows(features), self.gram))
        self.impressions += used
        return used

    def add_rewards(self, features: NDArray[Any], rewards: NDArray[Any]) -> int:
        """Add rewards of items already added as impressions and return how many were used.

        Parameters
        ----------
        features : (n, F) float, the rows that were shown
        rewards : (n,) float; a reward or a row with NaN or infinity is left out
        """
        rows = self._rows(features)
        values = np.ascontiguousarray(rewards, dtype=np.float64)
        if values.shape != (len(rows),):
            raise ValueError(f"rewards must have shape ({len(rows)},) as the features, got {values.shape}")
        used = int(accumulate_moment(rows, values, self.moment))
        self.rewards += used
        return used

    def __add__(self, other: "LinearStatistics") -> "LinearStatistics":
        if not isinstance(other, LinearStatistics):
            return NotImplemented
        check_same_space(self.dim, self.feature_space, other)
        total = LinearStatistics(self.dim, feature_space=self.feature_space)
        total.gram = self.gram + other.gram
        total.moment = self.moment + other.moment
        total.impressions = self.impressions + other.impressions
        total.rewards = self.rewards + other.rewards
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinearStatistics):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"LinearStatistics(dim={self.dim}, feature_space={self.feature_space!r}, "
            f"impressions={self.impressions}, rewards={self.rewards})"
        )

    def copy(self) -> "LinearStatistics":
        """Return statistics that share no memory with these."""
        return self + LinearStatistics(self.dim, feature_space=self.feature_space)

    def to_bytes(self) -> bytes:
        """Return a versioned msgpack snapshot; equal statistics give equal bytes."""
        return _encode(
            _Snapshot(
                v=SCHEMA_VERSION,
                dim=self.dim,
                feature_space=self.feature_space,
                impressions=self.impressions,
                rewards=self.rewards,
                gram=self.gram.astype("<f8").tobytes(),
                moment=self.moment.astype("<f8").tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, dim: int | None = None, feature_space: str | None = None) -> Self:
        """Read what `to_bytes` wrote, exactly.

        Raises
        ------
        ValueError
            The bytes are not a snapshot, are of another schema version, hold values that no stream of
            observations gives, or are not of the `dim` or `feature_space` asked for.
        """
        snapshot = _read(data)
        statistics = cls(snapshot.dim, feature_space=snapshot.feature_space)
        check_same_space(
            statistics.dim if dim is None else dim,
            statistics.feature_space if feature_space is None else feature_space,
            statistics,
        )
        statistics.gram = _floats(snapshot.gram, (snapshot.dim, snapshot.dim), "gram")
        statistics.moment = _floats(snapshot.moment, (snapshot.dim,), "moment")
        statistics.impressions = snapshot.impressions
        statistics.rewards = snapshot.rewards
        return statistics

    def _rows(self, features: NDArray[Any]) -> NDArray[np.float64]:
        rows = np.ascontiguousarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"features must have shape (n, {self.dim}), got {rows.shape}")
        return rows


def check_same_space(dim: int, feature_space: str, statistics: LinearStatistics) -> None:
    """Raise ValueError unless `statistics` are over `dim` features of `feature_space`."""
    if statistics.dim != dim:
        raise ValueError(f"statistics must have dim {dim}, got {statistics.dim}")
    if statistics.feature_space != feature_space:
        raise ValueError(
            f"statistics must be of feature_space {feature_space!r}, got {statistics.feature_space!r}"
        )


def _read(data: bytes) -> _Snapshot:
    try:
        version = _decode_version(data).get("v")
        if version != SCHEMA_VERSION:
            raise ValueError(f"statistics must have schema version {SCHEMA_VERSION}, got {version!r}")
        snapshot = _decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a statistics snapshot: {error}") from None
    if snapshot.impressions < 0 or snapshot.rewards < 0:
        raise ValueError(
            f"impressions and rewards must be at least 0, got {snapshot.impressions} and {snapshot.rewards}"
        )
    return snapshot


def _floats(data: bytes, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    wanted = 8 * int(np.prod(shape))
    if len(data) != wanted:
        raise ValueError(f"{name} must have {wanted} bytes for shape {shape}, got {len(data)}")
    values = np.frombuffer(data, "<f8").astype(np.float64).reshape(shape)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return values
