"""Follows the topics that every worker reads from the start: items, statistics, experiments."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from streams.durability.covisit_restore import name_covisits, place_covisits, read_covisits
from streams.durability.likes_rows import read_likes
from streams.kafka.columns import RecordColumns
from streams.kafka.log import Log, RowPublisher
from streams.kafka.topics import topic_partitions
from streams.metrics import Metrics
from streams.serving.eligibility import Eligibility
from streams.serving.lane import Lanes
from streams.settings import Settings
from streams.state.rows import LIKES_PREFIX
from streams.state.shared import SharedState
from streams.state.spending import SPEND_PREFIX
from streams.worker.neighbours import MEMBER_PREFIX, Neighbours, member_key
from streams.worker.unreadable import Unreadable

log = logging.getLogger(__name__)

FOLLOWED = ("item-state", "policy-state", "experiments")
OWNER_PREFIX = b"owner\0"


class SharedTopics:
    """Reads `FOLLOWED` and gives each row to who uses it; knows which worker owns which partition.

    Rows of `policy-state` of an owned partition are left out: this worker writes them. So are rows that
    cannot be read: what serves goes on without them.

    Parameters
    ----------
    topics : full name on the broker by name
    neighbours : are told who owns what
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        topics: Mapping[str, str],
        *,
        shared: SharedState,
        eligibility: Eligibility,
        lanes: Lanes,
        publisher: RowPublisher,
        neighbours: Neighbours,
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._topics = topics
        self._shared = shared
        self._eligibility = eligibility
        self._lanes = lanes
        self._publisher = publisher
        self._neighbours = neighbours
        self._metrics = metrics
        # One of a fixed name is waited for: it comes back, and has its partitions as they were.
        self._waited_for = settings.instance_id is not None
        self._owned: set[int] = set()
        self._owners: dict[int, str] = {}
        self._crash: Callable[[BaseException], None] = _log
        self._applying: set[asyncio.Task[None]] = set()
        self._unreadable = Unreadable({topics[name]: name for name in FOLLOWED}, metrics)
        self._reader = log.follow(
            {topics[name]: topic_partitions(settings, name) for name in FOLLOWED}, self._handle
        )
        self._handlers: dict[str, Callable[[int, Sequence[Any]], None]] = {
            topics["item-state"]: self._on_items,
            topics["policy-state"]: self._on_policy_rows,
            topics["experiments"]: self._on_experiments,
        }
        self.url: str | None = settings.advertised_url
        """URL of this worker, announced for the partitions that it owns."""

    async def start(self, crash: Callable[[BaseException], None]) -> None:
        """Read the experiments to their end, and begin to follow; an error goes to `crash`."""
        self._crash = crash
        # Before the first request: a user of a variant must not be served by the live policy in between.
        async for records in self._log.read(self._topics["experiments"], 0):
            await self._apply([(record.key, record.value) for record in records])
        await self._reader.start()
        self._reader.task.add_done_callback(self._crash_on_error)

    async def stop(self) -> None:
        """Stop to follow."""
        await self._neighbours.stop()
        await self._reader.stop()

    def start_over(self, topic: str) -> None:
        """Read a followed topic, by its full name, from its beginning: it is another one by now."""
        self._spawn(self._reader.start_over(topic))

    @property
    def caught_up(self) -> bool:
        """Return whether all that was there at the start has been read."""
        return self._reader.caught_up.is_set()

    def position(self, name: str, partition: int) -> int:
        """Next offset to read of a followed topic."""
        return self._reader.position(self._topics[name], partition)

    # Ownership

    def own(self, partition: int) -> None:
        """Leave out the rows of a partition from now on: its shard has what they say."""
        self._owned.add(partition)
        self._reader.pause(self._topics["policy-state"], partition)

    def disown(self, partition: int) -> None:
        """Follow a partition's rows again."""
        self._owned.discard(partition)
        self._reader.resume(self._topics["policy-state"], partition)

    def owner_url(self, partition: int) -> str | None:
        """Return the URL that the owner of another worker's partition announced."""
        url = self._owners.get(partition)
        return None if url == self.url else url

    async def announce(self, partitions: Iterable[int], *, member_id: str) -> None:
        """Tell all workers that these partitions are answered for here, by this member of the group."""
        if self.url is None:
            return
        url = self.url.encode()
        me = None if self._waited_for else self._neighbours.me(self.url, member_id)
        await self._publisher.publish_all(
            (self._topics["policy-state"], partition, row)
            for partition in partitions
            for row in (
                (OWNER_PREFIX + partition.to_bytes(2, "big"), url),
                (member_key(partition), me),
            )
        )

    # Rows

    def _handle(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        try:
            self._handlers[topic](partition, records)
        except ValueError as error:  # of rows that are this worker's own a restore ends it
            if len(records) == 1:
                self._unreadable.count(topic, partition, records[0].offset, error)
            else:
                for record in records:  # those before it may be taken twice: nothing comes of that
                    self._handle(topic, partition, [record])

    def _on_items(self, partition: int, records: Sequence[Any]) -> None:
        changed = self._shared.catalogue.apply(records)
        self._metrics.count_events("item-state", "accepted", len(records))
        self._shared.prerequisites.changed(changed)  # before anybody may be offered the items
        if self._shared.budgets is not None:
            self._shared.budgets.changed(changed)
        self._eligibility.changed(changed)
        for lane in self._lanes:
            lane.items.refresh(changed)

    def _on_experiments(self, partition: int, records: Sequence[Any]) -> None:
        self._spawn(self._apply([(row.key, row.value) for row in records]))

    async def _apply(self, experiments: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        running = [lane.policies.experiments for lane in self._lanes]
        # All at once: rows that come while one gets ready must not be overtaken by these in another.
        for one, started in [(one, one.take_in(experiments)) for one in running]:
            await one.start(started)

    def _on_policy_rows(self, partition: int, records: Sequence[Any]) -> None:
        items, others = read_covisits(RecordColumns.of(records))
        if partition not in self._owned and len(items):
            covisits = self._shared.covisits[partition]
            place_covisits(covisits, items, *name_covisits(covisits, self._shared.index, items))
        liked = []
        for record in others:
            key = record.key or b""
            if key.startswith(OWNER_PREFIX):
                self._owners[partition] = (record.value or b"").decode()
            elif key.startswith(MEMBER_PREFIX):
                self._neighbours.met(partition, record.value, here=self.url)
            elif partition in self._owned:
                continue
            elif key.startswith(SPEND_PREFIX):
                if self._shared.budgets is not None:
                    self._shared.budgets.on_row(partition, key, record.value)
            elif key.startswith(LIKES_PREFIX):
                liked.append(record)
            else:
                for lane in self._lanes:
                    lane.learner.on_row(partition, key, record.value)
        if liked and (likes := self._shared.likes.get(partition)) is not None:
            likes.put(*read_likes(liked))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._applying.add(task)
        task.add_done_callback(self._applying.discard)
        task.add_done_callback(self._crash_on_error)

    def _crash_on_error(self, task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)


def _log(error: BaseException) -> None:
    log.critical("an error before the start: %r", error, exc_info=error)
