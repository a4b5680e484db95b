"""A worker's own parts on a log in memory; nothing happens but what is asked for."""

import asyncio
from collections.abc import Iterable
from typing import Any, Self

from faust.types import TP

from streams.clock import Clock
from streams.durability.digest import digest
from streams.items.table import AnyScorer
from streams.releases.live import Live
from streams.settings import Settings
from streams.testing.consumer import MemoryConsumer
from streams.testing.log import MemoryLog
from streams.testing.source import FETCH_RECORDS
from streams.worker.agents.by_topic import make_agents
from streams.worker.assembly import Parts, assemble
from streams.worker.lifecycle import Lifecycle

DEADLINE_S, TURN_S = 120.0, 1.0
POLL_S = 0.001
USER_INPUTS = ("content", "users", "clicks", "requests")


class MemoryWorker:
    """Assembles a worker and delivers to it, flushes and commits when told to.

    Attributes
    ----------
    parts : the parts of the worker
    agents : take the records of each input
    life : starts, drains and stops them
    error : what the worker could not survive, None as long as it lives
    """

    parts: Parts

    def __init__(
        self, settings: Settings, log: MemoryLog, clock: Clock, scorer: AnyScorer, live: Live | None = None
    ) -> None:
        self._settings = settings
        self._log = log
        self.parts = assemble(settings, log, scorer, live=live, clock=clock)
        self.agents = make_agents(self.parts)
        self.life = Lifecycle(self.parts, crash=self._crash)
        self.consumer = MemoryConsumer(log, self.parts.topics.values())
        self.error: BaseException | None = None

    def _crash(self, error: BaseException) -> None:
        self.error = self.error or error

    async def __aenter__(self) -> Self:
        """Connect, and own every partition."""
        await self.life.connect()
        await self.assign(range(self._settings.partitions))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop without flushing, as one that is killed."""
        await self.life.stop()

    async def assign(self, partitions: Iterable[int]) -> None:
        """Own exactly these partitions, and return once they are restored.

        As at a rebalance, what the worker holds of others is flushed and committed first.
        """
        if self.consumer.assignment():
            await self.flush()
            self.commit()
        owned = set(partitions)
        topics = [self.parts.topics[name] for name in USER_INPUTS]
        self.consumer.assign(TP(topic, p) for topic in topics for p in owned)
        self.parts.inputs.attach(self.consumer)
        await self.parts.partitions.assign(owned, membership=self.consumer.membership)
        for partition in owned:
            await self.parts.partitions.shard(partition)
        await self.settle()

    async def deliver(self, *names: str, most: int = FETCH_RECORDS) -> None:
        """Let the agents take everything there is of some inputs, in batches of at most so many records.

        Without names, of all of them: items first and requests last. Returns once all of it is answered.
        """
        for name in names or USER_INPUTS:
            while await self.deliver_one(name, most=most):
                pass
            await self.settle()

    async def deliver_one(self, name: str, *, most: int = FETCH_RECORDS) -> bool:
        """Let an agent take the next batch; False if there is none."""
        batch = self.consumer.poll(self.parts.topics[name], most)
        if batch is None:
            return False
        await self.agents[name](batch)
        self._check()
        return True

    async def flush(self) -> None:
        """Publish every dirty row."""
        await self.parts.flusher.flush_all()

    def commit(self, *names: str) -> dict[tuple[str, int], int]:
        """Commit what may be committed of some inputs, without names of all; return it by partition.

        A broker may take the commit of one partition and lose that of another.
        """
        return self.consumer.commit(self.parts.topics[name] for name in names or USER_INPUTS)

    async def settle(self) -> None:
        """Wait until nothing is on its way: requests, rows of followed topics, items to be encoded."""
        loop, waited_s = asyncio.get_running_loop(), 0.0
        while True:
            begun_s = loop.time()
            await self.parts.server.drain(TURN_S)
            # An item is done when its turn in the inference thread is over.
            for lane in self.parts.lanes:
                await loop.run_in_executor(lane.inference, int)
            await asyncio.sleep(0)
            self._check()
            if not self._busy():
                return
            await asyncio.sleep(POLL_S)
            # Where others have the processors a turn is longer than it waits: that is no standstill.
            waited_s += min(loop.time() - begun_s, TURN_S)
            if waited_s > DEADLINE_S:
                raise TimeoutError(f"the worker has not come to rest within {DEADLINE_S:.0f} s")

    def _busy(self) -> bool:
        parts = self.parts
        unread = any(not watcher.idle for watcher in self._log.watchers)
        return bool(unread or parts.lanes.pending or parts.server.in_flight)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def digest(self) -> str:
        """Digest of the owned shards: `streams.durability.digest`."""
        shards: dict[int, Any] = {shard.partition: shard for shard in self.parts.partitions.live()}
        return digest(
            self.parts.shared.index,
            {partition: shard.profiles for partition, shard in shards.items()},
            {partition: shard.covisits for partition, shard in shards.items()},
        )
