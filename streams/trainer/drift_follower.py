"""Follows `feedback` for the drift of whatever release serves."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.kafka.log import Log, Tail
from streams.kafka.topics import topic_name, topic_partitions
from streams.releases.changes import DECIDE, ReleaseChange, fold_changes
from streams.settings import Settings
from streams.trainer.drift import ScoreDrift

log = logging.getLogger(__name__)

LOOK_S = 30.0
EVERY_MS = 3_600  # so that either side is of an hour at least, with slates of ten items
"""Between two slates that are read, of all partitions together."""


class DriftFollower:
    """Says how far the scores of the live release have drifted; without `trainer_drift` it reads nothing.

    Parameters
    ----------
    changes : returns the changes of `model-releases`
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        *,
        changes: Callable[[], Awaitable[Sequence[ReleaseChange]]],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._log = log
        self._changes = changes
        self._clock = clock
        self._tail: Tail | None = None
        self._look_after = 0.0
        self._scores: ScoreDrift | None = None
        self._answered: tuple[str, int] = "", 0  # of which release, and when

    async def look(self) -> float | None:
        """Return the stability index of the live release's scores, None while it is not known."""
        if self._settings.trainer_drift is None:
            return None
        if self._tail is not None and self._tail.task.done():  # the brokers have been away: it is read again
            await self.stop()
            self._look_after = 0.0
        if self._clock.monotonic() >= self._look_after:
            self._look_after = self._clock.monotonic() + LOOK_S
            await self._follow()
        return None if self._scores is None else self._scores.index

    def answer(self) -> None:
        """Compare with the latest scores from now on: a training answers the drift so far."""
        if self._scores is not None:
            self._answered = self._scores.version, int(1000 * self._clock.time())
            self._scores.rebase()

    async def stop(self) -> None:
        """Stop to read."""
        tail, self._tail, self._scores = self._tail, None, None
        if tail is not None:
            await tail.stop()

    async def _follow(self) -> None:
        """Read the slates of what serves by now, from when that was said on, or its drift was answered."""
        changes = await self._changes()
        live = fold_changes(changes).live
        if live == (None if self._scores is None else self._scores.version):
            return
        await self.stop()
        if live is None:
            return
        since_ms = max(one.timestamp_ms for one in changes if one.version == live and one.change in DECIDE)
        answered, answered_ms = self._answered
        if answered == live:  # what led to a training would lead to another
            since_ms = max(since_ms, answered_ms)
        topic, partitions = (
            topic_name(self._settings, "feedback"),
            topic_partitions(self._settings, "feedback"),
        )
        scores = ScoreDrift(live, every_ms=EVERY_MS * partitions)
        tail = self._log.follow({topic: partitions}, scores.add, since_ms=since_ms)
        try:
            await tail.start()
        except (KafkaError, AssertionError) as error:  # the latter is aiokafka's, where no broker is named
            log.warning("feedback cannot be followed now: %r", error)
            await tail.stop()
            return
        self._tail, self._scores = tail, scores
