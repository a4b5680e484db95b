"""Decides on a canary, or on a shadow, by what its slates earn or would: each decision is a record."""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Sequence

from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.errors import SlatestreamError
from streams.kafka.log import Log, RowPublisher, Tail
from streams.metrics import Metrics
from streams.releases.changes import Gate, Kind, ReleaseChange, encode_change, fold_changes
from streams.releases.comparison import Comparison, Outcome
from streams.releases.shadow_trial import ShadowTrial
from streams.serving.shadowing import Shadow

log = logging.getLogger(__name__)

LOOK_S = 1.0
RETRY_S = 10.0


class Decider:
    """Decides on what is tried, for as long as this worker is to.

    That is the worker which answers for the first partition. Of a canary it keeps nothing: another one reads
    the slates from the canary's record on, and knows what this one knew. A shadow answers in this worker
    alone, and another one begins anew. Where two take themselves for it, the record that comes first counts,
    and the other is void.

    Parameters
    ----------
    topics : full name on the broker by name
    partitions : of `feedback`
    changes : returns the changes of `model-releases`, none before all are known
    decides : whether this worker is to
    wake : lets a shadow be loaded, or be let go, when this worker begins to decide, or ceases to
    shadow : returns what the shadow has made of requests here
    positive : actions that count as a response
    """

    def __init__(
        self,
        log: Log,
        topics: dict[str, str],
        partitions: int,
        *,
        changes: Callable[[], Sequence[ReleaseChange]],
        decides: Callable[[], bool],
        wake: Callable[[], None],
        shadow: Callable[[], Shadow | None],
        positive: Collection[str],
        publisher: RowPublisher,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._log = log
        self._topics = topics
        self._partitions = partitions
        self._changes = changes
        self._decides = decides
        self._wake = wake
        self._shadow = shadow
        self._positive = positive
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._tail: Tail | None = None
        self._decided: ReleaseChange | None = None
        self._decided_before = False
        self.comparison: Comparison | None = None
        self._trial: Comparison | ShadowTrial | None = None

    async def look(self) -> None:
        """Decide, if it is time; called again and again."""
        decides = self._decides()
        if decides != self._decided_before:
            self._decided_before = decides
            self._wake()
        changes = self._changes() if decides else ()
        found = fold_changes(changes)
        if found.tried is not (None if self._trial is None else self._trial.begun):
            await self._begin(found.tried, found.live)
        if self._trial is None or self._tail is None or self._decided is self._trial.begun:
            return
        if self._tail.task.done():  # the brokers have been away: it is read again
            await self._begin(found.tried, found.live)
            return
        if not self._tail.caught_up.is_set():
            return
        if self.comparison is not None:
            self._metrics.set_comparison(self.comparison.figures())
        outcome = self._refused(changes) or self._trial.outcome(int(1000 * self._clock.time()))
        if outcome is not None:
            await self._write(self._trial.begun, found.live or "", outcome)

    async def stop(self) -> None:
        """Stop to read."""
        tail, self._tail, self.comparison, self._trial = self._tail, None, None, None
        if tail is not None:
            await tail.stop()

    async def _begin(self, begun: ReleaseChange | None, live: str | None) -> None:
        await self.stop()
        self._metrics.set_comparison(None)
        if begun is None or live is None:
            return
        canary = Comparison(begun, live) if begun.change == "canary" else None
        trial = canary or ShadowTrial(begun, live, self._shadow, positive=self._positive)
        places = {self._topics["feedback"]: self._partitions}
        self._tail = self._log.follow(places, trial.add, since_ms=begun.timestamp_ms)
        try:
            await self._tail.start()
        except (KafkaError, AssertionError) as error:  # the latter is aiokafka's, where no broker is named
            log.warning("slates beside %s cannot be read now: %r", begun.version, error)
            await self.stop()
            await asyncio.sleep(RETRY_S)
            return
        self.comparison, self._trial = canary, trial

    def _refused(self, changes: Sequence[ReleaseChange]) -> Outcome | None:
        """Return that a release is not to be tried any more which a worker could not serve."""
        assert self._trial is not None
        begun = self._trial.begun
        since = next(number for number, change in enumerate(changes) if change is begun)
        for change in changes[since:]:
            if change.change == "refuse" and change.version == begun.version:
                return Outcome(False, Gate(begun.change, False, f"refused by {change.by}: {change.reason}"))
        return None

    async def _write(self, begun: ReleaseChange, live: str, outcome: Outcome) -> None:
        said = self._said(begun, live, outcome)
        try:
            await self._publisher.publish(self._topics["model-releases"], 0, [encode_change(said)])
        except (KafkaError, SlatestreamError) as error:
            log.error("the decision on %s %s could not be written: %s", begun.change, begun.version, error)
            await asyncio.sleep(RETRY_S)
            return
        self._decided = begun
        if begun.change == "canary":
            self._metrics.canaries.labels("promoted" if outcome.promote else "rolled_back").inc()
        log.warning("%s %s: %s, %s", begun.change, begun.version, said.change, outcome.gate.reason)

    def _said(self, begun: ReleaseChange, live: str, outcome: Outcome) -> ReleaseChange:
        """Return the record of a decision."""
        kind: Kind = "promote"
        trial, version, shadow = None, begun.version, begun.change == "shadow"
        if not outcome.promote:
            kind, version = ("reject", version) if shadow else ("rollback", live)
        elif shadow and begun.trial is not None and begun.trial.then is not None:
            kind, trial = "canary", begun.trial.then
        by, reason = (
            f"worker {socket.gethostname()}",
            f"{begun.change} {begun.version}: {outcome.gate.reason}",
        )
        return ReleaseChange(
            kind, version, by, int(1000 * self._clock.time()), reason, live, (*begun.gates, outcome.gate),
            trial, begun.timestamp_ms,
        )  # fmt: skip
