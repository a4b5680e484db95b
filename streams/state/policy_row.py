"""Rows of bandit statistics in `policy-state`: of a partition, and of the parts of its statistics."""

import msgspec

from streams.events import UNDECODABLE
from streams.state.feature_spaces import SpaceRow, space_key
from streams.state.row_versions import unreadable

STATISTICS_PREFIX = b"statistics\0"
ARM_PREFIX = b"arm\0"
POLICY_ROW_VERSION = 1


class PolicyRow(msgspec.Struct, frozen=True, array_like=True):
    """The bandit's changelog row of one partition, in `policy-state`.

    clicks_offset and recommendations_offset are the last ones in the sums; open_from is where the
    recommendations begin that may still be rewarded; closed_ms is the watermark slates were closed at.
    statistics is empty where each part of them has a row of its own, written before this one. positions is
    of the slates closed so far, and examination what the slates after this row are weighed by; both are
    empty where position bias is not learned. others are the statistics of releases that served before, and
    dim is the number of features of the one that serves; 0 in rows from before there were others.
    """

    v: int
    feature_space: str
    clicks_offset: int
    recommendations_offset: int
    open_from: int
    closed_ms: int
    statistics: bytes
    positions: bytes = b""
    examination: tuple[float, ...] = ()
    dim: int = 0
    others: tuple[SpaceRow, ...] = ()

    @property
    def spaces(self) -> list[SpaceRow]:
        """The statistics of all releases, that of the one that serves last."""
        return [*self.others, SpaceRow(self.feature_space, self.dim, self.statistics)]


encode_policy_row = msgspec.msgpack.Encoder().encode
_decode_policy_row = msgspec.msgpack.Decoder(PolicyRow).decode


def decode_policy_row(value: bytes) -> PolicyRow:
    """Read a row.

    Raises
    ------
    ValueError
        If the row is damaged or of a newer schema.
    """
    what = "policy-state row of statistics"
    try:
        row = _decode_policy_row(value)
    except UNDECODABLE as error:
        raise unreadable(what, value, POLICY_ROW_VERSION, error) from None
    if row.v > POLICY_ROW_VERSION:
        raise unreadable(what, value, POLICY_ROW_VERSION)
    return row


def statistics_key(partition: int) -> bytes:
    """Key of a partition's row of bandit statistics."""
    return STATISTICS_PREFIX + partition.to_bytes(2, "big")


def arm_key(partition: int, arm: int, feature_space: str | None = None) -> bytes:
    """Key of a partition's row of one part, an item's, of bandit statistics.

    Without a feature space it is that of a row from before each release had rows of its own.
    """
    space = b"" if feature_space is None else space_key(feature_space)
    return ARM_PREFIX + partition.to_bytes(2, "big") + arm.to_bytes(8, "big") + space


def arm_of(key: bytes) -> int:
    """Return the arm that an `arm_key` names."""
    return int.from_bytes(key[_ARM], "big")


def is_arm_in(key: bytes, feature_space: str) -> bool:
    """Whether an `arm_key` may be one of a feature space."""
    space = key[_ARM.stop :]
    return not space or space == space_key(feature_space)


_ARM = slice(len(ARM_PREFIX) + 2, len(ARM_PREFIX) + 10)
