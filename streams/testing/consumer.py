"""The consumer of a worker's group on a log in memory."""

import asyncio
from collections.abc import Iterable

from faust.types import TP

from streams.kafka.consumer_thread import Membership
from streams.kafka.lease import Lease
from streams.kafka.ledger import CommitLedger
from streams.kafka.pace import Pace
from streams.kafka.record_batch import RecordBatch
from streams.testing.source import FETCH_RECORDS, Source


class MemoryConsumer:
    """As `streams.kafka.transport.Consumer` shows itself to a worker's parts: batches, ledger and offsets.

    Parameters
    ----------
    topics : full names of those whose ids are known

    Attributes
    ----------
    rejoining : everything is to be assigned anew
    unheard_of : topics that brokers have, and of which they have not told it yet
    """

    def __init__(self, log: Source, topics: Iterable[str] = ()) -> None:
        self._topics = list(topics)
        self._log = log
        self._read: dict[TP, int] = {}
        self.ledger = CommitLedger()
        self.start_offsets: dict[TP, int] = {}
        self.unread: set[TP] = set()
        self.end_offsets: dict[TP, int] = {}
        self.positioned = asyncio.Event()
        self.log_ids: dict[str, str] = {}
        self.rejoining = False
        self.unheard_of: set[str] = set()
        self.membership = Membership("memory", 0)
        self.lease = Lease(float("inf"))
        self.lease.renew(self.lease.now())
        self.pace = Pace()

    def assign(self, partitions: Iterable[TP]) -> None:
        """Own exactly these; reading begins where the group has committed to."""
        self.membership = Membership("memory", self.membership.generation + 1)
        self.ledger.forget(list(self.ledger))
        self.rejoining = False
        tps = sorted(partitions)
        self.log_ids = {name: topic.id for name, topic in self._log.layout(self._topics).items()}
        self._read = {tp: max(self._committed(tp), self._log.begin_offset(*tp)) for tp in tps}
        self.start_offsets = dict(self._read)
        self.end_offsets = {tp: self._log.end_offset(*tp) for tp in tps}
        self.unread = {tp for tp in tps if tp not in self._log.committed or self._of_others(tp)}
        self.positioned.set()

    def _committed(self, tp: TP) -> int:
        return 0 if self._of_others(tp) else self._log.committed.get(tp, 0)

    def _of_others(self, tp: TP) -> bool:
        return self._log.marks.get(tp, "") not in ("", self.log_ids.get(tp.topic, ""))

    def rejoin(self) -> None:
        """Note that all is to be assigned anew."""
        self.log_ids = {}
        self.rejoining = True

    def knows(self, topic: str) -> bool:
        """Whether it has heard of a topic."""
        return topic not in self.unheard_of

    def assignment(self) -> set[TP]:
        """Return what is owned."""
        return set(self._read)

    def highwater(self, tp: TP) -> int:
        """Return the next offset to be written."""
        return self._log.end_offset(*tp)

    def read_offset(self, tp: TP) -> int | None:
        """Return the next offset to be delivered."""
        return self._read.get(tp)

    def poll(self, topic: str, most: int = FETCH_RECORDS) -> RecordBatch | None:
        """Return the next batch of a topic, of at most so many records; None when all has been read.

        Raises
        ------
        Aborted
            If an ABORT is next.
        """
        for tp, position in self._read.items():
            if tp.topic == topic and position < self._log.end_offset(*tp):
                records, after = self._log.fetch(*tp, position, most)
                epoch = self.ledger.open(tp, after - 1)
                self._read[tp] = after
                return RecordBatch(tp, records, after - 1, epoch)
        return None

    def commit(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Commit what the ledger says may be of some topics; return it."""
        wanted = set(topics)
        offsets: dict[tuple[str, int], int] = {}
        for tp in self._read:
            if tp.topic in wanted and (offset := self.ledger.committable(tp)) is not None:
                offsets[tp] = offset
        self._log.committed.update(offsets)
        self._log.marks.update({tp: self.log_ids.get(tp[0], "") for tp in offsets})
        self.ledger.mark_committed(offsets)
        return offsets
