"""Rebuilding a shard from the topics: changelog rows first, then the tails of the logs they point into."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.decoding.records import decode
from streams.durability.covisit_restore import name_covisits, place_covisits, read_covisits
from streams.durability.likes_rows import read_likes, settle_likes
from streams.durability.profile_restore import Restore
from streams.durability.weight_rows import take_over_weights
from streams.events import UNDECODABLE, Feedback, Recommendation, decode_click, decode_recommendation
from streams.kafka.columns import Record, RecordColumns
from streams.kafka.inputs import Inputs
from streams.kafka.log import Log
from streams.kafka.progress import Progress
from streams.metrics import Metrics
from streams.state.item_index import ItemIndex
from streams.state.log_bases import LOGS_PREFIX
from streams.state.policy_row import ARM_PREFIX, STATISTICS_PREFIX, PolicyRow, decode_policy_row, is_arm_in
from streams.state.rows import LIKES_PREFIX, WEIGHTS_PREFIX
from streams.state.shard import Shard
from streams.state.shard_factory import ShardFactory
from streams.state.spending import SPEND_PREFIX

log = logging.getLogger(__name__)

# Records handled in one turn of the loop: by kernels, mostly in another thread; one by one in this one.
ROWS_AT_ONCE, IDS_AT_ONCE, SLATES_AT_ONCE = 8192, 2048, 128
OLDER_IDS = 20_000
"""How many ids are remembered of slates that can no longer be rewarded: 60 MB are read, of slates of 3 kB."""
RESTORED = ("user-state", "policy-state", "recommendations")  # counted; clicks are only looked through


class _Answered(msgspec.Struct):
    """The fields that are read of a slate that nobody can click on any more."""

    request_id: str


_decode_answered = msgspec.json.Decoder(_Answered).decode


class Restorer:
    """Rebuilds shards.

    Parameters
    ----------
    topics : full name on the broker by name
    answered_requests : how many are remembered of a partition
    take_over : lets nobody else write a partition from now on
    """

    def __init__(
        self,
        log: Log,
        topics: Mapping[str, str],
        factory: ShardFactory,
        *,
        answered_requests: int,
        index: ItemIndex,
        inputs: Inputs,
        take_over: Callable[[int], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._topics = topics
        self._factory = factory
        self._answered_requests = answered_requests
        self._index = index
        self._inputs = inputs
        self._take_over = take_over
        self._metrics = metrics

    async def restore(self, partition: int) -> Shard:
        """Take over a partition from whoever wrote it, and return its shard as it was last flushed.

        What came after is read again from the committed offsets by the agents, and rows that have seen it
        already take no notice.
        """
        await self._take_over(partition)
        shard = self._factory.shard(partition)
        await self._profiles(shard)
        # Without a row, slates may be out all the same: from before the first flush.
        row, arms = await self._shared(shard)
        row = row or shard.policy_row()
        self._took_over(shard, row, arms)
        await self._inputs.positioned()
        self._meet_logs(shard)
        await self._slates(shard, row)
        await self._rewards(shard, row)
        shard.slates.resume(row.closed_ms)
        shard.clicks = Progress(self._inputs.start_offset("clicks", partition))
        shard.users = Progress(self._inputs.start_offset("users", partition))
        shard.flushed.users = shard.flushed.shared = shard.clicks.position
        shard.folded_before = self._inputs.end_offset("clicks", partition)
        return shard

    async def _read(
        self,
        name: str,
        partition: int,
        *,
        start: int = 0,
        at_once: int = SLATES_AT_ONCE,
    ) -> AsyncIterator[RecordColumns]:
        """Yield the records of a partition, at most so many in one turn of the loop."""
        async for records in self._log.read(self._topics[name], partition, start=start):
            columns = RecordColumns.of(records)
            for begin in range(0, len(columns), at_once):
                yield columns[begin : begin + at_once]
                await asyncio.sleep(0)
            if name in RESTORED:
                self._metrics.count_restored(name, len(columns))

    async def _profiles(self, shard: Shard) -> None:
        """Restore the users: bytes in another thread, and only what others read as well in this one."""
        restore = Restore(shard.profiles, self._index)
        async for records in self._read("user-state", shard.partition, at_once=ROWS_AT_ONCE):
            batch = await asyncio.to_thread(restore.read, records)
            await asyncio.to_thread(restore.place, batch, restore.items(batch))
        restore.finish_left()
        await asyncio.to_thread(restore.finish_chunks)
        for _ in restore.finish_stated():
            await asyncio.sleep(0)

    async def _shared(self, shard: Shard) -> tuple[PolicyRow | None, dict[bytes, bytes]]:
        """Restore item statistics; return the newest row of the bandit, and the rows of its arms by key."""
        newest: PolicyRow | None = None
        arms: dict[bytes, bytes] = {}
        weights: tuple[bytes, bytes] | None = None
        logs = b""
        spent: dict[bytes, bytes] = {}
        async for records in self._read("policy-state", shard.partition, at_once=ROWS_AT_ONCE):
            rows, rest = await asyncio.to_thread(read_covisits, records)
            names = name_covisits(shard.covisits, self._index, rows)
            await asyncio.to_thread(place_covisits, shard.covisits, rows, *names)
            liked: list[Record] = []
            for record in rest:
                key = record.key or b""
                if key.startswith(STATISTICS_PREFIX) and record.value is not None:
                    newest = decode_policy_row(record.value)
                elif key.startswith(LOGS_PREFIX) and record.value is not None:
                    logs = record.value
                elif key.startswith(ARM_PREFIX) and record.value:
                    arms[key] = record.value
                elif key.startswith(ARM_PREFIX):
                    arms.pop(key, None)
                elif key.startswith(SPEND_PREFIX) and record.value:
                    spent[key] = record.value
                elif key.startswith(SPEND_PREFIX):
                    spent.pop(key, None)
                elif key.startswith(LIKES_PREFIX):
                    liked.append(record)
                elif key.startswith(WEIGHTS_PREFIX) and record.value and shard.weigher is not None:
                    weights = key, record.value
            if liked:
                shard.profiles.likes.put(*read_likes(liked))
        await asyncio.to_thread(settle_likes, shard.profiles, self._index)
        if weights is not None and shard.weigher is not None:
            take_over_weights(shard.weigher, shard.partition, *weights)
        if shard.spending is not None:
            shard.spending.load(spent.items())
        shard.logs.load(shard.profiles.logs, logs)
        return newest, arms

    def _meet_logs(self, shard: Shard) -> None:
        for name in shard.logs.meet(self._inputs.log_ids, shard.newest_offsets()):
            self._metrics.logs_replaced.inc()
            log.error(
                "partition %d: %s was deleted and made anew; what was learned of the former one is kept, and "
                "this one is folded from its beginning", shard.partition, self._topics[name],
            )  # fmt: skip
        if shard.logs.unsaved:
            shard.profiles.save_logs(shard.logs.row())

    def _took_over(self, shard: Shard, row: PolicyRow, arms: Mapping[bytes, bytes]) -> None:
        """Go on with the sums of a row, those of each release in its own space."""
        shard.learning.load_positions(row)
        for space in row.spaces:
            if space.feature_space == shard.statistics.serving.feature_space:
                # A row from before the number was in it has as many features as the release.
                space = msgspec.structs.replace(space, dim=shard.statistics.serving.dim)
            if (found := self._factory.spaces.read(space)) is None:
                log.warning(
                    "partition %d: sums of %r are left out: with these settings this version has others",
                    shard.partition, space.feature_space,
                )  # fmt: skip
                continue
            shard.statistics.put(*found)
        for statistics in shard.statistics.every:
            mine = statistics.feature_space
            statistics.load_rows(value for key, value in arms.items() if is_arm_in(key, mine))
        shard.statistics.forget_oldest()  # each restart with another release leaves one more
        spaces = [statistics.feature_space for statistics in shard.statistics.every]
        shard.statistics.dropped_arms.update(
            key for key in arms if not any(is_arm_in(key, one) for one in spaces)
        )
        shard.learning.rewarded_offset = row.clicks_offset
        shard.learning.recommended_offset = row.recommendations_offset
        shard.watermark.ms = row.closed_ms
        shard.flushed.statistics = shard.learning.marks

    async def _slates(self, shard: Shard, row: PolicyRow) -> None:
        """Open the slates that can still be rewarded, and count those published after the row.

        Their ids are remembered, so that nobody is answered twice, and those of `OLDER_IDS` slates before.
        Where it is not known which requests have been read, all that were answered come again: then as many
        ids as there is room for.
        """
        start = max(0, row.open_from - shard.logs.of("recommendations"))
        unread = self._inputs.is_unread("requests", shard.partition)
        older = self._answered_requests if unread else min(OLDER_IDS, self._answered_requests)
        since = max(0, start - older)
        async for records in self._read("recommendations", shard.partition, start=since, at_once=IDS_AT_ONCE):
            opened = int(np.searchsorted(records.offsets, start))
            for offset, request_id in await asyncio.to_thread(_ids, records[:opened]):
                shard.answered.add(request_id, offset)
            for begin in range(opened, len(records), SLATES_AT_ONCE):
                some = records[begin : begin + SLATES_AT_ONCE]
                times = dict(zip(some.offsets.tolist(), some.timestamps.tolist(), strict=True))
                for offset, served in await asyncio.to_thread(decoded_slates, some):
                    shard.answered.add(served.request_id, offset)
                    reopen(shard, served, offset, closed_ms=row.closed_ms)
                    if shard.spending is not None:  # of a preview, too: the record does not tell
                        shard.spending.count_slate(
                            (item.item_id for item in served.slate), time_ms=times[offset],
                            offset=shard.logs.of("recommendations") + offset,
                        )  # fmt: skip
        if unread:
            # Requests come again from the oldest on, and must not take the places of the newest.
            shard.again_before = self._inputs.end_offset("requests", shard.partition)
            shard.answered.hold()

    async def _rewards(self, shard: Shard, row: PolicyRow) -> None:
        """Mark what the slates have been rewarded for already: those clicks are in the sums."""
        slates = shard.slates.slates()
        if not slates:
            return
        base = shard.logs.of("clicks")
        start, last = min(slate.after_offset for slate in slates) + 1 - base, row.clicks_offset - base
        if start > last:
            return
        async for records in self._read("clicks", shard.partition, start=max(0, start)):
            kept = [record for record in records if record.offset <= last]
            decoded = decode(kept, decode_click)
            for click, record in zip(decoded.values, decoded.records, strict=True):
                if shard.slates.has_open(click.user_id):
                    shard.slates.attribute(
                        click.user_id,
                        click.item_id,
                        click.action,
                        click.timestamp_ms,
                        click.request_id,
                        click.dwell_ms,
                        offset=base + record.offset,
                    )
            if len(kept) < len(records):
                return


def reopen(shard: Shard, served: Recommendation, offset: int, *, closed_ms: int) -> None:
    """Open a slate that lies at an offset of `recommendations`, if it can still be rewarded, and count it.

    Parameters
    ----------
    closed_ms : the watermark at which slates were last closed
    """
    features = features_of(served)
    kept = served.timestamp_ms + shard.slates.keep_ms > closed_ms
    if kept and len(features) == len(served.slate):
        shard.learning.open(served, features)
    shard.learning.count([(served, features, shard.logs.of("recommendations") + offset)])


def decoded_slates(records: RecordColumns) -> list[tuple[int, Recommendation]]:
    """Slates with their offsets; what somebody else wrote to the topic is left out."""
    found = []
    for record in records:
        with contextlib.suppress(*UNDECODABLE, TypeError):
            found.append((record.offset, decode_recommendation(record.value or b"")))
    return found


def _ids(records: RecordColumns) -> list[tuple[int, str]]:
    """Offsets of slates, and the ids of the requests that they answered."""
    found = []
    for record in records:
        with contextlib.suppress(*UNDECODABLE):
            found.append((record.offset, _decode_answered(record.value or b"").request_id))
    return found


def features_of(record: Recommendation | Feedback) -> NDArray[np.float32]:
    """Feature rows of a published slate: (len(slate), feature_dim) float32, none where they are damaged."""
    dim = record.feature_dim
    rows = np.frombuffer(record.features[: len(record.features) // 4 * 4], "<f4").astype(np.float32)
    if dim < 1 or rows.size != len(record.slate) * dim:
        return np.zeros((0, max(dim, 0)), np.float32)
    return rows.reshape(len(record.slate), dim)
