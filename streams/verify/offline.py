"""A partition's shard, made of the topics by a worker's own agents and nothing else."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from model_core.signals.config import SignalConfig
from streams.decoding.clicks import ClickColumns, click_columns
from streams.decoding.dead_letters import DeadLetters
from streams.decoding.records import Rejected
from streams.durability.restore import Restorer, decoded_slates, reopen
from streams.durability.state_rows import Bucket, Kind, StateRow, copy_rows
from streams.events import Recommendation
from streams.kafka.columns import RecordColumns
from streams.kafka.inputs import Inputs
from streams.kafka.log import Log
from streams.kafka.placement import Placement
from streams.kafka.record_batch import RecordBatch
from streams.kafka.topics import DAY_MS, topics_of_worker
from streams.mapping.click_reader import reader_of
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.item_index import ItemIndex
from streams.state.rows import Erased, Quarantined
from streams.state.shard import Shard
from streams.state.shard_factory import ShardFactory
from streams.verify.erasing import Erasing
from streams.verify.idle_times import Absences
from streams.worker.agents.clicks import ClickAgent
from streams.worker.agents.deletions import Deletions
from streams.worker.agents.users import UserAgent

SLATES_AHEAD = 256  # slates looked at to find those that a click may be an answer to


@dataclass(frozen=True, slots=True)
class Counting:
    """Parameters of a worker's release that its state depends on."""

    version: str
    feature_dim: int
    signals: SignalConfig


class _Unsaid(DeadLetters):
    """Takes what is refused: its dead letters were written by the worker that met it first."""

    def __init__(self) -> None:
        self.refused = 0

    async def publish(self, name: str, rejected: Sequence[Rejected]) -> None:
        self.refused += len(rejected)


@dataclass
class _CommittedOffsets:
    """Offsets at which a worker that joins now would begin to read, as `Inputs` asks a consumer."""

    start_offsets: Mapping[tuple[str, int], int]
    positioned: asyncio.Event = field(default_factory=asyncio.Event)
    log_ids: Mapping[str, str] = field(default_factory=dict)
    unread: Collection[tuple[str, int]] = ()
    end_offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)


class Offline:
    """Folds one partition, on and on, to wherever it is asked to.

    What depends on the order in which two topics were read is done in the order that is told of it: a user
    is erased where the mark of it says (`erase_at`), and a slate is there before the first click after it.

    Parameters
    ----------
    tell : called with how many records of clicks have been folded since the last call

    Attributes
    ----------
    through : the last click that is in the state, as rows count offsets; -1 before the first
    shown : offset of the last slate that something is learned from
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        partition: int,
        counting: Counting,
        *,
        tell: Callable[[int], object],
    ) -> None:
        self._settings = settings
        self._log = log
        self._topics = topics_of_worker(settings)
        self._tell = tell
        self._positive = frozenset(settings.positive_actions)
        self.index = ItemIndex()
        self._factory = ShardFactory(
            settings,
            serving=lambda: (counting.version, counting.feature_dim),
            signals=counting.signals,
        )
        self.shard = self._factory.shard(partition)
        self._metrics, self._unsaid = Metrics(), _Unsaid()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._next = dict.fromkeys(("clicks", "users", "recommendations"), 0)
        self._slates: deque[tuple[int, Recommendation]] = deque()
        self._erasing = Erasing(self.shard)
        self._absences = Absences()
        self.through = self.shown = -1
        reader = reader_of(settings)
        codes = {name: code for code, name in enumerate(settings.actions)}
        read = reader or partial(click_columns, action_codes=codes, max_future_ms=settings.max_future_ms)
        self._ready = None if reader is None else reader.ready
        placement = Placement(settings.partitions, self._metrics)

        def noted(records: RecordColumns) -> ClickColumns:
            columns = read(records)
            self._absences.add(columns.keys[0], columns.times)
            if self._erasing.next_offset is not None:
                self._erasing.meet(columns.users)
            return columns

        self._clicks = ClickAgent(
            settings.model_copy(update={"recommend_on": []}), self._owned, index=self.index, serve=_nobody,
            placement=placement, dead_letters=self._unsaid, metrics=self._metrics, threads=self._threads,
            read=noted,
        )  # fmt: skip
        self._users = UserAgent(
            self._owned, index=self.index, flush=_nobody, placement=placement,
            deletions=Deletions(self._metrics), dead_letters=self._unsaid, metrics=self._metrics,
        )  # fmt: skip

    async def _owned(self, partition: int) -> Shard:
        return self.shard

    @property
    def refused(self) -> int:
        """Records that no worker takes."""
        return self._unsaid.refused

    @property
    def users_next(self) -> int:
        """The next record of `users` to be read."""
        return self._next["users"]

    def close(self) -> None:
        """End its thread."""
        self._threads.shutdown(wait=False)

    async def restore(self, committed: Mapping[str, int]) -> None:
        """Begin with what the changelogs hold, as a worker does that takes over.

        Parameters
        ----------
        committed : by name, the next offset that the group will read of each input
        """
        partition = self.shard.partition
        inputs = Inputs(self._topics)
        consumer = _CommittedOffsets({(self._topics[name], partition): at for name, at in committed.items()})
        consumer.positioned.set()
        inputs.attach(consumer)
        restorer = Restorer(
            self._log, self._topics, self._factory, answered_requests=1, index=self.index, inputs=inputs,
            take_over=_nobody, metrics=self._metrics,
        )  # fmt: skip
        self.shard = self._erasing.shard = shard = await restorer.restore(partition)
        for slate in shard.slates.slates():
            self._erasing.show(slate.record)
        self._next = {
            "clicks": shard.clicks.position,
            "users": shard.users.position,
            "recommendations": shard.learning.recommended_offset + 1 - shard.logs.of("recommendations"),
        }
        self.through = shard.seen_offset
        self.shown = shard.learning.published[-1][0] if shard.learning.published else -1

    @property
    def newest(self) -> int:
        """The newest click that is in any row, as rows count offsets."""
        return max(self.shard.profiles.position, self.shard.learning.rewarded_offset, self.through)

    def forgotten(self) -> dict[str, str]:
        """Kinds in which a worker of these settings has less than its logs, because it forgets, and why."""
        settings, profiles = self._settings, self.shard.profiles
        last_ms = profiles.last_ms(np.flatnonzero(~profiles.ids.gone).astype(np.int32))
        idle_ms = self.shard.watermark.ms - int(last_ms.min(initial=self.shard.watermark.ms))
        idle_ms = max(idle_ms, self._absences.longest_ms)  # one who came back may have been forgotten before
        ttl = settings.user_ttl_days
        why = ""
        if ttl is not None and idle_ms > ttl * DAY_MS:
            why = f"users are forgotten who were idle for {ttl:g} days (user_ttl_days)"
        elif profiles.n_live > settings.max_users:
            why = f"users beyond {settings.max_users} are forgotten (max_users)"
        elif self.index.n_items > settings.max_undescribed_items * 7 // 8:
            why = "items that nobody describes are forgotten (max_undescribed_items)"
        return dict.fromkeys(("users", "items", "slates", "policy"), why) if why else {}

    # Erasures and quarantine

    def hold(self, marks: Mapping[bytes, Quarantined]) -> bool:
        """Take over who is in quarantine, by the keys of their marks.

        Returns False where a click counts by these, or does not, that has been folded otherwise.
        """
        profiles = self.shard.profiles
        known = profiles.quarantine.marks
        fresh = {key: mark for key, mark in marks.items() if known.get(key) != mark}
        changed = [mark.first_difference(known.get(key)) for key, mark in fresh.items()]
        if fresh:
            profiles.quarantine.load(fresh.items())
            rows = np.flatnonzero(~profiles.ids.gone).tolist()
            profiles.quarantine.meet(rows, map(profiles.ids.text, rows))
        return all(at is None or at > self.through for at in changed)

    def erase_at(self, erasures: Mapping[bytes, Erased]) -> bool:
        """Take note of users who were erased, by the keys of their marks; see `Erasing.tell`."""
        in_time = self._erasing.tell(erasures, self.through)
        self._erasing.erase_through(self.through)
        return in_time

    # Fold

    async def fold(self, *, clicks: int, users: int, recommendations: int) -> None:
        """Go on to a click and a slate, included, and to a record of `users`, excluded."""
        if clicks > self.through:
            await self._fold_clicks(clicks)
        self._erasing.erase_through(self.through)
        if users > self._next["users"]:
            await self._fold_users(users)
        if not self._has_shown(recommendations):
            await self._show(lambda offset, _: offset <= recommendations)

    def _has_shown(self, last: int) -> bool:
        """Whether the log has been read beyond a slate, and none up to it is left to be opened."""
        base = self.shard.logs.of("recommendations")
        none_left = not self._slates or base + self._slates[0][0] > last
        return none_left and base + self._next["recommendations"] > last

    async def _fold_clicks(self, last: int) -> None:
        base = self.shard.logs.of("clicks")
        read = self._log.read(self._topics["clicks"], self.shard.partition, start=self._next["clicks"])
        async with aclosing(read) as batches:
            async for records in batches:
                columns = RecordColumns.of(records)
                n = int(np.searchsorted(columns.offsets, last - base, side="right"))
                await self._fold_records(columns[:n], base)
                self._tell(n)
                if n < len(columns):
                    break
        self._next["clicks"] = last - base + 1
        self.through = last

    async def _fold_records(self, records: RecordColumns, base: int) -> None:
        """Fold records, stopping where somebody is to be erased."""
        if self._ready is not None and len(records):
            await self._ready(records)
        begin = 0
        while begin < len(records):
            end = len(records)
            at = self._erasing.next_offset
            if at is not None:
                end = max(begin, int(np.searchsorted(records.offsets, at - base, side="right")))
            part = records[begin : min(end, len(records))]
            if len(part):
                newest = int(part.offsets[-1])
                await self._show_before(base + newest)
                tp = TP(self._topics["clicks"], self.shard.partition)
                await self._clicks(RecordBatch(tp, part, newest, 0))
                self.shard.close_slates(self._positive)
            if at is not None and end < len(records):
                self._erasing.erase_through(at)
            begin = end

    async def _fold_users(self, end: int) -> None:
        """Take what users state; whom it erases is told by marks."""
        partition = self.shard.partition
        read = self._log.read(self._topics["users"], partition, start=self._next["users"])
        async with aclosing(read) as batches:
            async for records in batches:
                said = [record for record in records if record.value is not None and record.offset < end]
                if said:
                    tp = TP(self._topics["users"], partition)
                    await self._users(RecordBatch(tp, said, said[-1].offset, 0))
                if records[-1].offset >= end - 1:
                    break
        self._next["users"] = end
        self.shard.users.advance(end)

    async def _show_before(self, click: int) -> None:
        await self._show(lambda _, slate: slate.clicks_offset < click)

    async def _show(self, wanted: Callable[[int, Recommendation], bool]) -> None:
        """Open slates in the order of their offsets, up to the last one of the next few that is wanted."""
        while True:
            await self._look_ahead()
            ahead = list(self._slates)[:SLATES_AHEAD]
            base = self.shard.logs.of("recommendations")
            last = max((i for i, (at, one) in enumerate(ahead) if wanted(base + at, one)), default=-1)
            for _ in range(last + 1):
                offset, slate = self._slates.popleft()
                reopen(self.shard, slate, offset, closed_ms=self.shard.watermark.ms)
                self._erasing.show(slate)
                if slate.feature_dim and slate.features:
                    self.shown = base + offset
            if last < 0:
                return

    async def _look_ahead(self) -> None:
        """Read slates until enough are at hand, or there are no more."""
        if len(self._slates) >= SLATES_AHEAD:
            return
        topic, start = self._topics["recommendations"], self._next["recommendations"]
        async with aclosing(self._log.read(topic, self.shard.partition, start=start)) as batches:
            async for records in batches:
                columns = RecordColumns.of(records)
                self._slates.extend(decoded_slates(columns))
                self._next["recommendations"] = int(columns.offsets[-1]) + 1
                if len(self._slates) >= SLATES_AHEAD:
                    return

    # What it has come to

    def rows(self, kind: Kind, bucket: Bucket, *, watermark_ms: int = 0) -> list[StateRow]:
        """Rows of a bucket; slates that are not kept any more at a watermark are left out."""
        shard = self.shard
        if kind == "slates":
            shard.watermark.advance(watermark_ms)
            shard.close_slates(self._positive)
        return copy_rows(shard, self.index, kind, bucket)()

    def item(self, key: int) -> str:
        """Id of an item by its key, or the key where the clicks have not named it."""
        row = int(self.index.find_keys(np.array([key], np.uint64))[0])
        return (self.index.ids[row] if row >= 0 else "") or f"#{key:016x}"

    def items(self, keys: NDArray[np.uint64]) -> list[str]:
        """Ids of items, as `item`."""
        return [self.item(key) for key in keys.tolist()]


async def _nobody(*_: Any) -> None:
    """Do nothing: nobody is to be told, asked or written to."""
