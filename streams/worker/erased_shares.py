"""What erased users have taught policies leaves the sums, by what `feedback` says of their slates."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.durability.restore import features_of
from streams.events import UNDECODABLE, Feedback, decode_feedback
from streams.kafka.columns import Record, RecordColumns
from streams.kafka.log import Log
from streams.state.rows import Erased, Life, erased_key
from streams.state.shard import Shard
from streams.state.taught import Taught

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
SLICE = 256  # records looked at between two looks at the event loop: half a millisecond
ARMS_AT_ONCE = 32  # subtracted likewise
RETRY_S = 60.0
AT_ONCE = 1000  # slates that wait for corrections


class ErasedShares:
    """Reads `feedback` once for all who were erased, when the first of them has waited for half the time.

    What slates taught that could still be rewarded is out of the sums since the erasure itself.

    Parameters
    ----------
    shards : returns the shards that are restored and owned
    topic : full name of `feedback`
    flush : puts what a shard holds on the changelogs
    within_hours : after an erasure, in which its share is to be out
    """

    def __init__(
        self,
        source: Log,
        topic: str,
        shards: Callable[[], list[Shard]],
        flush: Callable[[Shard], Awaitable[bool]],
        *,
        within_hours: float,
        clock: Clock,
    ) -> None:
        self._log = source
        self._topic = topic
        self._shards = shards
        self._flush = flush
        self._patience_ms = within_hours * HOUR_MS / 2
        self._clock = clock
        self._paused_until_s = -math.inf

    async def sweep(self) -> None:
        """Do what is due, one partition after the other."""
        if self._clock.monotonic() < self._paused_until_s:
            return
        for shard in self._shards():
            unsettled = dict(shard.profiles.erasures.unsettled)
            if any(self._is_due(mark) for mark in unsettled.values()):
                await self.settle(shard, unsettled)

    def _is_due(self, mark: Erased) -> bool:
        waited_ms = self._clock.time() * 1000 - mark.erased_ms
        return not 0 <= waited_ms < self._patience_ms  # a time of a clock that is ahead says nothing

    async def settle(self, shard: Shard, marks: Mapping[bytes, Erased]) -> None:
        """Take out what users taught in the lives that their marks have, by keys."""
        try:
            taught = await self._taught(shard, marks)
        except (KafkaError, AssertionError) as error:  # the latter is aiokafka's, where no broker is named
            log.error(
                "partition %d: what %d erased users taught stays in what policies have learned for now: %s "
                "cannot be read: %r", shard.partition, len(marks), self._topic, error,
            )  # fmt: skip
            self._paused_until_s = self._clock.monotonic() + RETRY_S
            return
        async with shard.lock:  # no flush writes the marks without the sums
            if shard.dropped:
                return
            for version, part in taught.parts.items():
                while (some := part.take_changes(ARMS_AT_ONCE)) is not None:
                    shard.learning.take_out(version, some)
                    await asyncio.sleep(0)
            with shard.users_lock:
                for key, mark in marks.items():
                    shard.profiles.erasures.settle(key, mark.lives)
        if await self._flush(shard):
            log.info(
                "partition %d: what %d erased users taught is taken out of what policies have learned",
                shard.partition, len(marks),
            )  # fmt: skip

    async def _taught(self, shard: Shard, marks: Mapping[bytes, Erased]) -> Taught:
        """Sum up what slates taught that were closed for good before their users were erased."""
        found = _Slates(shard, marks)
        async for records in self._log.read(self._topic, shard.partition):
            columns = RecordColumns.of(records)
            for begin in range(0, len(columns), SLICE):
                for record in columns[begin : begin + SLICE]:
                    found.see(record)
                await asyncio.sleep(0)
        found.finish()
        return found.taught


class _Slates:
    """Adds up the slates of users who have marks, of each what is said of it last."""

    def __init__(self, shard: Shard, marks: Mapping[bytes, Erased]) -> None:
        self._lives = {key: mark.lives for key, mark in marks.items()}
        self._keep_ms = shard.slates.keep_ms
        self._quarantine = shard.profiles.quarantine
        self._waiting: dict[str, Feedback] = {}
        self.taught: Taught = shard.learning.taught()

    def see(self, record: Record) -> None:
        """Take in a record of `feedback`, in their order."""
        user_id = (record.key or b"").decode(errors="replace")
        if (lives := self._lives.get(erased_key(user_id))) is None:
            return
        try:
            said = decode_feedback(record.value or b"")
        except UNDECODABLE:
            return
        if self._is_owed(said, lives):
            self._waiting[said.request_id] = said
        if len(self._waiting) > AT_ONCE:
            self._add(closed_ms=said.closed_ms)

    def finish(self) -> None:
        """Add what might still have been corrected."""
        self._add(closed_ms=None)

    def _is_owed(self, said: Feedback, lives: Sequence[Life]) -> bool:
        """Whether a slate was closed for good before an erasure, and something was learned of it."""
        if not said.features or self._was_held(said):
            return False
        before_ms = -1
        for life in lives:
            closed = before_ms < said.closed_ms <= life.closed_ms
            if not life.settled and closed and said.timestamp_ms + self._keep_ms <= life.closed_ms:
                return True
            before_ms = max(before_ms, life.closed_ms)
        return False

    def _was_held(self, said: Feedback) -> bool:
        """Whether its user may have been in quarantine; of several times the clock is known of the last."""
        mark = self._quarantine.of(said.user_id)
        return mark is not None and (len(mark.spans) > 1 or said.timestamp_ms >= mark.since_ms)

    def _add(self, *, closed_ms: int | None) -> None:
        """Add the slates that nothing corrects any more, which were kept till a watermark or less."""
        final = [
            said
            for said in self._waiting.values()
            if closed_ms is None or said.timestamp_ms + self._keep_ms <= closed_ms
        ]
        for said in final:
            del self._waiting[said.request_id]
            self.taught.add(
                said.model_version, features_of(said), [item.item_id for item in said.slate],
                timestamp_ms=said.timestamp_ms, actions=said.actions, rewards=said.rewards,
            )  # fmt: skip
