"""Where a group reads on. A commit names the topic ids that it is of: a topic made anew begins at 0."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError
from faust.types import TP

from streams.kafka.layout import Layout, ask_layout

log = logging.getLogger(__name__)

ASK_AGAIN_S = 0.1
_NONE = (-1, "")


class GroupOffsets(NamedTuple):
    """Offsets of the assigned partitions.

    ids : topic ids, by name
    marks : by topic, the ids that its offsets depend on, in one text: to be committed with them
    begins, ends : the first offset that there is, and the next to be written
    committed : offset and mark, where there is one
    """

    ids: dict[str, str]
    marks: dict[str, str]
    begins: dict[TP, int]
    ends: dict[TP, int]
    committed: dict[TP, tuple[int, str]]

    def starts(self, trimmed: Callable[[str, int, int], None]) -> dict[TP, int]:
        """Return the offset to read each partition from.

        Parameters
        ----------
        trimmed : called with topic, partition and how many records were gone before they were read
        """
        return {tp: self._start(tp, trimmed) for tp in self.begins}

    def unread(self) -> set[TP]:
        """Return the partitions of which no offset is committed that counts for the logs of today."""
        return {tp for tp in self.begins if self.committed.get(tp, _NONE)[0] < 0 or self._of_others(tp)}

    def _of_others(self, tp: TP) -> bool:
        _, marked = self.committed.get(tp, _NONE)
        mark = self.marks.get(tp.topic, "")
        return bool(marked and mark and marked != mark)

    def _start(self, tp: TP, trimmed: Callable[[str, int, int], None]) -> int:
        begin, end = self.begins[tp], self.ends[tp]
        committed, _ = self.committed.get(tp, _NONE)
        if committed < 0:
            return begin
        if self._of_others(tp):
            log.error(
                "%s [%d] is read from its beginning: offset %d was committed for a topic that is no more",
                *tp, committed,
            )  # fmt: skip
            return begin
        if committed > end:
            log.error(
                "%s [%d] was cut: it ends at %d, and was read up to %d before; what the broker has lost "
                "stays folded, and what takes its offsets may not be", *tp, end, committed,
            )  # fmt: skip
            return end
        if committed < begin:
            trimmed(tp.topic, tp.partition, begin - committed)
            return begin
        return committed


async def ask_group_offsets(
    consumer: Any, depends: Mapping[str, Sequence[str]], also: Iterable[str] = ()
) -> GroupOffsets:
    """Ask for the offsets of the partitions that a consumer of a group is assigned, for as long as it takes.

    Parameters
    ----------
    consumer : a started `aiokafka.AIOKafkaConsumer`
    depends : by topic, those that a committed offset of it depends on
    also : topics whose ids are wanted, too
    """
    tps = sorted(consumer.assignment())
    topics = {tp.topic for tp in tps} | {name for names in depends.values() for name in names} | set(also)
    now = await _layout(consumer._client, topics)
    while True:
        # Of a topic that is made anew meanwhile, some would be of the one log and some of the other.
        layout = now
        committed = await consumer._coordinator.fetch_committed_offsets(tps)
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        if (now := await _layout(consumer._client, topics)) == layout:
            break
    ids = {name: topic.id for name, topic in (layout or {}).items()}
    return GroupOffsets(
        ids,
        {topic: _mark(ids, names) for topic, names in depends.items()},
        {TP(*tp): offset for tp, offset in begins.items()},
        {TP(*tp): offset for tp, offset in ends.items()},
        {TP(*tp): (at.offset, at.metadata) for tp, at in committed.items()},
    )


async def _layout(client: Any, topics: Collection[str]) -> Layout | None:
    while True:
        try:
            return await ask_layout(client, topics)
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(ASK_AGAIN_S)


def _mark(ids: Mapping[str, str], names: Iterable[str]) -> str:
    """Say which logs an offset is of; "" where brokers have no ids."""
    known = [ids.get(name, "") for name in names]
    return " ".join(known) if all(known) else ""
