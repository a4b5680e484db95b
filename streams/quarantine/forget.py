"""Shared item statistics, folded from the logs as if some users had done nothing."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from streams.durability.covisit_rows import take_covisits
from streams.durability.state_rows import Bucket
from streams.errors import SlatestreamError
from streams.kafka.log import Ends, Log
from streams.kafka.state_writers import StateWriters
from streams.kafka.topics import topics_of_worker
from streams.settings import Settings
from streams.state.rows import SCHEMA_VERSION, Quarantined, Row, encode, quarantine_key
from streams.verify.offline import Counting, Offline
from streams.verify.run import Committed

ALL = Bucket(0, 1)


class Forgetting:
    """Rewrites the items of partitions, one after the other; no worker may run meanwhile.

    It writes as a worker does that takes a partition over, in one transaction: if a worker comes and takes
    it back, nothing has been written.

    Parameters
    ----------
    ends : started
    committed : see `streams.verify.run`
    tell : called with the partition and how many records of clicks have been folded since the last call
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        ends: Ends,
        *,
        committed: Committed,
        tell: Callable[[int, int], object] = lambda partition, records: None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._ends = ends
        self._committed = committed
        self._tell = tell
        self._topics = topics_of_worker(settings)
        self._writers = StateWriters(settings, log, self._topics)

    async def forget(
        self, partition: int, user_ids: Sequence[str], counting: Counting, *, now_ms: int, why: str
    ) -> int:
        """Take what users have added to items out of it, and put them into quarantine; count rows changed.

        Raises
        ------
        SlatestreamError
            If the clicks of the beginning are gone: what others have added would be lost, too. If workers of
            these settings forget users or items that a fold of the whole log would bring back.
        Fenced
            If a worker has taken the partition meanwhile.
        """
        await self._writers.open(partition)
        try:
            stored = self._offline(partition, counting)
            folded = self._offline(partition, counting)
            try:
                await stored.restore(await self._committed(partition))
                base = stored.shard.logs.of("clicks")
                await self._check_complete(partition, base)
                end = (await self._ends.of(self._topics["clicks"], [partition]))[partition]
                marks = stored.shard.profiles.quarantine.marks
                fresh = {
                    quarantine_key(one): _forgotten(one, marks.get(quarantine_key(one)), end, now_ms, why)
                    for one in user_ids
                }
                folded.hold({**marks, **fresh})
                folded.erase_at(stored.shard.profiles.erasures.marks)
                await folded.fold(clicks=end - 1, users=0, recommendations=-1)
                if why_not := folded.forgotten().get("items"):
                    raise SlatestreamError(
                        f"quarantine: items of partition {partition} cannot be folded again: {why_not}, and "
                        "the log still has them; `quarantine add` holds back what comes from now on"
                    )
                items = _changed(stored, folded)
                groups = _written(("policy-state", items), ("user-state", _marks(fresh)))
                await self._writers.write(partition, groups)
                return len({key for key, _ in items})
            finally:
                stored.close()
                folded.close()
        finally:
            await self._writers.close(partition)

    def _offline(self, partition: int, counting: Counting) -> Offline:
        return Offline(
            self._settings, self._log, partition, counting, tell=lambda n: self._tell(partition, n)
        )

    async def _check_complete(self, partition: int, base: int) -> None:
        begin = (await self._ends.begins(self._topics["clicks"], [partition]))[partition]
        if base or begin:
            why = "was deleted and made anew" if base else f"begins at offset {begin}"
            raise SlatestreamError(
                f"quarantine: clicks of partition {partition} {why}: what users added before is in no log "
                "any more, and a fold would lose it; `quarantine add` holds back what comes from now on"
            )


def _forgotten(user_id: str, mark: Quarantined | None, end: int, now_ms: int, why: str) -> Quarantined:
    """The mark of a user of whom no click before `end` counts in items, and none from it on for anybody."""
    if mark is not None and mark.lasts:
        return msgspec.structs.replace(mark, user_id=user_id, forgotten=end)
    spans = [*([] if mark is None else mark.spans), (end, None)]
    return Quarantined(SCHEMA_VERSION, user_id, spans, now_ms, why, end)


def _marks(marks: Mapping[bytes, Quarantined]) -> list[Row]:
    return [(key, encode(mark)) for key, mark in marks.items()]


async def _written(*groups: tuple[str, list[Row]]) -> AsyncIterator[tuple[str, list[Row]]]:
    for group in groups:
        yield group


def _changed(stored: Offline, folded: Offline) -> list[Row]:
    """Return rows of the items that differ.

    A tombstone goes before each: of two rows the one with the later click counts, which may be the old one.
    """
    was, now = dict(stored.rows("items", ALL)), dict(folded.rows("items", ALL))
    differ = {key for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
    rows: list[Row] = [(key, None) for key in sorted(differ & was.keys())]
    shard = folded.shard
    taken = take_covisits(shard.covisits, folded.index, shard.partition).rows
    return [*rows, *((key, value) for key, value in taken if key in differ)]
