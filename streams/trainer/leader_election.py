"""Leader election of trainers, and how far they have trained: both by a consumer group."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import CommitFailedError, IllegalStateError

from streams.kafka.closing import stop_reading
from streams.kafka.options import aiokafka_client_options
from streams.kafka.topics import topic_partitions, topics_of_worker
from streams.settings import Settings

COUNTED = ("clicks", "feedback")
"""Topics whose records are what a training waits for."""
FOLLOWED = (*COUNTED, "item-state")
POLL_MS = 200
LEADS = b"leads"


class Seat(ConsumerRebalanceListener):
    """A place in the group of trainers: one of them is given all partitions, and leads.

    Who leads goes on to lead for as long as it lives. Nothing is fetched: the group counts what is new, and
    its offsets say what was trained on.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = topics_of_worker(settings)
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None
        self.leading = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()

    async def start(self) -> None:
        """Join the group."""
        self._consumer = AIOKafkaConsumer(
            **aiokafka_client_options(self._settings),
            group_id=f"{self._settings.group_id}-trainer",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=self._settings.session_timeout_ms,
            partition_assignment_strategy=(one_leads(self.leading.is_set),),
        )
        self._consumer.subscribe([self._topics[name] for name in FOLLOWED], listener=self)
        await self._consumer.start()
        self._task = asyncio.create_task(self._stay())

    async def stop(self) -> None:
        """Leave the group: another one leads at once."""
        await stop_reading(self._task, self._consumer)

    @property
    def task(self) -> "asyncio.Task[None]":
        """The task that holds the seat; it ends only by an error or by `stop`."""
        assert self._task is not None
        return self._task

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Do nothing: whether they are another's by now is said with the next assignment."""

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Lead with partitions, and wait without."""
        if assigned := list(assigned):
            self._consumer.pause(*assigned)
        ours, others = (self.leading, self.lost) if assigned else (self.lost, self.leading)
        others.clear()
        ours.set()

    async def trained(self) -> dict[str, list[int]]:
        """Return the offsets up to which was trained, by topic counted.

        Records that are gone are left out; a topic that was made anew is counted from its beginning.
        """
        found = {}
        for name in COUNTED:
            tps = self._places(name)
            first = await self._consumer.beginning_offsets(tps)
            end = await self._consumer.end_offsets(tps)
            committed = {tp: await self._consumer.committed(tp) or 0 for tp in tps}
            found[name] = [max(first[tp], committed[tp] if committed[tp] <= end[tp] else 0) for tp in tps]
        return found

    async def ends(self) -> dict[str, list[int]]:
        """Return where each topic that is trained on ends now."""
        found = {}
        for name in (*FOLLOWED, "content", "users"):
            ends = await self._consumer.end_offsets(self._places(name))
            found[name] = [ends[tp] for tp in self._places(name)]
        return found

    async def commit(self, ends: Mapping[str, list[int]]) -> bool:
        """Say that was trained up to there; return False if another one leads by now."""
        places = {
            tp: offset for name in FOLLOWED for tp, offset in zip(self._places(name), ends[name], strict=True)
        }
        try:
            await self._consumer.commit(places)
        except (CommitFailedError, IllegalStateError):
            return False
        return True

    def _places(self, name: str) -> list[TopicPartition]:
        partitions = range(topic_partitions(self._settings, name))
        return [TopicPartition(self._topics[name], partition) for partition in partitions]

    async def _stay(self) -> None:
        while True:  # a member that does not ask for records is taken for dead
            await self._consumer.getmany(timeout_ms=POLL_MS)


def one_leads(leading: Any) -> type[AbstractPartitionAssignor]:
    """Return what gives all partitions to one member: the one that leads, else the first by its id."""

    class OneLeads(AbstractPartitionAssignor):
        name = "one-leads"

        @classmethod
        def assign(
            cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            leads = [member for member, said in sorted(members.items()) if said.user_data == LEADS]
            chosen = (leads or sorted(members))[0]
            topics = sorted({topic for said in members.values() for topic in said.subscription})
            every = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in topics]
            return {
                member: ConsumerProtocolMemberAssignment(0, every if member == chosen else [], b"")
                for member in members
            }

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(0, list(topics), LEADS if leading() else b"")

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            pass

    return OneLeads
