"""Records of `feedback` as steps that reinforcement learning reads."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from online_learning.rl.steps import Steps, follow
from streams.events import UNDECODABLE, Feedback, decode_feedback
from streams.ope.command import read_file, read_topic
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class FeedbackLog:
    """Slates of one model, by time.

    Attributes
    ----------
    features : (N, K, F) float32, rewards, propensities : (N, K) float32, 0 after a slate's end
    index : (N, K) int64, the position itself, -1 after a slate's end
    users, policies : (N,) str
    times_ms : (N,) int64, not falling
    model_version : of the model that made the features
    left_out : records that are not among them, by reason
    """

    features: NDArray[np.float32]
    rewards: NDArray[np.float32]
    propensities: NDArray[np.float32]
    index: NDArray[np.int64]
    users: NDArray[np.str_]
    policies: NDArray[np.str_]
    times_ms: NDArray[np.int64]
    model_version: str
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.users)

    def steps(self, rows: slice, *, gap_ms: int) -> Steps:
        """Return a stretch of them as sessions that end where the stretch does."""
        return Steps(
            self.features[rows], self.index[rows] >= 0, self.index[rows], self.rewards[rows],
            self.propensities[rows], follow(self.users[rows], self.times_ms[rows], gap_ms=gap_ms),
            complete=False,
        )  # fmt: skip


def read_feedback(settings: Settings, file: Path | None) -> FeedbackLog:
    """Read a file with a record a line, or else all that the topic holds.

    Of several records about a request the last one counts: it is a correction, or the same again. Slates of
    models before the latest one are left out, for their features mean something else.

    Raises
    ------
    ValueError
        If no usable slate is left.
    """
    slates: dict[str, Feedback] = {}
    left_out: Counter[str] = Counter()

    def add(value: bytes | None) -> None:
        try:
            record = decode_feedback(value or b"")
        except UNDECODABLE:
            left_out["undecodable"] += 1
            return
        if (reason := _unusable(record)) is not None:
            left_out[reason] += 1
            return
        left_out["repeated"] += record.request_id in slates
        slates[record.request_id] = record

    if file is not None:
        read_file(file, add)
    else:
        asyncio.run(read_topic(settings, add))
    ordered = sorted(slates.values(), key=lambda record: (record.timestamp_ms, record.request_id))
    if not ordered:
        raise ValueError(f"feedback must hold at least one usable slate, got none ({dict(left_out)})")
    latest = ordered[-1]
    kept = [record for record in ordered if _space(record) == _space(latest)]
    left_out["other model"] += len(ordered) - len(kept)
    return _columns(kept, {reason: n for reason, n in left_out.items() if n})


def _space(record: Feedback) -> tuple[str, int]:
    return record.model_version, record.feature_dim


def _unusable(record: Feedback) -> str | None:
    n = len(record.slate)
    if not n:
        return "empty"
    if (
        len(record.rewards) != n
        or len(record.features) != 4 * n * record.feature_dim
        or not record.feature_dim
    ):
        return "lengths"
    if not all(0.0 < item.propensity <= 1.0 for item in record.slate):
        return "propensity"
    numbers = np.frombuffer(record.features, "<f4")
    if not np.isfinite(numbers).all() or not np.isfinite(record.rewards).all():
        return "not finite"
    return None


def _columns(kept: list[Feedback], left_out: dict[str, int]) -> FeedbackLog:
    n, width, dim = len(kept), max(len(record.slate) for record in kept), kept[0].feature_dim
    features = np.zeros((n, width, dim), np.float32)
    rewards, propensities = np.zeros((n, width), np.float32), np.zeros((n, width), np.float32)
    index = np.full((n, width), -1, np.int64)
    for row, record in enumerate(kept):
        length = len(record.slate)
        features[row, :length] = np.frombuffer(record.features, "<f4").reshape(length, dim)
        rewards[row, :length] = record.rewards
        propensities[row, :length] = [item.propensity for item in record.slate]
        index[row, :length] = np.arange(length)
    return FeedbackLog(
        features, rewards, propensities, index,
        np.array([record.user_id for record in kept], np.str_),
        np.array([record.policy for record in kept], np.str_),
        np.array([record.timestamp_ms for record in kept], np.int64),
        kept[-1].model_version, left_out,
    )  # fmt: skip
