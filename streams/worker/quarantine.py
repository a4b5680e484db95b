"""Putting users into quarantine, and letting them go: durable before it is answered."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from streams.api.answers import Held, Quarantined, Span, Suspect
from streams.clock import Clock
from streams.errors import OwnershipLost
from streams.state import rows
from streams.state.rings import OFFSET
from streams.state.shard import Shard

DAY_MS = 86_400_000


class Quarantines:
    """Changes and tells who is in quarantine, of partitions that are owned.

    Parameters
    ----------
    flush : puts what a shard holds on the changelogs, and returns whether it is there; drops the shard if it
        is another worker's
    days : after which a quarantine ends by itself; None = never
    """

    def __init__(
        self, flush: Callable[[Shard], Awaitable[bool]], *, clock: Clock, days: float | None = None
    ) -> None:
        self._flush = flush
        self._clock = clock
        self._lasts_ms = None if days is None else int(days * DAY_MS)

    async def hold(self, shard: Shard, user_id: str, *, why: str) -> Held:
        """Hold a user: from the next click on, their clicks do not count for others. Idempotent.

        Raises
        ------
        OwnershipLost
            If the partition is another worker's by now, or may be: the group does not answer.
        """
        self._hold(shard, {user_id: why})
        return await self._durable(shard, user_id)

    async def hold_all(self, shard: Shard, why: Mapping[str, str]) -> None:
        """Do so for several users, each with a reason.

        Raises
        ------
        OwnershipLost
            If the partition is another worker's by now, or may be: the group does not answer.
        """
        self._hold(shard, why)
        for user_id in list(why)[:1]:  # what makes one durable does so for all
            await self._durable(shard, user_id)

    def _hold(self, shard: Shard, why: Mapping[str, str]) -> None:
        now_ms = self._now_ms()
        with shard.items_lock, shard.users_lock:
            begin, profiles = shard.next_offset, shard.profiles
            for user_id, reason in why.items():
                row = profiles.row_of(user_id)
                profiles.quarantine.hold(user_id, row, begin, now_ms=now_ms, why=reason)

    async def release(self, shard: Shard, user_id: str) -> Held | None:
        """Release a user: from the next click on, their clicks count again. None if they were never held.

        Raises
        ------
        OwnershipLost
            If the partition is another worker's by now, or may be: the group does not answer.
        """
        with shard.items_lock, shard.users_lock:
            if shard.profiles.quarantine.of(user_id) is None:
                return None
            shard.profiles.quarantine.release(user_id, shard.next_offset)
        return await self._durable(shard, user_id)

    async def end_old(self, shard: Shard) -> int:
        """Release whoever has been held for as long as a quarantine lasts; count them."""
        if self._lasts_ms is None:
            return 0
        with shard.items_lock, shard.users_lock:
            before_ms = self._now_ms() - self._lasts_ms
            ended = shard.profiles.quarantine.release_since(before_ms, shard.next_offset)
        if ended:
            await self._flush(shard)
        return ended

    def judged(self, shard: Shard, user_id: str) -> bool:
        """Tell whether a user is in quarantine, or is let be after one.

        A user is let be after a release until the quarantine would have ended by itself, and in any case
        until they click.
        """
        profiles = shard.profiles
        with shard.users_lock:
            mark, row = profiles.quarantine.of(user_id), profiles.row_of(user_id)
            latest = -1 if row < 0 else int(profiles.rings.users[row, OFFSET])
        if mark is None:
            return False
        over = self._lasts_ms is not None and mark.since_ms <= self._now_ms() - self._lasts_ms
        return not (over and mark.ended_before(latest))

    def of(self, shard: Shard, suspects: Sequence[Suspect] = ()) -> Quarantined:
        """Return all who are or were in quarantine, the latest first; those who were erased have no id."""
        marks = sorted(shard.profiles.quarantine.marks.values(), key=lambda one: -one.since_ms)
        return Quarantined(shard.partition, [_told(mark.user_id, mark) for mark in marks], list(suspects))

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)

    async def _durable(self, shard: Shard, user_id: str) -> Held:
        flushed = await self._flush(shard)
        mark = shard.profiles.quarantine.of(user_id)
        if not flushed or shard.dropped or mark is None:
            raise OwnershipLost(f"partition {shard.partition} is going to another worker")
        return _told(user_id, mark)


def _told(user_id: str, mark: rows.Quarantined) -> Held:
    spans = [Span(*one) for one in mark.spans]
    return Held(user_id, mark.lasts, spans, mark.since_ms, mark.why, mark.forgotten)
