"""Learning: the statistics of all partitions, merged, go to the policies; those of slates, to the shards."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.position_bias import POSITIONS, PositionStatistics, examination
from online_learning.statistics.sums import Statistics
from streams.events import MAX_SLATE
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.state.policy_row import ARM_PREFIX, STATISTICS_PREFIX, arm_of, decode_policy_row, is_arm_in
from streams.state.shard import Shard

LEARN_INTERVAL_S = 0.2
POSITIONS_INTERVAL_S = 1.0

BEGUN = -1
"""Stands for a partition in the place of what the release begins with."""

# Parts of statistics that are copied in one callback of the event loop: a model of 70 features has 20 kB.
PARTS_AT_ONCE = 64


@dataclass(slots=True)
class _Copy:
    """A copy that a thread may read while the event loop adds to `source`; pieces are yet to be put in."""

    source: Statistics
    statistics: Statistics
    n_forgotten: int
    pieces: list[Statistics] = field(default_factory=list)


class Learner:
    """Holds what other workers have learned, by partition, and merges it with what this one's shards have.

    All of it is of one feature space, that of the policies: there is a learner for each release. `begun` is
    what that release begins with, from slates that other releases made; it is all that the policies adopt
    unless they learn `online`.

    Sums are added to on the event loop and learned from in a thread. Between them stands a copy by partition,
    brought up to date a few parts at a time: no callback copies more than `PARTS_AT_ONCE`, and matrices are
    inverted in the thread alone.
    """

    def __init__(
        self,
        policies: PolicySet,
        metrics: Metrics,
        *,
        begun: Statistics | None = None,
        online: bool = True,
    ) -> None:
        self._policies = policies
        self._learning = policies.learning
        self._metrics = metrics
        self._begun = {} if begun is None else {BEGUN: begun}
        self._online = online
        self._foreign: dict[int, Statistics] = {}
        self._foreign_positions: dict[int, PositionStatistics] = {}
        self._copies: dict[int, _Copy] = {}
        self._learn_after = 0.0
        self._turn = asyncio.Lock()  # a release that begins asks beside the clock
        self._positions_seen = 0

    # Partitions of other workers

    def keep(self, shard: Shard) -> None:
        """Take over what a shard knows whose partition goes to another worker."""
        shard.learning.count_published()
        if (statistics := self._of(shard)) is not None:
            self._foreign[shard.partition] = statistics
        if shard.learning.positions is not None:
            self._foreign_positions[shard.partition] = shard.learning.positions

    def drop(self, partition: int) -> None:
        """Forget a partition that a shard of this worker has from now on."""
        self._foreign.pop(partition, None)
        self._foreign_positions.pop(partition, None)

    def on_row(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take in a row of `policy-state` of another worker's partition; others say nothing here."""
        if key.startswith(STATISTICS_PREFIX):
            self.on_statistics(partition, value or b"")
        elif key.startswith(ARM_PREFIX) and value is not None:
            self.on_arm(partition, value)
        elif key.startswith(ARM_PREFIX) and is_arm_in(key, self._learning.feature_space):
            self.on_arm_gone(partition, arm_of(key))

    def on_statistics(self, partition: int, value: bytes) -> None:
        """Take in a `PolicyRow` of another worker's partition."""
        row = decode_policy_row(value)
        for space in row.spaces:
            if space.feature_space == self._learning.feature_space and space.statistics:
                self._foreign[partition] = self._learning.read(space.statistics)
        if row.positions:
            self._foreign_positions[partition] = PositionStatistics.from_bytes(row.positions)

    def on_arm(self, partition: int, value: bytes) -> None:
        """Take in the row of one part of the statistics of another worker's partition."""
        self._foreign.setdefault(partition, self._learning.empty()).load_rows([value])

    def on_arm_gone(self, partition: int, part: int) -> None:
        """Forget one part of the statistics of another worker's partition."""
        if (statistics := self._foreign.get(partition)) is not None:
            statistics.forget([part])

    # Again and again

    async def learn(self, shards: Sequence[Shard]) -> None:
        """Let the policies adopt the merged statistics when they have changed.

        With a model per item this takes longer the more there are: it has a tenth of the time.
        """
        if time.perf_counter() >= self._learn_after:
            await self.learn_now(shards)

    async def learn_now(self, shards: Sequence[Shard]) -> None:
        """Do so however long it took the last time."""
        async with self._turn:
            started = time.perf_counter()
            await self._learn(shards)
            self._learn_after = started + 10.0 * (time.perf_counter() - started)

    async def _learn(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            shard.learning.count_published()
        own = {shard.partition: self._of(shard) for shard in shards}
        known = {p: statistics for p, statistics in own.items() if statistics is not None}
        sources = self._begun | self._foreign | known if self._online else self._begun
        if not await self._copy_changes(sources):
            return
        with self._metrics.time_stage("learn"):
            reference = await asyncio.to_thread(self._adopt, list(self._copies.values()))
        if reference is not None:
            for shard in shards:
                if shard.statistics.serving.feature_space == self._learning.feature_space:
                    shard.statistics.next_reference = reference

    def _of(self, shard: Shard) -> Statistics | None:
        return shard.statistics.in_space(self._learning.feature_space)

    async def _copy_changes(self, sources: Mapping[int, Statistics]) -> bool:
        """Copy what has changed in pieces, and return whether anything has."""
        changed = self._copies.keys() != sources.keys()
        for partition in self._copies.keys() - sources.keys():
            del self._copies[partition]
        for partition, source in sources.items():
            copy = self._copies.get(partition)
            if copy is None or copy.source is not source or copy.n_forgotten != source.n_forgotten:
                changed = changed or copy is not None
                source.touch()
                copy = _Copy(source, self._learning.empty(), source.n_forgotten)
                self._copies[partition] = copy
            while (piece := source.take_changes(PARTS_AT_ONCE)) is not None:
                copy.pieces.append(piece)
                await asyncio.sleep(0)
            changed = changed or bool(copy.pieces)
        return changed

    def _adopt(self, copies: Sequence[_Copy]) -> NDArray[np.float64] | None:
        """Let the policies adopt the sum of the copies, in a thread; return where to develop rows to come."""
        total = self._learning.empty()
        for copy in copies:
            while copy.pieces:
                copy.statistics.replace(copy.pieces.pop(0))
            total = total + copy.statistics
        self._policies.update(total)
        return total.next_reference()

    async def learn_positions(self, shards: Sequence[Shard]) -> None:
        """Estimate how often positions are looked at, when a hundredth more slates have closed."""
        own = [shard.learning.positions for shard in shards if shard.learning.positions is not None]
        total = sum([*own, *self._foreign_positions.values()], PositionStatistics())
        if not own or total.shown.sum() <= 1.01 * self._positions_seen:
            return
        self._positions_seen = int(total.shown.sum())
        looked_at = await asyncio.to_thread(examination, total, MAX_SLATE)
        for shard in shards:
            shard.learning.next_examination = looked_at
        self._metrics.set_examination(looked_at[:POSITIONS])
