"""The partitions that a worker owns: assigned, restored, dropped, and when they are ready."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from streams.errors import OwnershipLost
from streams.kafka.consumer_thread import Membership
from streams.kafka.inputs import Inputs
from streams.kafka.log import Ends
from streams.kafka.reader import may_pass
from streams.metrics import Metrics
from streams.serving.lane import Lanes
from streams.state.log_bases import LogBases
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.worker.shared_topics import SharedTopics

log = logging.getLogger(__name__)

CATCH_UP_POLL_S = 0.05
USER_TOPICS = ("clicks", "users")
INPUTS = ("clicks", "users", "requests", "content")


class Partitions:
    """Holds the shards of the owned partitions.

    Parameters
    ----------
    restore : returns the shard of a partition as it was when it was last flushed
    topics : full name on the broker by name
    copied : waits until what other topics held at the start is in ours
    faults : returns what is wrong with the topics
    dropped : is told each partition that others may own from now on
    """

    def __init__(
        self,
        restore: Callable[[int], Awaitable[Shard]],
        *,
        topics: Mapping[str, str],
        ends: Ends,
        inputs: Inputs,
        shared: SharedState,
        shared_topics: SharedTopics,
        lanes: Lanes,
        metrics: Metrics,
        copied: Callable[[], Awaitable[None]],
        faults: Callable[[], Collection[str]] = tuple,
        dropped: Callable[[int], object] = lambda partition: None,
    ) -> None:
        self._restore_shard = restore
        self._topics = topics
        self._ends = ends
        self._inputs = inputs
        self._shared = shared
        self._shared_topics = shared_topics
        self._lanes = lanes
        self._metrics = metrics
        self._copied = copied
        self._faults = faults
        self._dropped = dropped
        self._shards: dict[int, asyncio.Task[Shard]] = {}
        self._assigned = False
        self._membership: Membership | None = None
        self._caught_up = False
        self._stopping = self._stopped = False
        self._catching_up: asyncio.Task[None] | None = None
        self._crash: Callable[[BaseException], None] | None = None

    def start(self, crash: Callable[[BaseException], None]) -> None:
        """Give errors that the worker must not survive to `crash` from now on."""
        self._crash = crash

    def begin_to_stop(self) -> None:
        """Be ready no more: whoever asks is to ask another worker from now on."""
        self._stopping = True

    async def stop(self) -> None:
        """Stop to catch up and to restore; what is assigned from now on is left alone."""
        self._stopped = True
        working = [task for task in (self._catching_up, *self._shards.values()) if task and not task.done()]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    async def assign(self, partitions: set[int], *, membership: Membership) -> None:
        """Own exactly these partitions: keep those owned all along, restore the others, drop the rest.

        What was owned before counts only when this membership follows the last one: if not, others may have
        owned and changed it in between.
        """
        if self._stopped:
            return
        if not membership.follows(self._membership):
            self.lose_all()
        self._membership = membership
        for partition in self._shards.keys() - partitions:
            self._drop(partition)
        for partition in partitions - self._shards.keys():
            self._shards[partition] = self._watched(self._restore(partition))
            self._shared_topics.own(partition)
        self._metrics.assigned_partitions.set(len(partitions))
        self._assigned = True
        self._caught_up = not partitions
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._catching_up = self._watched(self._catch_up(set(partitions)))
        await self._shared_topics.announce(partitions, member_id=membership.member_id)

    def lose(self, shard: Shard) -> None:
        """Drop a partition that another worker writes by now, and ask the group who owns what.

        The other may be one that began to restore in an earlier generation. Then the partition comes back.
        """
        task = self._shards.get(shard.partition)
        if task is not None and _restored(task) and task.result() is shard:
            self._drop(shard.partition)
            self._inputs.start_over()

    def start_over(self) -> None:
        """Drop and restore every partition: the logs that they were folded from are others by now."""
        self.lose_all()
        self._inputs.start_over()

    def lose_all(self) -> None:
        """Drop every partition: others may own them by now. It takes an `assign` to be ready again."""
        self._assigned = False  # nothing is, until the group says what
        for partition in list(self._shards):
            self._drop(partition)

    def _watched(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        task.add_done_callback(self._crash_on_error)
        return task

    def _crash_on_error(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self._crash is not None:
            self._crash(error)

    def _drop(self, partition: int) -> None:
        task = self._shards.pop(partition)
        task.cancel()
        if _restored(task):
            task.result().dropped = True
            for lane in self._lanes:
                lane.learner.keep(task.result())
        self._dropped(partition)
        self._shared_topics.disown(partition)
        for name in INPUTS:
            self._metrics.drop_lag(name, partition)

    async def _restore(self, partition: int) -> Shard:
        started = time.perf_counter()
        shard = await self._restore_shard(partition)
        self._lanes.serve_from(shard)  # another release may have begun to serve meanwhile
        self._shared.covisits[partition] = shard.covisits
        if self._shared.budgets is not None and shard.spending is not None:
            self._shared.budgets.place(partition, shard.spending)
        if partition in self._shared.likes:
            self._shared.likes[partition] = shard.profiles.likes
        for lane in self._lanes:
            lane.learner.drop(partition)
        seconds = time.perf_counter() - started
        self._metrics.restore_seconds.set(seconds)
        self._metrics.observe_stage("restore", seconds)
        log.info("partition %d restored in %.2f s", partition, seconds)
        return shard

    async def shard(self, partition: int) -> Shard:
        """Return the shard of an owned partition, once it is restored.

        Raises
        ------
        OwnershipLost
            If the partition is not, or not any more, this worker's.
        """
        task = self._shards.get(partition)
        if task is None:
            raise OwnershipLost(f"partition {partition} is not owned by this worker")
        if _restored(task):
            return task.result()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise OwnershipLost(f"partition {partition} went to another worker") from None
            raise

    def restored(self, partition: int) -> Shard | None:
        """Return the shard of a partition, None unless it is owned and restored."""
        task = self._shards.get(partition)
        return None if task is None or not _restored(task) else task.result()

    def live(self) -> list[Shard]:
        """Shards restored and owned, by partition."""
        return [task.result() for _, task in sorted(self._shards.items()) if _restored(task)]

    def logs(self) -> list[LogBases]:
        """Return the logs that each live shard was folded from."""
        return [shard.logs for shard in self.live()]

    def incomplete(self) -> bool:
        """Return whether items are still being read, or a partition of this worker is being restored."""
        return not self._shared_topics.caught_up or len(self.live()) < len(self._shards)

    def owns(self, partition: int) -> bool:
        """Return whether this worker owns a partition."""
        return partition in self._shards

    # Readiness

    def readiness(self) -> dict[str, Any]:
        """Return what readiness consists of."""
        return {
            "catalogue_caught_up": self._shared_topics.caught_up,
            "topics_caught_up": self._caught_up,
            "items_encoded": self._lanes.serving.items.pending == 0,
            "broker_answers": self._inputs.owned,
            "topics_as_wanted": self._topics_as_wanted(),
            "assigned": self._assigned,
            "stopping": self._stopping,
            "partitions": len(self._shards),
            "partitions_restored": len(self.live()),
        }

    def is_ready(self) -> bool:
        """Return whether state is restored and caught up; a standby, which owns nothing, is ready.

        The gauge `ready` says what whoever asked last was told.
        """
        ready = (
            self._shared_topics.caught_up
            and self._caught_up
            and self._lanes.serving.items.pending == 0
            and self._inputs.owned
            and self._topics_as_wanted()
            and self._assigned
            and not self._stopping
            and all(map(_restored, self._shards.values()))
        )
        self._metrics.ready.set(ready)
        return ready

    def _topics_as_wanted(self) -> bool:
        """Return whether all input topics are as wanted, and known to the consumer, too."""
        return not self._faults() and self._inputs.knows(INPUTS)

    async def _catch_up(self, partitions: set[int]) -> None:
        """Be ready once everything that the topics held at the assignment has been folded."""
        await self._inputs.positioned()
        # Another member may have noticed a log made anew, and drawn this one into the rebalance.
        others = {name for shard in self.live() for name in shard.logs.others(self._inputs.log_ids)}
        if others:
            log.error("deleted and made anew: %s; all partitions are restored", ", ".join(sorted(others)))
            self.start_over()
            return
        await self._copied()
        names = (*USER_TOPICS, "content")
        found = await asyncio.gather(*(self._ends_of(name, partitions) for name in names))
        ends = dict(zip(names, found, strict=True))
        while not all(
            self._folded(name, partition) >= end
            for name, of_partition in ends.items()
            for partition, end in of_partition.items()
            if partition in self._shards
        ):
            await asyncio.sleep(CATCH_UP_POLL_S)
        # What was folded of content comes back as item-state.
        shown = await self._ends_of("item-state", partitions)
        while any(self._shared_topics.position("item-state", p) < end for p, end in shown.items()):
            await asyncio.sleep(CATCH_UP_POLL_S)
        self._caught_up = True

    async def _ends_of(self, name: str, partitions: set[int]) -> Mapping[int, int]:
        """Return the next offset to be written to each partition; silent brokers are waited for."""
        while True:
            try:
                return await self._ends.of(self._topics[name], partitions)
            except KafkaError as error:
                if not may_pass(error):
                    raise
                log.warning("not ready: no broker says where %s ends: %r", self._topics[name], error)
            await asyncio.sleep(CATCH_UP_POLL_S)

    def processed(self, name: str, partition: int) -> int:
        """Return the next offset to process of an owned partition of an input topic."""
        task, start = self._shards[partition], self._inputs.start_offset(name, partition)
        if name in USER_TOPICS:
            if not _restored(task):
                return start
            shard = task.result()
            return max(start, shard.clicks.position if name == "clicks" else shard.users.position)
        return max(start, self._inputs.ledger.position(self._inputs.partition(name, partition)))

    def _folded(self, name: str, partition: int) -> int:
        """The next offset to fold of an input topic, 0 while its shard is being restored."""
        if not _restored(self._shards[partition]):
            return 0
        return self.processed(name, partition)


def _restored(task: "asyncio.Task[Shard]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
