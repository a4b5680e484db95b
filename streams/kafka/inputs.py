"""Input topics of a worker: the offsets where it began to read, and those that may be committed."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from faust.types import TP

from streams.kafka.fetch_codec import ReadEnds
from streams.kafka.ledger import CommitLedger


class Inputs:
    """The consumer of the worker's group as the rest of the worker sees it.

    Faust makes the consumer when it starts, so it is attached then; until then nothing is open and nothing
    is assigned.

    Parameters
    ----------
    topics : full name on the broker by name
    """

    def __init__(self, topics: Mapping[str, str]) -> None:
        self._topics = topics
        self._names = {full: name for name, full in topics.items()}
        self._consumer: Any = None
        self._attached = asyncio.Event()
        self._empty = CommitLedger()
        self._told_ends: Callable[[ReadEnds], object] = lambda ends: None

    def attach(self, consumer: Any) -> None:
        """Use this `transport.Consumer`'s ledger and offsets."""
        self._consumer = consumer
        consumer.told_ends = self._told_ends
        self._attached.set()

    @property
    def ledger(self) -> CommitLedger:
        """Ledger of the offsets that may be committed."""
        ledger: CommitLedger = self._empty if self._consumer is None else self._consumer.ledger
        return ledger

    @property
    def owned(self) -> bool:
        """Whether the group has answered lately enough that what was assigned is surely still ours."""
        return self._consumer is not None and bool(self._consumer.lease.valid)

    @property
    def log_ids(self) -> dict[str, str]:
        """Ids of the topics by name, as of when it was found out where to read; empty until then."""
        ids = {} if self._consumer is None else self._consumer.log_ids
        return {self._names[full]: known for full, known in ids.items() if full in self._names}

    def knows(self, names: Iterable[str]) -> bool:
        """Whether the consumer has heard of these topics: until then it reads nothing of them."""
        consumer = self._consumer
        return consumer is not None and all(consumer.knows(self._topics[name]) for name in names)

    def start_over(self) -> None:
        """Take up the partitions again, as a member that has just joined would; nothing open is committed."""
        if self._consumer is not None:
            self._consumer.ledger.forget(list(self._consumer.ledger))
            self._consumer.rejoin()

    def want(self) -> None:
        """Somebody waits for what is read from now on."""
        if self._consumer is not None:
            self._consumer.pace.want()

    def expect(self) -> None:
        """Requests are read, and others are to come."""
        if self._consumer is not None:
            self._consumer.pace.expect()

    def took(self, seconds: float) -> None:
        """A batch of requests has taken so long to be answered: what is read meanwhile waits for it."""
        if self._consumer is not None:
            self._consumer.pace.took(seconds)

    def tell_ends(self, name: str, tell: Callable[[float, Mapping[int, int]], object]) -> None:
        """Let somebody know where a topic's partitions ended, each time that records have been read.

        Call it before `attach`.

        Parameters
        ----------
        tell : called with when that was asked for, and with the next offset by partition
        """
        full = self._topics[name]

        def told(ends: ReadEnds) -> None:
            of_topic = {partition: end for (topic, partition), end in ends.items() if topic == full}
            if of_topic:
                tell(ends.asked_s, of_topic)

        self._told_ends = told

    def partition(self, name: str, partition: int) -> tuple[str, int]:
        """Topic and partition as the ledger names them."""
        return self._topics[name], partition

    async def positioned(self) -> None:
        """Wait until it is known from where this worker reads."""
        await self._attached.wait()
        await self._consumer.positioned.wait()

    def start_offset(self, name: str, partition: int) -> int:
        """Offset from which this worker reads a topic's partition: the committed one."""
        return int(self._consumer.start_offsets.get(self.partition(name, partition), 0))

    def is_unread(self, name: str, partition: int) -> bool:
        """Whether the group has committed no offset of a partition, never or not that brokers know of."""
        return self.partition(name, partition) in self._consumer.unread

    def end_offset(self, name: str, partition: int) -> int:
        """End offset of a topic's partition at the time when its position was looked up."""
        return int(self._consumer.end_offsets.get(self.partition(name, partition), 0))

    def folded_to_end(self, name: str, partition: int, position: int) -> bool:
        """Whether everything before `position` is all that the broker is known to have."""
        tp = TP(*self.partition(name, partition))
        if self._consumer is None or tp not in self._consumer.assignment():
            return False
        end = self._consumer.highwater(tp)
        return end is not None and position >= int(end)

    def ends(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, partition and the next offset to be written of what is assigned, as far as known."""
        consumer = self._consumer
        if consumer is None:
            return
        for tp in consumer.assignment():
            end = consumer.highwater(tp)
            if end is not None and tp.topic in self._names:
                yield self._names[tp.topic], tp.partition, int(end)
