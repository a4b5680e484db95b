"""Learning: the statistics of all partitions, merged, go to the policies; those of slates, to the shards."""

import asyncio
import time
from collections.abc import Sequence

from online_learning.policies.logistic_thompson import LogisticThompsonPolicy
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.position_bias import POSITIONS, PositionStatistics, examination
from online_learning.statistics.sums import Statistics
from streams.events import MAX_SLATE
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.state.shard import Shard, decode_policy_row

LEARN_INTERVAL_S = 0.2
POSITIONS_INTERVAL_S = 1.0


class Learner:
    """Holds what other workers have learned, by partition, and merges it with what this one's shards have."""

    def __init__(self, policies: PolicySet, metrics: Metrics) -> None:
        self._policies = policies
        self._learning = policies.learning
        self._metrics = metrics
        self._foreign: dict[int, Statistics] = {}
        self._foreign_positions: dict[int, PositionStatistics] = {}
        self._learned = -1
        self._learn_after = 0.0
        self._positions_seen = 0

    # Partitions of other workers

    def keep(self, shard: Shard) -> None:
        """Take over what a shard knows whose partition goes to another worker."""
        self._foreign[shard.partition] = shard.statistics
        if shard.positions is not None:
            self._foreign_positions[shard.partition] = shard.positions

    def drop(self, partition: int) -> None:
        """Forget a partition that a shard of this worker has from now on."""
        self._foreign.pop(partition, None)
        self._foreign_positions.pop(partition, None)

    def on_statistics(self, partition: int, value: bytes) -> None:
        """Take in a `PolicyRow` of another worker's partition."""
        row = decode_policy_row(value)
        if row.feature_space != self._learning.feature_space:
            return
        if row.statistics:
            self._foreign[partition] = self._learning.read(row.statistics)
        if row.positions:
            self._foreign_positions[partition] = PositionStatistics.from_bytes(row.positions)

    def on_arm(self, partition: int, value: bytes) -> None:
        """Take in one item's row of another worker's partition."""
        if self._learning.kind == "arms":
            foreign = self._foreign.setdefault(partition, self._learning.empty())
            assert isinstance(foreign, ArmStatistics)
            foreign.load_row(value)

    # Again and again

    async def learn(self, shards: Sequence[Shard]) -> None:
        """Let the policies adopt the merged statistics when they have changed."""
        # With a model per item this takes longer the more there are: it may have a tenth of the time.
        started = time.perf_counter()
        if started < self._learn_after:
            return
        parts = [*self._foreign.values(), *(shard.statistics for shard in shards)]
        seen = sum(part.impressions + part.rewards for part in parts)
        if not parts or seen == self._learned:
            return
        with self._metrics.time_stage("learn"):
            total = self._learning.empty()
            for part in parts:
                total = total + part
            self._policies.update(total)
        learner = self._policies.learner
        if isinstance(learner, LogisticThompsonPolicy):
            for shard in shards:
                shard.next_reference = learner.weights
        self._learned = seen
        self._learn_after = started + 10.0 * (time.perf_counter() - started)
        self._metrics.policy_version.set(learner.version)

    async def learn_positions(self, shards: Sequence[Shard]) -> None:
        """Estimate how often positions are looked at, when a hundredth more slates have closed."""
        own = [shard.positions for shard in shards if shard.positions is not None]
        total = sum([*own, *self._foreign_positions.values()], PositionStatistics())
        if not own or total.shown.sum() <= 1.01 * self._positions_seen:
            return
        self._positions_seen = int(total.shown.sum())
        looked_at = await asyncio.to_thread(examination, total, MAX_SLATE)
        for shard in shards:
            shard.next_examination = looked_at
        self._metrics.set_examination(looked_at[:POSITIONS])
