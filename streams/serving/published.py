"""Slates that were published before, read again where they stand: for who asks a second time."""

import asyncio
from contextlib import aclosing

from streams.events import UNDECODABLE, Recommendation, Request, decode_recommendation
from streams.kafka.log import Log
from streams.state.shard import Shard

AT_A_TIME = 4
"""Slates read at a time, each over a connection of its own."""


class PublishedSlates:
    """Finds the slate of an answered request on its topic, of which the shard remembers the offset.

    Parameters
    ----------
    recommendations : full name of the topic
    """

    def __init__(self, log: Log, recommendations: str) -> None:
        self._log = log
        self._topic = recommendations
        self._room = asyncio.Semaphore(AT_A_TIME)

    async def find(self, request: Request, shard: Shard) -> Recommendation | None:
        """Return the slate that a request of this id was answered with.

        None if it is forgotten, not published, no more on the topic, or another user's.
        """
        offset = shard.answered.offset(request.request_id)
        if offset is None:
            return None
        async with self._room, aclosing(self._log.read(self._topic, shard.partition, start=offset)) as found:
            async for records in found:
                return _of(request, records[0].value)
        return None


def _of(request: Request, value: bytes | None) -> Recommendation | None:
    try:
        record = decode_recommendation(value or b"")
    except UNDECODABLE:
        return None
    same = record.request_id == request.request_id and record.user_id == request.user_id
    return record if same else None
