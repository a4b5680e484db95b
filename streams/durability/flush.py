"""The flush: dirty rows go to the changelogs, and only then may the offsets they cover be committed.

A flush is one transaction, into which rows go as they are taken: so what it needs is a few pieces at a time,
however many rows are dirty.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import aclosing

from streams.clock import Clock
from streams.durability.covisit_rows import take_covisits
from streams.durability.feedback_rows import feedback_rows, responses
from streams.durability.likes_rows import take_likes
from streams.durability.profile_rows import take_profiles, take_quarantine
from streams.durability.weight_rows import weights_row
from streams.errors import OwnershipLost
from streams.kafka.inputs import Inputs
from streams.kafka.packed_rows import PackedRows, Row
from streams.kafka.state_writers import StateWriters
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.item_index import ItemIndex
from streams.state.log_bases import LogBases, logs_key
from streams.state.own_likes import follow_likes
from streams.state.policy_row import arm_key, encode_policy_row, statistics_key
from streams.state.rows import Taken, covisit_key
from streams.state.shard import Shard

log = logging.getLogger(__name__)

SLICE = 512  # rows copied each time a shard's lock is taken: one or two milliseconds
PIECE_BYTES = 512 * 1024  # of rows taken at once, about: then they are sent

# Item statistics are the largest rows, and a click changes many of them. So they wait beyond their interval
# for so many clicks a row, unless they are few; a worker that ends before has these clicks to fold again.
CLICKS_A_ROW = 12
FEW_ROWS = 1024
MAX_INTERVALS = 3

# Partitions are written a part at a time: what all of them write together keeps requests waiting.
TURNS = 4

SETTLED_POLL_S = 0.01

Group = tuple[str, Collection[Row]]  # rows of a topic, by name


class Flusher:
    """Makes shards durable; after an error nothing more is written, and no offset is completed.

    Parameters
    ----------
    shards : returns the shards that are restored and owned
    lost : called with a shard whose partition is another worker's
    confirm : raises OwnershipLost if what has been folded of some logs may be of such as are no more
    """

    def __init__(
        self,
        settings: Settings,
        shards: Callable[[], list[Shard]],
        *,
        lost: Callable[[Shard], None],
        confirm: Callable[[LogBases], Awaitable[None]],
        index: ItemIndex,
        inputs: Inputs,
        writers: StateWriters,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._shards = shards
        self._lost = lost
        self._confirm = confirm
        self._index = index
        self._inputs = inputs
        self._writers = writers
        self._abandoned = False
        self._turn = asyncio.Lock()  # to take and to pack: one shard at a time
        self._part = 0
        self._metrics = metrics
        self._positive = frozenset(settings.positive_actions)
        self._shared_interval_s = settings.shared_flush_interval_ms / 1000
        self._clock = clock

    async def flush_next(self) -> None:
        """Do for some partitions what `flush_due` does; `TURNS` calls do it for all."""
        self._part = (self._part + 1) % TURNS
        await self._flush(shard for shard in self._shards() if shard.partition % TURNS == self._part)

    async def flush_due(self) -> None:
        """Write users' rows, and item statistics when it is their time."""
        await self._flush(self._shards())

    async def _flush(self, shards: Iterable[Shard]) -> None:
        await asyncio.gather(*(self.flush_shard(shard, shared=self._is_due(shard)) for shard in shards))

    def _is_due(self, shard: Shard) -> bool:
        """Whether it is time for a shard's item statistics."""
        now_s = self._clock.monotonic()
        if shard.flushed.shared_s is None:
            shard.flushed.shared_s = now_s
        waited_s, rows = now_s - shard.flushed.shared_s, shard.covisits.n_dirty
        if waited_s < self._shared_interval_s:
            return False
        clicks = shard.clicks.position - shard.flushed.shared
        enough = rows <= FEW_ROWS or clicks >= CLICKS_A_ROW * rows
        return enough or waited_s >= MAX_INTERVALS * self._shared_interval_s

    async def flush_all(self) -> None:
        """Write every dirty row and complete the offsets they cover."""
        await asyncio.gather(*(self.flush_shard(shard, shared=True) for shard in self._shards()))

    async def flush_shard(self, shard: Shard, *, shared: bool = False) -> bool:
        """Write the shard's dirty rows, item statistics only when `shared`; complete what they cover.

        Return whether that is done: what the shard held is durable then.

        A shard whose partition another worker writes by now is given to `lost`. One that has learned from a
        slate that cannot be published now is left to the next flush.
        """
        async with shard.lock:
            if not await self._settled(shard) or self._abandoned:
                return False
            started = time.perf_counter()
            clicks, users = shard.clicks.position, shard.users.position
            idle = self._inputs.folded_to_end("clicks", shard.partition, shard.clicks.position)
            shard.watermark.pass_time(self._clock.monotonic(), idle=idle)
            # Without new clicks since the last flush, waiting would spare no row.
            shared = shared or clicks == shard.flushed.users
            learned = -1 if shard.weigher is None else shard.weigher.learned(shard.partition)
            marks = shard.learning.marks
            take = _Take(shard, self._index)
            weigh = shared and learned > shard.flushed.weights
            try:
                dirty = self._dirty(
                    take, changed=marks != shard.flushed.statistics, shared=shared, weigh=weigh
                )
                async with aclosing(dirty) as groups:
                    if (first := await anext(groups, None)) is not None:
                        await self._confirm(shard.logs)
                        if shard.dropped:  # meanwhile: the partition has another writer, of this worker too
                            raise OwnershipLost(f"partition {shard.partition} is restored anew")
                        await self._writers.write(shard.partition, _chained(first, groups))
                        shard.logs.unsaved = False
            except OwnershipLost as error:
                log.warning("%s", error)
                self._lost(shard)
                return False
            except BaseException:
                # Slates are closed whose feedback is not out: what is held here may not be written again.
                self._abandoned = True
                take.put_back()
                raise
            shard.flushed.users = clicks
            shard.flushed.statistics = marks
            if take.shared:
                shard.flushed.shared = clicks
                shard.flushed.shared_s = self._clock.monotonic()
            if shared:
                shard.flushed.weights = learned
            self._complete(shard, users)
            for name, rows in take.published.items():
                self._metrics.count_events(name, "published", rows)
            if take.published:
                self._metrics.observe_stage("flush", time.perf_counter() - started)
            return True

    async def _settled(self, shard: Shard) -> bool:
        """Wait until every slate is out that something has been learned from; False if that may take long.

        A row with a reward of a slate that never comes out would count it for ever. No slate comes out while
        the group does not answer, which may itself be waiting for this worker to flush.
        """
        shard.learning.count_published()
        while shard.learning.is_ahead and not shard.dropped:
            if not self._inputs.owned:
                return False
            await asyncio.sleep(SETTLED_POLL_S)
            shard.learning.count_published()
        return True

    async def _dirty(
        self, take: "_Take", *, changed: bool, shared: bool, weigh: bool
    ) -> AsyncGenerator[Group]:
        """Take all that is dirty, item statistics only when `shared`; what the bandit has learned first.

        Users' rows and item statistics are taken in another thread; clicks are folded between slices. Each
        row says up to where it has been applied, so they need not be of one moment. Item rows are taken
        after users': they then have all that these have. Who is in quarantine goes last: nothing that is
        taken is of later marks.
        """
        shard = take.shard
        for group in self._learned(take, changed=changed):
            yield take.counted(group)
        pieces = take.pieces(shared=shared)
        while True:
            async with self._turn:
                piece = await asyncio.to_thread(next, pieces, None)
            if piece is None:
                break
            for group in piece:
                yield take.counted(group)
        if weigh and shard.weigher is not None:
            yield take.counted(("policy-state", [weights_row(shard.weigher, shard.partition)]))
        if marks := take.quarantine():
            yield take.counted(("user-state", marks))
        if shard.logs.unsaved and take.published:
            yield take.counted(("policy-state", [(logs_key(shard.partition), shard.logs.row())]))

    def _learned(self, take: "_Take", *, changed: bool) -> list[Group]:
        """Take what the bandit has learned; slates whose window has ended are closed."""
        shard = take.shard
        closed = shard.close_slates(self._positive)
        self._metrics.count_closed(responses(closed, self._positive))
        feedback = feedback_rows(shard.watermark.ms, closed)
        policy: list[Row] = []
        if changed or feedback:
            # Tombstones first: an arm that was dropped may have come back.
            policy += take.add(_take_dropped_arms(shard))
            policy += take.add(_take_parts(shard))
            policy.append((statistics_key(shard.partition), encode_policy_row(shard.policy_row())))
        if shard.spending is not None:
            policy += take.add(shard.spending.take())
        groups: list[Group] = [("feedback", feedback), ("policy-state", policy)]
        return [(name, rows) for name, rows in groups if rows]

    def _complete(self, shard: Shard, users: int) -> None:
        if shard.logs.others(self._inputs.log_ids):
            return  # what is read by now is of a log that the shard was not folded from
        for name, through in (("clicks", shard.committable_clicks()), ("users", users - 1)):
            if (epoch := shard.epochs.get(name)) is not None:
                self._inputs.ledger.complete_through(
                    self._inputs.partition(name, shard.partition), through, epoch
                )


class _Take:
    """The rows of a shard that a flush takes, and how they are put back if it fails.

    Attributes
    ----------
    shared : item statistics are among it
    published : rows given out, by topic
    """

    def __init__(self, shard: Shard, index: ItemIndex) -> None:
        self.shard = shard
        self.shared = False
        self.published: Counter[str] = Counter()
        self._index = index
        self._put_back: list[Callable[[], None]] = []

    def add(self, part: Taken) -> Collection[Row]:
        """Take a part, and return its rows, which are not kept here."""
        self._put_back.append(part.put_back)
        return part.rows

    def counted(self, group: Group) -> Group:
        """Note that a group is given out."""
        self.published[group[0]] += len(group[1])
        return group

    def pieces(self, *, shared: bool) -> Iterator[list[Group]]:
        """Take users' rows, and then item statistics where they are `shared` or must not wait; pack them.

        A piece has about `PIECE_BYTES`.
        """
        yield from _pieces(self._users())
        yield from _pieces(self._likes())
        if shared or self.shard.profiles.covisits_first:
            yield from _pieces(self._covisits())

    def quarantine(self) -> Collection[Row]:
        """Take who is in quarantine, where that has changed."""
        with self.shard.users_lock:
            return self.add(take_quarantine(self.shard.profiles))

    # What changes while slices are taken is left to the next flush: else a busy partition would see no end.

    def _users(self) -> Iterator[Group]:
        profiles = self.shard.profiles
        for _ in range(_slices(profiles.n_dirty)):
            with self.shard.users_lock:
                rows = self.add(take_profiles(profiles, self._index, most=SLICE))
            yield "user-state", rows

    def _likes(self) -> Iterator[Group]:
        profiles, lock = self.shard.profiles, self.shard.users_lock
        with lock:
            follow_likes(profiles, self._index, profiles.quarantine.take_turned())
        for _ in range(-(-len(profiles.likes.dirty) // SLICE)):
            with lock:
                rows = self.add(take_likes(profiles.likes, self.shard.partition, most=SLICE))
            yield "policy-state", rows

    def _covisits(self) -> Iterator[Group]:
        shard = self.shard
        self.shared = True
        with shard.items_lock, shard.users_lock:
            shard.profiles.covisits_taken()
        for _ in range(_slices(shard.covisits.n_dirty)):
            with shard.items_lock:
                # Before the rows: an item that was dropped may have come back.
                dropped = self.add(_take_dropped(shard))
                rows = self.add(take_covisits(shard.covisits, self._index, shard.partition, most=SLICE))
            yield "policy-state", dropped
            yield "policy-state", rows

    def put_back(self) -> None:
        """Make all of it dirty again."""
        with self.shard.items_lock, self.shard.users_lock:
            for put_back in self._put_back:
                put_back()
            if self.shared:
                self.shard.profiles.covisits_failed()


def _slices(rows: int) -> int:
    return max(1, -(-rows // SLICE))


def _pieces(groups: Iterable[Group]) -> Iterator[list[Group]]:
    """Pack rows, and put some groups of them together."""
    piece: list[Group] = []
    size = 0
    for name, rows in groups:
        if not rows:
            continue
        if isinstance(rows, PackedRows):
            rows.pack()
            size += rows.nbytes
        piece.append((name, rows))
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


async def _chained(first: Group, rest: AsyncIterator[Group]) -> AsyncIterator[Group]:
    yield first
    async for group in rest:
        yield group


def _take_dropped(shard: Shard) -> Taken:
    """Tombstones of items that are not counted any more."""
    keys, shard.dropped_items = shard.dropped_items, set()
    rows = [(covisit_key(shard.partition, key), None) for key in sorted(keys)]
    return Taken(rows, lambda: shard.dropped_items.update(keys))


def _take_dropped_arms(shard: Shard) -> Taken:
    arms, shard.statistics.dropped_arms = shard.statistics.dropped_arms, set()
    rows = [(key, None) for key in sorted(arms)]
    return Taken(rows, lambda: shard.statistics.dropped_arms.update(arms))


def _take_parts(shard: Shard) -> Taken:
    """Rows of the parts of the statistics that have changed; they go out before the row of the whole."""
    taken = [(one, one.take_rows()) for one in shard.statistics.every]
    rows = [
        (arm_key(shard.partition, part, one.feature_space), row) for one, rows in taken for part, row in rows
    ]

    def put_back() -> None:
        for one, rows in taken:
            one.put_back(part for part, _ in rows)

    return Taken(rows, put_back)
