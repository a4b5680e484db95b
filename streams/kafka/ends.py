"""Asks brokers what is answered at once, over connections that nothing holds up: where partitions end."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from io import BytesIO
from struct import Struct
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError, UnknownMemberIdError, for_code
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.protocol.offset import OffsetRequest

from streams.kafka.closing import closed
from streams.kafka.layout import Layout, ask_layout
from streams.kafka.options import aiokafka_client_options
from streams.kafka.quick_requests import QuickRequest, text
from streams.kafka.topic_settings import TopicSettings, ask_settings
from streams.settings import Settings

log = logging.getLogger(__name__)

VERSION = 2
EXPEL_AGAIN_S = (0.1, 0.5, 2.0)  # beyond, the member's session is as good as over
_READ_COMMITTED, _LATEST = 1, -1

_HEAD = Struct(">ibi")  # replica, isolation, topics
_SIZE, _COUNT = Struct(">h"), Struct(">i")
_PARTITION = Struct(">iq")  # partition, which offset
_ANSWER_HEAD = Struct(">ii")  # throttling, topics
_ANSWER = Struct(">ihqq")  # partition, error, timestamp, offset

Ends = dict[int, int]


class EndOffsets:
    """A client that never fetches.

    A broker answers the requests of one connection one after another, and a fetch waits there for records.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None

    async def start(self) -> None:
        """Connect."""
        self._consumer = AIOKafkaConsumer(
            **aiokafka_client_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await closed(self._consumer.stop())

    async def of(self, topic: str, partitions: Iterable[int]) -> Ends:
        """Return the next offset to be written to each of some partitions, by partition."""
        if self._consumer is None:
            raise RuntimeError("the client is not started")
        tps = [TopicPartition(topic, p) for p in partitions]
        ends = await self._quickly(topic, tps)
        if len(ends) == len(tps):
            return ends
        # The leader of a partition is not known yet, or is another one by now: aiokafka finds out.
        asked = await self._consumer.end_offsets(tps)
        return {tp.partition: offset for tp, offset in asked.items()}

    async def begins(self, topic: str, partitions: Iterable[int]) -> Ends:
        """Return the offset of the oldest record that each of some partitions may have, by partition."""
        if self._consumer is None:
            raise RuntimeError("the client is not started")
        found = await self._consumer.beginning_offsets([TopicPartition(topic, p) for p in partitions])
        return {tp.partition: offset for tp, offset in found.items()}

    async def layout(self, topics: Collection[str]) -> Layout | None:
        """Return which of some topics, by full name, there are; None if the brokers are too old to know.

        Raises
        ------
        aiokafka.errors.KafkaError
            If no broker answers.
        """
        if self._consumer is None:
            raise RuntimeError("the client is not started")
        return await ask_layout(self._consumer._client, topics)

    async def settings(self, topics: Collection[str]) -> TopicSettings:
        """Return the settings of some topics, by full name; those that brokers do not tell are left out.

        Raises
        ------
        aiokafka.errors.KafkaError
            If no broker answers.
        """
        if self._consumer is None:
            raise RuntimeError("the client is not started")
        return await ask_settings(self._consumer._client, topics)

    async def expel(self, member_id: str) -> None:
        """Take a member out of the worker's group, if it is in it; others then own what it owned."""
        if self._consumer is None:
            raise RuntimeError("the client is not started")
        client, group = self._consumer._client, self._settings.group_id
        for wait_s in EXPEL_AGAIN_S:
            try:
                node = await client.coordinator_lookup(CoordinationType.GROUP, group)
                answer = await client.send(node, LeaveGroupRequest(group, member_id))
                error = for_code(answer.error_code)
                if not answer.error_code or error is UnknownMemberIdError:
                    return
                raise error
            except KafkaError as failed:
                log.warning("%s is not taken out of the group: %r", member_id, failed)
                await asyncio.sleep(wait_s)

    async def _quickly(self, topic: str, tps: list[TopicPartition]) -> Ends:
        """Ask each leader once; what is missing then, it did not say."""
        client = self._consumer._client
        by_leader = defaultdict(list)
        for tp in tps:
            if (leader := client.cluster.leader_for_partition(tp)) not in (None, -1):
                by_leader[leader].append(tp.partition)
        found: Ends = {}
        with contextlib.suppress(KafkaError):
            if len(by_leader) == 1:
                ((leader, asked),) = by_leader.items()
                found = (await client.send(leader, _request(topic, asked))).ends
            else:
                asking = (client.send(leader, _request(topic, asked)) for leader, asked in by_leader.items())
                for answer in await asyncio.gather(*asking):
                    found |= answer.ends
        return found


def _request(topic: str, partitions: list[int]) -> QuickRequest:
    name = topic.encode()
    pieces = [_HEAD.pack(-1, _READ_COMMITTED, 1), _SIZE.pack(len(name)), name, _COUNT.pack(len(partitions))]
    pieces += [_PARTITION.pack(partition, _LATEST) for partition in partitions]
    return QuickRequest(OffsetRequest.API_KEY, VERSION, b"".join(pieces), Answer)


class Answer:
    """A response about one topic: where the partitions end that the broker leads."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends

    @classmethod
    def decode(cls, data: BytesIO) -> "Answer":
        """Read a response from where its header ends."""
        view = data.getbuffer()
        at = data.tell() + _ANSWER_HEAD.size
        _, at = text(view, at)
        (n,) = _COUNT.unpack_from(view, at)
        rows = _ANSWER.iter_unpack(view[at + _COUNT.size : at + _COUNT.size + n * _ANSWER.size])
        return cls({partition: end for partition, error, _, end in rows if not error})
