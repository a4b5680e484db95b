"""Follows `feedback` for the drift of whatever release serves."""

import logging
import time

from aiokafka.errors import KafkaError

from streams.kafka.reader import TailReader
from streams.kafka.topics import topic_name, topic_partitions
from streams.releases.changes import DECIDE, read_changes, standing
from streams.settings import Settings
from streams.trainer.drift import ScoreDrift

log = logging.getLogger(__name__)

LOOK_S = 30.0
EVERY_MS = 3_600  # so that either side is of an hour at least, with slates of ten items
"""Between two slates that are read, of all partitions together."""


class DriftFollower:
    """Says how far the scores of the live release have drifted; without `trainer_drift` it reads nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tail: TailReader | None = None
        self._look_after = 0.0
        self.scores: ScoreDrift | None = None

    async def look(self) -> float | None:
        """Return the stability index of the live release's scores, None while it is not known."""
        if self._settings.trainer_drift is None:
            return None
        if self._tail is not None and self._tail.task.done():  # the brokers have been away: it is read again
            await self.stop()
        if time.monotonic() >= self._look_after:
            self._look_after = time.monotonic() + LOOK_S
            await self._follow()
        return None if self.scores is None else self.scores.index

    async def _follow(self) -> None:
        """Read the slates of what serves by now, from when that was said on."""
        changes = await read_changes(self._settings)
        live = standing(changes).live
        if live == (None if self.scores is None else self.scores.version):
            return
        await self.stop()
        if live is None:
            return
        since_ms = max(one.timestamp_ms for one in changes if one.version == live and one.change in DECIDE)
        topic, partitions = (
            topic_name(self._settings, "feedback"),
            topic_partitions(self._settings, "feedback"),
        )
        scores = ScoreDrift(live, every_ms=EVERY_MS * partitions)
        tail = TailReader(self._settings, {topic: partitions}, scores.add, since_ms=since_ms)
        try:
            await tail.start()
        except (KafkaError, AssertionError) as error:  # the latter is aiokafka's, where no broker is named
            log.warning("feedback cannot be followed now: %r", error)
            await tail.stop()
            return
        self._tail, self.scores = tail, scores

    async def stop(self) -> None:
        """Stop to read."""
        tail, self._tail, self.scores = self._tail, None, None
        if tail is not None:
            await tail.stop()
