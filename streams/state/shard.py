"""A shard: everything folded from partition p of the user-keyed topics."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.weighing import Events, Weigher
from online_learning.attribution.pending_slates import ClosedSlate, PendingSlates
from streams.decoding.click_kernels import ITEM, USER
from streams.decoding.clicks import ClickColumns
from streams.kafka.progress import Progress, RecentIds
from streams.metrics import Metrics
from streams.state.click_fold import count_pairs
from streams.state.fair_lock import FairLock
from streams.state.fold_kernels import REFUSED
from streams.state.item_index import ItemIndex
from streams.state.log_bases import LogBases
from streams.state.policy_row import PolicyRow
from streams.state.profiles import Profiles
from streams.state.release_statistics import ReleaseStatistics
from streams.state.slate_learning import SlateLearning
from streams.state.spending import Spending
from streams.state.watermark import Watermark

# Clicks folded between two looks at who else wants the state: one or two milliseconds of its users, and a few
# of its items.
SLICE = 2048


@dataclass(slots=True)
class Flushed:
    """Click positions (next offset) that the changelogs cover, per kind of row.

    shared_s : when rows of items were last written, or first asked for, of a clock that never goes back
    """

    users: int = 0
    shared: int = 0
    shared_s: float | None = None
    statistics: tuple[int, ...] = ()
    weights: int = -1


@dataclass(slots=True, eq=False)
class Shard:
    """State of one partition, and how far each of its topics has been folded.

    Clicks are counted by any thread, one piece after the other; all else belongs to the event loop. Whoever
    changes or reads `profiles` holds `users_lock`, and whoever changes or copies `covisits` holds
    `items_lock`, which is taken first where both are. Both are held by a thread for a slice of clicks.

    holding has the offsets of clicks whose own slate (`recommend_on`) is not published yet: their offsets
    must not be committed. epochs has the ledger epoch per topic. learning joins the slates with the clicks on
    them. dropped: the partition is another worker's by now, or will be restored anew. dropped_items: keys of
    items whose rows on the changelog are to be deleted. weigher learns from clicks, before they are counted,
    what signals count, where no release says it. counting has the rows of the items of the clicks that are
    being counted. spending counts what items with a budget spend; None where they have none.

    again_before: requests before this offset may have been answered before: the group does not say which.
    folded_before: clicks before this offset may be in what an earlier owner wrote, and not in all of it.

    logs: which logs the offsets in rows are of. Those in rows and in `learning`, and those of columns and
    slates, have its bases added; `clicks`, `users`, `holding`, `answered` and `again_before`, `folded_before`
    are as the broker counts.
    """

    partition: int
    profiles: Profiles
    covisits: CoVisitation
    statistics: ReleaseStatistics
    slates: PendingSlates
    learning: SlateLearning
    logs: LogBases
    watermark: Watermark = field(default_factory=Watermark)
    clicks: Progress = field(default_factory=Progress)
    users: Progress = field(default_factory=Progress)
    answered: RecentIds = field(default_factory=RecentIds)
    again_before: int = 0
    folded_before: int = 0
    holding: set[int] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    flushed: Flushed = field(default_factory=Flushed)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    dropped: bool = False
    dropped_items: set[int] = field(default_factory=set)
    users_lock: FairLock = field(default_factory=FairLock)
    items_lock: FairLock = field(default_factory=FairLock)
    weigher: Weigher | None = None
    counting: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    spending: Spending | None = None

    def fold(
        self, columns: ClickColumns, index: ItemIndex, positive: frozenset[str], metrics: Metrics
    ) -> NDArray[np.uint8]:
        """Fold accepted clicks into profiles, co-visits and the bandit; return what became of each.

        A click on an item that has no row and gets none is REFUSED: it may earn a reward, and nothing more.

        It is `meet`, `count` and `learn`, for whoever counts in another thread.
        """
        outcomes = self.count(columns, self.meet(columns, index), index)
        self.learn(columns, outcomes, positive, metrics)
        return outcomes

    def meet(self, columns: ClickColumns, index: ItemIndex) -> NDArray[np.int32]:
        """Make rows for the items of clicks: (n,) int32, -1 where one gets none. `learn` must follow."""
        self.counting = index.rows_of_bytes(columns.data, columns.spans[ITEM], columns.keys[ITEM])
        return self.counting

    def count(self, columns: ClickColumns, items: NDArray[np.int32], index: ItemIndex) -> NDArray[np.uint8]:
        """Fold clicks into profiles and co-visits, and return what became of each.

        It runs in any thread, and takes the locks anew for each slice.
        """
        parts = [
            self._count(columns[begin : begin + SLICE], items[begin : begin + SLICE], index)
            for begin in range(0, len(columns), SLICE)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])

    def _count(self, columns: ClickColumns, items: NDArray[np.int32], index: ItemIndex) -> NDArray[np.uint8]:
        kept: slice | NDArray[np.int64] = slice(None)
        if items.min() < 0:
            kept = np.flatnonzero(items >= 0)
        outcomes = np.full(len(items), REFUSED, np.uint8)
        with self.items_lock:
            with self.users_lock:
                users = self.profiles.rows_of_bytes(
                    columns.data, columns.spans[USER][kept], columns.keys[USER][kept]
                )
                outcomes[kept], pairs = self.profiles.append(
                    users, items[kept], columns.actions[kept], columns.times[kept],
                    columns.event_keys[kept], columns.offsets[kept], window=self.covisits.window,
                    bound=self.covisits.bound,
                )  # fmt: skip
            if self.weigher is not None:
                self.weigher.learn(self.partition, Events(*pairs), len(index.keys))
            count_pairs(self.covisits, index, pairs)
        return outcomes

    def learn(
        self,
        columns: ClickColumns,
        outcomes: NDArray[np.uint8],
        positive: frozenset[str],
        metrics: Metrics,
    ) -> None:
        """Reward the slates of users whose clicks have been counted, and move on to the last of these."""
        self.counting = self.counting[:0]
        self.learning.reward(columns, outcomes, positive, metrics)
        if self.spending is not None:
            self.spending.count_clicks(columns, outcomes)
        if len(columns):
            newest = int(np.minimum(columns.times, columns.broker_times).max())
            self.watermark.see(newest, newest)
            self.watermark.advance(newest)

    def erase(self, user_id: str, offset: int = -1, *, erased_ms: int = 0) -> int:
        """Forget a user as `Profiles.erase` does, and take the user's share out of what users share.

        Out of items' statistics as far as the user's events are kept, out of policies' sums what slates
        taught that can still be rewarded. No flush may take rows meanwhile. All clicks that have been folded
        must be in both kinds of rows. Returns how many slates there were.
        """
        profiles, through = self.profiles, self.seen_offset
        if not profiles.is_erased_by(user_id, offset):
            return self.slates.forget(user_id) if profiles.row_of(user_id) < 0 else 0
        self.learning.count_published()
        with self.items_lock, self.users_lock:
            if (row := profiles.row_of(user_id)) >= 0:
                self.retract(row, through=max(through, profiles.position))
            profiles.erase(
                user_id, offset, passed=through, erased_ms=erased_ms, closed_ms=self.slates.closed_ms,
                settled=not self.learning.owes,
            )  # fmt: skip
        return self.learning.forget(user_id)

    def retract(self, row: int, *, through: int) -> None:
        """Take what a user has added out of items' statistics, in which all clicks up to an offset are."""
        covisits = self.covisits
        pairs = self.profiles.pairs_of(row, window=covisits.window, bound=covisits.bound)
        covisits.retract(*pairs[:4], pairs.times, through=through)

    def close_slates(self, positive: frozenset[str]) -> list[ClosedSlate]:
        """Close the slates whose window ends before the watermark."""
        return self.learning.close(self.watermark.ms, positive)

    def policy_row(self) -> PolicyRow:
        """The bandit's row as of now."""
        return self.learning.row(closed_ms=self.watermark.ms)

    @property
    def next_offset(self) -> int:
        """The first click that no row has, as rows count: what is decided now can hold from it on.

        Whoever asks holds both locks.
        """
        return 1 + max(self.profiles.position, int(self.covisits.applied.max(initial=-1)))

    @property
    def seen_offset(self) -> int:
        """The last click that has been folded, as rows count: -1 before the first."""
        return self.logs.of("clicks") + self.clicks.position - 1

    @property
    def closed_offset(self) -> int:
        """The last click that can be no answer to a slate that opens now, as rows count; -1 if any can.

        After a restart, and while clicks are asked slates for, clicks are in the sums that are yet to be
        passed.
        """
        return max(self.seen_offset, self.learning.rewarded_offset)

    def newest_offsets(self) -> dict[str, int]:
        """The newest offset of each topic in what was restored, -1 where there is none."""
        erased = self.profiles.erasures.marks.values()
        clicks = [
            self.profiles.newest_offset,
            self.learning.rewarded_offset,
            *(one.clicks_offset for one in erased),
        ]
        if self.covisits.n_items:
            clicks.append(int(self.covisits.applied.max()))
        stated = [one.offset for one in self.profiles.stated.values()]
        slates = [self.learning.recommended_offset]
        if self.spending is not None:
            (slates if self.spending.by_slates else clicks).append(self.spending.offset)
        return {
            "clicks": max(clicks),
            "users": max([-1, *stated, *(one.users_offset for one in erased)]),
            "recommendations": max(slates),
        }

    def mark_items(self, out: NDArray[np.bool_]) -> None:
        """Write True into out (N,) at the items that users know, as `Profiles.mark_items`; in any thread."""
        counting = self.counting  # first: what has been counted meanwhile is in the profiles
        out[counting[(counting >= 0) & (counting < len(out))]] = True
        self.profiles.mark_items(out)

    def drop_items(self, rows: NDArray[np.int32], index: ItemIndex) -> None:
        """Let nothing be counted of items any more; `CoVisitation.forget` takes them out of other rows."""
        with self.items_lock:
            known = rows[rows < self.covisits.n_items]
            counted = known[self.covisits.applied[known] >= 0]
            self.dropped_items.update(index.keys[counted].tolist())
            self.covisits.drop(rows)

    def committable_clicks(self) -> int:
        """The last click offset that nothing waits for any more."""
        flushed = min(self.flushed.users, self.flushed.shared)
        return min([flushed, *self.holding]) - 1


@contextmanager
def users_of(shards: Iterable[Shard]) -> Iterator[None]:
    """Hold the users of shards, to read them."""
    with ExitStack() as stack:
        for shard in {shard.partition: shard for shard in shards}.values():
            stack.enter_context(shard.users_lock)
        yield


@contextmanager
def items_of(shards: Iterable[Shard]) -> Iterator[None]:
    """Hold the item statistics of shards; no click is half folded then."""
    with ExitStack() as stack:
        for shard in shards:
            stack.enter_context(shard.items_lock)
        yield
