"""Slates that were published before, read again where they stand: for who asks a second time."""

import asyncio
from collections import OrderedDict
from contextlib import aclosing

from streams.events import UNDECODABLE, Recommendation, Request, decode_recommendation
from streams.kafka.log import Log
from streams.state.shard import Shard

AT_A_TIME = 4
"""Slates read at a time, each over a connection of its own."""
KEPT = 256
"""Slates kept after they were read: who asks twice may ask three times."""

Place = tuple[str, int, int]  # id of the topic, partition, offset


class PublishedSlates:
    """Finds the slate of an answered request on its topic, of which the shard remembers the offset.

    Who asks for the same slate at the same time shares one reading of it.

    Parameters
    ----------
    recommendations : full name of the topic
    """

    def __init__(self, log: Log, recommendations: str) -> None:
        self._log = log
        self._topic = recommendations
        self._room = asyncio.Semaphore(AT_A_TIME)
        self._kept: OrderedDict[Place, Recommendation | None] = OrderedDict()
        self._reading: dict[Place, asyncio.Task[Recommendation | None]] = {}

    async def find(self, request: Request, shard: Shard) -> Recommendation | None:
        """Return the slate that a request of this id was answered with.

        None if it is forgotten, not published, no more on the topic, or another user's.
        """
        offset = shard.answered.offset(request.request_id)
        if offset is None:
            return None
        # A topic that was made anew has other slates at the same offsets.
        topic = shard.logs.held.get("recommendations", "")
        record = await self._at((topic, shard.partition, offset))
        if record is None:
            return None
        same = record.request_id == request.request_id and record.user_id == request.user_id
        return record if same else None

    async def _at(self, place: Place) -> Recommendation | None:
        if place in self._kept:
            return self._kept[place]
        task = self._reading.get(place)
        if task is None:
            task = self._reading[place] = asyncio.create_task(self._read(place))
            task.add_done_callback(lambda _: self._reading.pop(place))
        return await asyncio.shield(task)  # who gives up takes it from nobody

    async def _read(self, place: Place) -> Recommendation | None:
        _, partition, offset = place
        async with self._room, aclosing(self._log.read(self._topic, partition, start=offset)) as found:
            async for records in found:
                record = self._kept[place] = _decoded(records[0].value)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
                return record
        return None


def _decoded(value: bytes | None) -> Recommendation | None:
    try:
        return decode_recommendation(value or b"")
    except UNDECODABLE:
        return None
