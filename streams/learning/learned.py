"""Statistics that a release's policy starts with: sums over other releases' slates, in its own features.

The trainer works them out from `feedback` (`streams.trainer.refit`). They are a file of the release, so its
version vouches for them, and they are added to what workers learn of this release's own slates. No slate is
in both, for a version is made after the slates that its sums are of. They are of all partitions together, so
it does not matter how many partitions there are.
"""

import logging
from pathlib import Path

import msgspec

from model_core.release.folder import LEARNED, Release
from online_learning.policies.registry import Learning
from online_learning.statistics.sums import Statistics
from streams.events import UNDECODABLE

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1


class Learned(msgspec.Struct, frozen=True, array_like=True):
    """The file: statistics by `to_bytes`, in a feature space without the release's version.

    That has the file among its contents, so the file cannot name it. `space` tells how is learned.
    """

    v: int
    space: str
    dim: int
    statistics: bytes


encode_learned = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Learned).decode


def read_learned(
    folder: Path | None, release: Release, unnamed: Learning, named: Learning
) -> Statistics | None:
    """Return what a release's policy begins with; None for nothing.

    Parameters
    ----------
    folder : of the release, whose checksums were right
    unnamed, named : what the policy of the settings learns from, without and with the release's version

    Raises
    ------
    ValueError
        If the file is of a newer schema, or is none of these.
    """
    if folder is None or "learned" not in release.training or not (folder / LEARNED).is_file():
        return None  # a file that the manifest says nothing of is nobody's
    try:
        row = _decode((folder / LEARNED).read_bytes())
    except UNDECODABLE as error:
        raise ValueError(f"{LEARNED} of release {release.version} is damaged: {error}") from None
    if row.v > SCHEMA_VERSION:
        raise ValueError(
            f"{LEARNED} of release {release.version} has schema {row.v}; this version reads up to "
            f"{SCHEMA_VERSION}"
        )
    if (row.space, row.dim) != (unnamed.feature_space, release.feature_dim):
        log.warning(
            "release %s begins with nothing learned: what it has is of %r with %d features, the settings "
            "learn %r with %d", release.version, row.space, row.dim, unnamed.feature_space,
            release.feature_dim,
        )  # fmt: skip
        return None
    statistics = unnamed.read(row.statistics)
    statistics.move_to(named.prior)
    return statistics
