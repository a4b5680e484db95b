"""The thread that owns the aiokafka consumer: fetches columns, renews the lease, marks what it commits."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import aiokafka
from aiokafka import OffsetAndMetadata
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import GroupAuthorizationFailedError, InvalidSessionTimeoutError
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_set_exception, maybe_set_result

from streams.errors import ConfigurationError
from streams.kafka.closing import EndingThread
from streams.kafka.column_fetch import fetch_columns, fetch_in_turn, read_last, wait_longer
from streams.kafka.consumer_patches import commit_without_deleted, tell_when_coordination_ends
from streams.kafka.damage import Damage
from streams.kafka.group_offsets import GroupOffsets, ask_group_offsets
from streams.kafka.lease import Lease
from streams.kafka.pace import Pace

log = logging.getLogger(__name__)

REFUSALS = {
    InvalidSessionTimeoutError: "session_timeout_ms must be from the brokers' group.min.session.timeout.ms "
    "to their group.max.session.timeout.ms",
    GroupAuthorizationFailedError: "its user has no right to Read the group `group_id`",
}
"""What to do about what a group refuses for good."""
SERVICES = logging.getLogger("faust.services")
"""Tells that parts of Faust start and stop, which is nothing to an operator."""

# A fetch asks for the partitions that are drained at that moment and stays open up to this long when
# they are empty, while those that fill meanwhile wait for it: so it must be short.
FETCH_MAX_WAIT_MS = 50
# One that asks for all of them holds nothing up but a rebalance, which asks over the same connection.
DRAINED_MAX_WAIT_MS = 200
# How often a poll without records looks whether the position has moved all the same.
SILENCE_S = 0.05
REQUEST_TIMEOUT_S = 90.0


class Membership(NamedTuple):
    """Member id and generation of this worker in its group; -1 once the group has forgotten it."""

    member_id: str
    generation: int

    def follows(self, earlier: "Membership | None") -> bool:
        """Whether nobody else can have owned anything between the earlier membership and this one."""
        return (
            earlier is not None
            and self.member_id == earlier.member_id
            and self.generation == earlier.generation + 1
        )


class BatchConsumerThread(EndingThread, driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer, set up for batches and co-partitioning.

    Attributes
    ----------
    positions : dict of TP to int
        Where the consumer stood when the last fetch returned: the next offset of each partition.

    Parameters
    ----------
    lease : renewed by every answer of the group
    pace : says when to fetch
    """

    logger = SERVICES

    def __init__(self, *args: Any, lease: Lease, pace: Pace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lease = lease
        self._pace = pace
        self._close_thread_loop_on_stop = True  # nobody else has it
        self.positions: dict[TP, int] = {}
        self._states: list[tuple[TP, Any]] = []
        self._states_of: Any = None
        self._fetches: set[asyncio.Task[None]] = set()
        self._marks: dict[str, str] = {}

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        # Range assignment gives partition p of every topic to the same worker: a shard needs them all.
        self._assignor = RangePartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=None,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            request_timeout_ms=int(max(REQUEST_TIMEOUT_S, conf.broker_session_timeout) * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            check_crcs=conf.broker_check_crcs,
            isolation_level="read_committed",  # what a producer takes back was never said
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:
        """Ask the thread for what it has fetched: without the queue that other calls to it go through."""
        promise: asyncio.Future[RecordMap] = self.parent_loop.create_future()
        self.thread_loop.call_soon_threadsafe(self._begin_fetch, promise, active_partitions, timeout)
        return await promise

    def _begin_fetch(
        self, promise: "asyncio.Future[RecordMap]", active_partitions: set[TP] | None, timeout: float
    ) -> None:
        async def fetch() -> None:
            try:
                found = await self._fetch_records(self._ensure_consumer(), active_partitions, timeout)
            except BaseException as error:
                self.parent_loop.call_soon_threadsafe(maybe_set_exception, promise, error)
            else:
                self.parent_loop.call_soon_threadsafe(maybe_set_result, promise, found)

        task = asyncio.ensure_future(fetch())
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> RecordMap:
        """Return what has been fetched; also when nothing has but a position has moved.

        The end of a transaction takes an offset and is no record: aiokafka passes it in silence, and whoever
        waits for the end of the log would wait for ever.
        """
        deadline = time.monotonic() + (timeout or 0.0)
        while True:
            left = max(0.0, deadline - time.monotonic())
            records: RecordMap = await super()._fetch_records(
                consumer, cast(Any, active_partitions), timeout=min(left, SILENCE_S), max_records=max_records
            )
            before, self.positions = self.positions, self._positions_of(consumer)
            if records:
                self._pace.found(sum(len(fetched) for (fetched,) in records.values()))
            if records or self.positions != before or left <= SILENCE_S:
                return records

    def _positions_of(self, consumer: aiokafka.AIOKafkaConsumer) -> dict[TP, int]:
        """Next offset to fetch of each assigned partition, of those that have one."""
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is not self._states_of:
            self._states_of, self._states = assignment, []
            if assignment is not None:
                states = ((tp, assignment.state_value(tp)) for tp in assignment.tps)
                self._states = [(TP(tp.topic, tp.partition), state) for tp, state in states]
        return {tp: state.position for tp, state in self._states if state.has_valid_position}

    async def on_start(self) -> None:
        """Start to consume, in columns; every answer of the group renews the lease."""
        await super().on_start()
        fetch_columns(self._ensure_consumer(), Damage(cast(Any, self.app).damaged))
        wait_longer(self._ensure_consumer(), DRAINED_MAX_WAIT_MS)
        fetch_in_turn(self._ensure_consumer(), self._pace.turn)
        if (last := getattr(self.app, "read_last", None)) is not None:
            read_last(self._ensure_consumer(), last)
        self._mark_commits()
        commit_without_deleted(self._ensure_consumer())
        lease = self._lease
        coordinator = self._ensure_consumer()._coordinator
        heartbeat, rejoin = coordinator._do_heartbeat, coordinator._do_rejoin_group

        async def renewing_heartbeat() -> bool:
            asked = lease.now()
            answered: bool = await heartbeat()
            if answered:
                lease.renew(asked)
            elif coordinator.generation < 0:
                lease.end()
            return answered

        async def renewing_rejoin(subscription: Any) -> bool:
            asked = lease.now()
            joined: bool = await rejoin(subscription)
            if joined:
                lease.renew(asked)
            return joined

        def crash(error: BaseException) -> None:
            self.app.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self.app.crash(error)))

        def refused(error: BaseException) -> Any:
            why = REFUSALS.get(type(error))
            log.critical("the group refuses this worker: %s", why or repr(error))
            crash(error if why is None else ConfigurationError(f"the group refuses this worker: {why}"))
            return push_error(error)

        push_error = coordinator._push_error_to_user
        # aiokafka tells nobody when the group has last answered, and of what the group refuses for good it
        # tells only who polls, which nobody does without partitions.
        coordinator._do_heartbeat, coordinator._do_rejoin_group = renewing_heartbeat, renewing_rejoin
        coordinator._push_error_to_user = refused
        tell_when_coordination_ends(self._ensure_consumer(), crash)

    def _mark_commits(self) -> None:
        """Say with each committed offset of which log it is."""
        consumer = self._ensure_consumer()
        commit = consumer.commit

        async def marked(offsets: Mapping[Any, OffsetAndMetadata]) -> None:
            await commit(
                {
                    tp: OffsetAndMetadata(at.offset, self._marks.get(tp.topic, ""))
                    for tp, at in offsets.items()
                }
            )

        consumer.commit = marked

    async def group_offsets(self, depends: Mapping[str, Sequence[str]], also: Sequence[str]) -> GroupOffsets:
        """Ask for the offsets of the assigned partitions.

        Parameters
        ----------
        depends : by topic, those that a committed offset of it depends on
        also : topics whose ids are wanted, too
        """
        found: GroupOffsets = await self.call_thread(
            ask_group_offsets, self._ensure_consumer(), depends, also
        )
        self._marks = found.marks
        return found

    async def seek_to(self, positions: Mapping[TP, int]) -> None:
        """Read from these offsets on."""
        await self.call_thread(self._seek_to, positions)

    async def _seek_to(self, positions: Mapping[TP, int]) -> None:
        for tp, offset in positions.items():
            self._ensure_consumer().seek(driver.ensure_aiokafka_TP(tp), offset)

    def rejoin(self) -> None:
        """Join the group again; the present assignment ends as at any rebalance."""
        coordinator = self._ensure_consumer()._coordinator
        self.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    def knows(self, topic: str) -> bool:
        """See `Consumer.knows`."""
        return self._ensure_consumer()._client.cluster.partitions_for_topic(topic) is not None

    @property
    def membership(self) -> Membership:
        """See `Consumer.membership`."""
        coordinator = self._ensure_consumer()._coordinator
        return Membership(coordinator.member_id, coordinator.generation)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's stall detector counts messages, ours are batches (see the lag metric)."""
