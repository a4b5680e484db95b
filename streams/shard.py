"""A shard: everything folded from partition p of the user-keyed topics."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_core.co_visitation import CoVisitation
from online_learning.arm_statistics import ArmStatistics
from online_learning.attribution import PendingSlates
from online_learning.logistic import LogisticStatistics
from online_learning.statistics import Statistics
from streams.decoding import ClickColumns
from streams.events import Recommendation
from streams.metrics import Metrics
from streams.progress import Progress, RecentIds
from streams.state.item_index import ItemIndex, key_of, keys_of
from streams.state.profiles import DUPLICATE, REPLAYED, Profiles, fold_clicks

STATISTICS_PREFIX = b"statistics\0"
ARM_PREFIX = b"arm\0"
POLICY_ROW_VERSION = 1


class PolicyRow(msgspec.Struct, frozen=True, array_like=True):
    """The bandit's changelog row of one partition, in `policy-state`.

    clicks_offset and recommendations_offset are the last ones in the sums; open_from is where the
    recommendations begin that may still be rewarded; closed_ms is the watermark slates were closed at.
    statistics is empty where the policy has a model per item: each of these has a row of its own, written
    before this one.
    """

    v: int
    feature_space: str
    clicks_offset: int
    recommendations_offset: int
    open_from: int
    closed_ms: int
    statistics: bytes


encode_policy_row = msgspec.msgpack.Encoder().encode
_decode_policy_row = msgspec.msgpack.Decoder(PolicyRow).decode


def decode_policy_row(value: bytes) -> PolicyRow:
    """Read a row; a schema of the future is a clear error."""
    row = _decode_policy_row(value)
    if row.v > POLICY_ROW_VERSION:
        raise ValueError(
            f"policy-state row has schema {row.v}; this version reads up to {POLICY_ROW_VERSION}"
        )
    return row


def statistics_key(partition: int) -> bytes:
    """Key of a partition's row of bandit statistics."""
    return STATISTICS_PREFIX + partition.to_bytes(2, "big")


def arm_key(partition: int, arm: int) -> bytes:
    """Key of a partition's row of one item's bandit statistics."""
    return ARM_PREFIX + partition.to_bytes(2, "big") + arm.to_bytes(8, "big")


@dataclass(slots=True)
class Flushed:
    """Click positions (next offset) that the changelogs cover, per kind of row."""

    users: int = 0
    shared: int = 0
    statistics: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Shard:
    """State of one partition, and how far each of its topics has been folded.

    holding has the offsets of clicks whose own slate (`recommend_on`) is not published yet: their offsets
    must not be committed. epochs has the ledger epoch per topic. next_reference is where logistic
    statistics will be developed from the next flush on.
    """

    partition: int
    profiles: Profiles
    covisits: CoVisitation
    statistics: Statistics
    slates: PendingSlates
    clicks: Progress = field(default_factory=Progress)
    users: Progress = field(default_factory=Progress)
    answered: RecentIds = field(default_factory=RecentIds)
    watermark_ms: int = 0
    rewarded_offset: int = -1
    recommended_offset: int = -1
    published: deque[tuple[int, str]] = field(default_factory=deque)
    holding: set[int] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    flushed: Flushed = field(default_factory=Flushed)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    position_bias: float = 0.0
    next_reference: NDArray[np.float64] | None = None

    def fold(
        self, columns: ClickColumns, index: ItemIndex, positive: frozenset[str], metrics: Metrics
    ) -> NDArray[np.uint8]:
        """Fold accepted clicks into profiles, co-visits and the bandit; return what became of each."""
        users = self.profiles.rows_of(columns.users)
        items = index.rows_of(columns.items)
        outcomes = fold_clicks(
            self.profiles,
            self.covisits,
            index,
            users=users,
            items=items,
            actions=columns.actions,
            times=columns.times,
            event_keys=columns.event_keys,
            offsets=columns.offsets,
        )
        if self.slates.users:
            self._reward(columns, outcomes, positive, metrics)
        if len(columns):
            self.rewarded_offset = max(self.rewarded_offset, int(columns.offsets[-1]))
            newest = np.minimum(columns.times, columns.broker_times).max()
            self.watermark_ms = max(self.watermark_ms, int(newest))
        return outcomes

    def _reward(
        self,
        columns: ClickColumns,
        outcomes: NDArray[np.uint8],
        positive: frozenset[str],
        metrics: Metrics,
    ) -> None:
        """Join clicks with the open slates of their users; those already in the sums are left out."""
        waiting = self.slates.users
        rewarded: list[tuple[NDArray[np.float32], int, int, int]] = []
        for row, user in enumerate(columns.users):
            if user not in waiting or outcomes[row] == DUPLICATE:
                continue
            offset = int(columns.offsets[row])
            if offset <= self.rewarded_offset:
                continue
            click = columns.clicks[row]
            found = self.slates.attribute(
                user, click.item_id, click.action, click.timestamp_ms, click.request_id, offset=offset
            )
            metrics.count_rewards(found.outcome)
            if found.slate is None or click.action not in positive:
                continue
            earlier = [action for action in found.slate.actions[found.position] if action in positive]
            if len(earlier) == 1:  # the policy learns whether an item was taken, not how often
                rewarded.append((found.features, key_of(click.item_id), found.slate.timestamp_ms, offset))
        if rewarded:
            features, arms, times, offsets = zip(*rewarded, strict=True)
            self.statistics.add_rewards(
                np.stack(features),
                np.ones(len(rewarded)),
                arms=np.array(arms, np.uint64),
                times_ms=np.array(times, np.int64),
                offsets=np.array(offsets, np.int64),
            )

    def open_slate(self, record: Recommendation, features: NDArray[np.float32]) -> None:
        """Let a slate be rewarded from now on."""
        if record.slate:
            self.slates.add(
                record.request_id,
                record.user_id,
                tuple(item.item_id for item in record.slate),
                features,
                record.timestamp_ms,
                record=record,
                after_offset=record.clicks_offset,
            )

    def count_slate(self, record: Recommendation, features: NDArray[np.float32], offset: int) -> None:
        """Count a published slate's impressions; a record already in the sums is not counted again."""
        self.published.append((offset, record.request_id))
        if offset > self.recommended_offset:
            self.recommended_offset = offset
            if len(features):
                self.statistics.add_impressions(
                    features,
                    arms=keys_of(item.item_id for item in record.slate),
                    times_ms=record.timestamp_ms,
                    weights=np.arange(1, len(features) + 1) ** -self.position_bias,
                    offsets=offset,
                )

    def policy_row(self) -> PolicyRow:
        """The bandit's row as of now."""
        # Only here: what a restart reads again after this row is developed where it was the first time.
        if self.next_reference is not None and isinstance(self.statistics, LogisticStatistics):
            self.statistics.develop_at(self.next_reference)
        while self.published and self.published[0][1] not in self.slates:
            self.published.popleft()
        open_from = self.published[0][0] if self.published else self.recommended_offset + 1
        return PolicyRow(
            v=POLICY_ROW_VERSION,
            feature_space=self.statistics.feature_space,
            clicks_offset=self.rewarded_offset,
            recommendations_offset=self.recommended_offset,
            open_from=open_from,
            closed_ms=self.watermark_ms,
            statistics=b"" if isinstance(self.statistics, ArmStatistics) else self.statistics.to_bytes(),
        )

    def arm_rows(self) -> list[tuple[bytes, bytes]]:
        """Rows of the items whose statistics have changed; they go out before `policy_row`."""
        if not isinstance(self.statistics, ArmStatistics):
            return []
        return [(arm_key(self.partition, arm), row) for arm, row in self.statistics.take_dirty()]

    def committable_clicks(self) -> int:
        """The last click offset that nothing waits for any more."""
        flushed = min(self.flushed.users, self.flushed.shared)
        return min([flushed, *self.holding]) - 1


def features_of(record: Recommendation, dim: int) -> NDArray[np.float32]:
    """Feature rows of a published slate: (len(slate), feature_dim) float32."""
    rows = np.frombuffer(record.features, "<f4").astype(np.float32)
    if record.feature_dim != dim or rows.size != len(record.slate) * dim:
        return np.zeros((0, dim), np.float32)
    return rows.reshape(len(record.slate), dim)


def count_outcomes(outcomes: NDArray[np.uint8], metrics: Metrics, topic: str) -> None:
    """Count what became of folded rows."""
    duplicates = int(np.count_nonzero(outcomes == DUPLICATE))
    replayed = int(np.count_nonzero(outcomes == REPLAYED))
    counts: Sequence[tuple[str, int]] = (
        ("accepted", len(outcomes) - duplicates - replayed),
        ("duplicate", duplicates),
        ("replayed", replayed),
    )
    for outcome, count in counts:
        if count:
            metrics.count_events(topic, outcome, count)
