"""Promotes a canary or rolls it back, by what its slates have earned: each decision is a record."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.errors import SlatestreamError
from streams.kafka.log import Log, RowPublisher, Tail
from streams.metrics import Metrics
from streams.releases.changes import Gate, Kind, ReleaseChange, encode_change, standing
from streams.releases.comparison import Comparison, Outcome

log = logging.getLogger(__name__)

LOOK_S = 1.0
RETRY_S = 10.0


class Decider:
    """Decides on the canary for as long as this worker is to.

    That is the worker which answers for the first partition. It keeps nothing: another one reads the slates
    from the canary's record on, and knows what this one knew. Where two take themselves for it, the record
    that comes first counts, and the other is void.

    Parameters
    ----------
    topics : full name on the broker by name
    partitions : of `feedback`
    changes : returns the changes of `model-releases`, none before all are known
    decides : whether this worker is to
    """

    def __init__(
        self,
        log: Log,
        topics: dict[str, str],
        partitions: int,
        *,
        changes: Callable[[], Sequence[ReleaseChange]],
        decides: Callable[[], bool],
        publisher: RowPublisher,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._log = log
        self._topics = topics
        self._partitions = partitions
        self._changes = changes
        self._decides = decides
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._tail: Tail | None = None
        self._decided: ReleaseChange | None = None
        self.comparison: Comparison | None = None

    async def look(self) -> None:
        """Decide, if it is time; called again and again."""
        changes = self._changes() if self._decides() else ()
        found = standing(changes)
        if found.canary is not (None if self.comparison is None else self.comparison.begun):
            await self._begin(found.canary, found.live)
        if self.comparison is None or self._tail is None or self._decided is self.comparison.begun:
            return
        if self._tail.task.done():  # the brokers have been away: it is read again
            await self._begin(found.canary, found.live)
            return
        if not self._tail.caught_up.is_set():
            return
        self._metrics.set_comparison(self.comparison.figures())
        outcome = self._refused(changes) or self.comparison.outcome(int(1000 * self._clock.time()))
        if outcome is not None:
            await self._write(self.comparison.begun, found.live or "", outcome)

    async def stop(self) -> None:
        """Stop to read."""
        tail, self._tail, self.comparison = self._tail, None, None
        if tail is not None:
            await tail.stop()

    async def _begin(self, canary: ReleaseChange | None, live: str | None) -> None:
        await self.stop()
        self._metrics.set_comparison(None)
        if canary is None or live is None:
            return
        comparison = Comparison(canary, live)
        places = {self._topics["feedback"]: self._partitions}
        self._tail = self._log.follow(places, comparison.add, since_ms=canary.timestamp_ms)
        try:
            await self._tail.start()
        except (KafkaError, AssertionError) as error:  # the latter is aiokafka's, where no broker is named
            log.warning("slates of canary %s cannot be read now: %r", canary.version, error)
            await self.stop()
            await asyncio.sleep(RETRY_S)
            return
        self.comparison = comparison

    def _refused(self, changes: Sequence[ReleaseChange]) -> Outcome | None:
        """Return that a canary is to be rolled back which a worker could not serve."""
        assert self.comparison is not None
        begun = self.comparison.begun
        since = next(number for number, change in enumerate(changes) if change is begun)
        for change in changes[since:]:
            if change.change == "refuse" and change.version == begun.version:
                return Outcome(False, Gate("canary", False, f"refused by {change.by}: {change.reason}"))
        return None

    async def _write(self, canary: ReleaseChange, live: str, outcome: Outcome) -> None:
        kind: Kind = "promote" if outcome.promote else "rollback"
        said = ReleaseChange(
            kind, canary.version if outcome.promote else live, f"worker {socket.gethostname()}",
            int(1000 * self._clock.time()), f"canary {canary.version}: {outcome.gate.reason}", live,
            (*canary.gates, outcome.gate), decides_ms=canary.timestamp_ms,
        )  # fmt: skip
        try:
            await self._publisher.publish(self._topics["model-releases"], 0, [encode_change(said)])
        except (KafkaError, SlatestreamError) as error:
            log.error("the decision on canary %s could not be written: %s", canary.version, error)
            await asyncio.sleep(RETRY_S)
            return
        self._decided = canary
        self._metrics.canaries.labels("promoted" if outcome.promote else "rolled_back").inc()
        log.warning("canary %s: %s, %s", canary.version, kind, outcome.gate.reason)
