"""A shard: everything folded from partition p of the user-keyed topics."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.weighing import Events, Weigher
from online_learning.attribution.cascade import amended
from online_learning.attribution.pending_slates import ClosedSlate, OpenSlate, PendingSlates
from online_learning.statistics.position_bias import POSITIONS, PositionStatistics, by_position
from online_learning.statistics.sums import Statistics
from streams.decoding.click_kernels import ITEM, USER
from streams.decoding.clicks import ClickColumns
from streams.events import MAX_SLATE, Recommendation, encode
from streams.kafka.progress import Progress, RecentIds
from streams.metrics import Metrics
from streams.state.fair_lock import FairLock
from streams.state.item_index import ItemIndex, key_of, keys_of
from streams.state.log_bases import LogBases
from streams.state.policy_row import POLICY_ROW_VERSION, PolicyRow, arm_key
from streams.state.profiles import DUPLICATE, REFUSED, Profiles, count_pairs
from streams.state.spaces import KEPT, SpaceRow

# What a request's context takes in memory, times its bytes as JSON.
CONTEXT_FACTOR = 4

# Clicks folded between two looks at who else wants the state: half a millisecond of its users, and one or two
# of its items.
SLICE = 512

# How long a click may be on its way to the broker when all that are there have been folded.
IDLE_MS = 10_000


class _Rows:
    """Positions of slates with a number each, on their way to the statistics."""

    def __init__(self) -> None:
        self._rows: list[tuple[NDArray[np.float32], float, int, int, int]] = []

    def add(self, slate: OpenSlate, position: int, value: float, offset: int) -> None:
        arm = key_of(slate.item_ids[position])
        self._rows.append((slate.features[position], value, arm, slate.timestamp_ms, offset))

    def __len__(self) -> int:
        return len(self._rows)

    def give_to(self, learn: Callable[..., int]) -> None:
        if self._rows:
            features, values, arms, times, offsets = zip(*self._rows, strict=True)
            learn(
                np.stack(features),
                np.array(values),
                arms=np.array(arms, np.uint64),
                times_ms=np.array(times, np.int64),
                offsets=np.array(offsets, np.int64),
            )


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
    must not be committed. epochs has the ledger epoch per topic. examination has how often each position
    is looked at, (MAX_SLATE,) float64; next_examination, and next_reference of logistic statistics, take
    effect with the next flush. cascade: positions below a slate's last response were not looked at.
    statistics are those of the release that serves, model_version, and others those of releases that served
    before, by version, the latest last: each slate is learned from in the space of its own release. blank
    makes them; without it nothing is learned of others. dropped: the partition is another worker's by
    now, or will be restored anew. dropped_items: keys of items whose rows on the changelog are to be deleted;
    dropped_arms: keys of such rows. weigher learns from clicks, before they are counted, what
    signals count, where no release says it. counting has the rows of the items of the clicks that are being
    counted.

    again_before: requests before this offset may have been answered before: the group does not say which.
    folded_before: clicks before this offset may be in what an earlier owner wrote, and not in all of it.

    logs: which logs the offsets in rows are of. Those in rows, `rewarded_offset`, `recommended_offset` and
    those of columns and slates have its bases added; `clicks`, `users`, `holding`, `answered` and
    `again_before`, `folded_before` are as the broker counts.

    watermark_ms is the event time before which no click is to be expected: that of the newest click, never
    ahead of the broker's clock. Where all clicks have been folded it goes on without one, with the requests
    that were answered (`saw`) and, `IDLE_MS` behind, with the time that passes (`move_on`): else slates that
    nobody clicks on would never close, and nobody would learn that they earned nothing.
    """

    partition: int
    profiles: Profiles
    covisits: CoVisitation
    statistics: Statistics
    slates: PendingSlates
    model_version: str
    clicks: Progress = field(default_factory=Progress)
    users: Progress = field(default_factory=Progress)
    answered: RecentIds = field(default_factory=RecentIds)
    again_before: int = 0
    folded_before: int = 0
    logs: LogBases = field(default_factory=LogBases)
    watermark_ms: int = 0
    rewarded_offset: int = -1
    recommended_offset: int = -1
    published: deque[tuple[int, str]] = field(default_factory=deque)
    holding: set[int] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    flushed: Flushed = field(default_factory=Flushed)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    positions: PositionStatistics | None = None
    examination: NDArray[np.float64] = field(default_factory=lambda: np.ones(MAX_SLATE))
    learn_from: Literal["response", "reward"] = "response"
    cascade: bool = False
    dropped: bool = False
    dropped_items: set[int] = field(default_factory=set)
    dropped_arms: set[bytes] = field(default_factory=set)
    others: dict[str, Statistics] = field(default_factory=dict)
    blank: Callable[[str, int], Statistics] | None = None
    next_examination: NDArray[np.float64] | None = None
    next_reference: NDArray[np.float64] | None = None
    users_lock: FairLock = field(default_factory=FairLock)
    items_lock: FairLock = field(default_factory=FairLock)
    weigher: Weigher | None = None
    counting: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    _uncounted: list[tuple[Recommendation, NDArray[np.float32], int]] = field(default_factory=list)
    _newest_ms: int = 0
    _idle_since: float | None = None

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
        if self.slates.users:
            self._reward(columns, outcomes, positive, metrics)
        if len(columns):
            self.rewarded_offset = max(self.rewarded_offset, int(columns.offsets[-1]))
            newest = int(np.minimum(columns.times, columns.broker_times).max())
            self.saw(newest, newest)
            self.watermark_ms = max(self.watermark_ms, newest)

    def saw(self, event_ms: int, broker_ms: int) -> None:
        """Note the time of an event, and of its record on the broker."""
        newest = min(event_ms, broker_ms)
        if newest > self._newest_ms:
            self._newest_ms, self._idle_since = newest, None

    def move_on(self, now_s: float, *, idle: bool) -> None:
        """Move the watermark on without a click; called again and again.

        Parameters
        ----------
        now_s : of a clock that never goes back
        idle : every click that the broker is known to have has been folded
        """
        if not idle or self._idle_since is None:
            self._newest_ms = max(self._newest_ms, self.watermark_ms)
            self._idle_since = now_s
        if idle:
            passed = int(1000 * (now_s - self._idle_since)) - IDLE_MS
            self.watermark_ms = max(self.watermark_ms, self._newest_ms + max(0, passed))

    def _reward(
        self,
        columns: ClickColumns,
        outcomes: NDArray[np.uint8],
        positive: frozenset[str],
        metrics: Metrics,
    ) -> None:
        """Join clicks with the slates of their users; those already in the sums are left out."""
        waiting = self.slates.hashes
        learned: dict[str, tuple[_Rows, _Rows]] = {}  # by release: rewards, and what amends impressions
        for row, hashed in enumerate(columns.keys[USER].tolist()):
            if hashed not in waiting or outcomes[row] == DUPLICATE:
                continue
            offset = int(columns.offsets[row])
            if offset <= self.rewarded_offset:
                continue
            click = columns.click(row)
            if not self.slates.has_open(click.user_id):
                continue
            found = self.slates.attribute(
                click.user_id, click.item_id, click.action, click.timestamp_ms, click.request_id,
                click.dwell_ms, offset=offset,
            )  # fmt: skip
            metrics.count_rewards(found.outcome)
            if (slate := found.slate) is None or not self.learns_of(slate.record):
                continue
            if self.profiles.quarantine.holds(click.user_id, offset):
                continue
            taken = [p for p, actions in enumerate(slate.actions) if not positive.isdisjoint(actions)]
            responses = [action for action in slate.actions[found.position] if action in positive]
            first = click.action in positive and len(responses) == 1
            if first and slate.record.experiment is not None:
                by = slate.record.variant or slate.record.slate[found.position].team
                metrics.count_response(slate.record.experiment, by or "none")
            if self._known(version := slate.record.model_version) is None:
                self.count_published()  # perhaps the first of a canary
                if self._known(version) is None:
                    continue
            rewards, amendments = learned.setdefault(version, (_Rows(), _Rows()))
            if self.learn_from == "reward":
                rewards.add(slate, found.position, found.reward, offset)
            elif first:  # whether an item was taken, not how often
                rewards.add(slate, found.position, found.quality, offset)
            if self.cascade and first:
                taken.remove(found.position)
                positions, weight = amended(taken, found.position, len(slate.item_ids))
                for position in positions:
                    amendments.add(slate, position, weight, offset)
        if learned:
            self.count_published()  # nothing is rewarded before it counts as shown
        for version, (rewards, amendments) in learned.items():
            if (statistics := self._known(version)) is not None:
                rewards.give_to(statistics.add_rewards)
                amendments.give_to(statistics.amend_impressions)

    # Releases: what one makes of an item means something else than what another does

    def _known(self, version: str) -> Statistics | None:
        return self.statistics if version == self.model_version else self.others.get(version)

    def _shown_of(self, version: str, dim: int) -> Statistics | None:
        """Return the statistics of slates that a release made, now or before; None where none are kept."""
        statistics = self._known(version)
        # Fewer features than two no release has: somebody else wrote that slate.
        if statistics is None and self.blank is not None and dim > 1:
            statistics = self.others[version] = self.blank(version, dim)
            self.keep_few()
        return None if statistics is None or statistics.dim != dim else statistics

    @property
    def every_statistics(self) -> tuple[Statistics, ...]:
        """The statistics of all releases, that of the one that serves first."""
        return (self.statistics, *self.others.values())

    def statistics_in(self, feature_space: str) -> Statistics | None:
        """Return the statistics of a feature space; None where there are none."""
        found = (one for one in self.every_statistics if one.feature_space == feature_space)
        return next(found, None)

    def serve(self, version: str, blank: Statistics) -> None:
        """Let slates be made by another release from now on; those of before are still learned from.

        Parameters
        ----------
        blank : statistics of nothing, for a release of which nothing is known
        """
        if version == self.model_version:
            return
        before, self.statistics = self.statistics, self.others.pop(version, blank)
        self.others[self.model_version] = before
        self.model_version = version
        self.next_reference = None  # of the features of the one before
        self.keep_few()

    def keep_few(self) -> None:
        """Let go of what releases of long ago have learned, and of its rows on the changelog."""
        while len(self.others) > KEPT:
            gone = self.others.pop(next(iter(self.others)))
            keys = (arm_key(self.partition, arm, gone.feature_space) for arm in gone.parts.tolist())
            self.dropped_arms.update(keys)

    @property
    def next_offset(self) -> int:
        """The first click that no row has, as rows count: what is decided now can hold from it on.

        Whoever asks holds both locks.
        """
        return 1 + max(self.profiles.position, int(self.covisits.applied.max(initial=-1)))

    def learns_of(self, record: Recommendation) -> bool:
        """Whether anything is learned of a slate: not of one that a user in quarantine got."""
        return not self.profiles.quarantine.holds(record.user_id, record.clicks_offset)

    @property
    def seen_offset(self) -> int:
        """The last click that has been folded, as rows count: -1 before the first."""
        return self.logs.of("clicks") + self.clicks.position - 1

    def newest_offsets(self) -> dict[str, int]:
        """The newest offset of each topic in what was restored, -1 where there is none."""
        erased = self.profiles.erased.values()
        clicks = [self.profiles.newest_offset, self.rewarded_offset, *(one.clicks_offset for one in erased)]
        if self.covisits.n_items:
            clicks.append(int(self.covisits.applied.max()))
        stated = [one.offset for one in self.profiles.stated.values()]
        return {
            "clicks": max(clicks),
            "users": max([-1, *stated, *(one.users_offset for one in erased)]),
            "recommendations": self.recommended_offset,
        }

    def open_slate(self, record: Recommendation, features: NDArray[np.float32]) -> None:
        """Let a slate be rewarded from now on; one of an erased user, made before that, is left out."""
        erased = self.profiles.erased_through(record.user_id)
        if record.slate and (erased is None or record.clicks_offset > erased):
            self.slates.add(
                record.request_id,
                record.user_id,
                tuple(item.item_id for item in record.slate),
                features,
                record.timestamp_ms,
                record=record,
                after_offset=record.clicks_offset,
                extra_bytes=CONTEXT_FACTOR * len(encode(record.context)) if record.context else 0,
            )

    def note_published(self, slates: Sequence[tuple[Recommendation, NDArray[np.float32], int]]) -> None:
        """Leave published slates to the next `count_published`: many are counted for little more than one."""
        for record, features, _ in slates:
            ours = record.model_version == self.model_version
            if ours and features.shape[1] != self.statistics.dim:
                raise ValueError(f"features must have {self.statistics.dim} columns, got {features.shape[1]}")
        base = self.logs.of("recommendations")
        self._uncounted += [(record, features, base + offset) for record, features, offset in slates]

    def count_published(self) -> None:
        """Count the slates that were published since the last call."""
        if self._uncounted:
            slates, self._uncounted = self._uncounted, []
            self.count_slates(slates)

    def count_slate(self, record: Recommendation, features: NDArray[np.float32], offset: int) -> None:
        """Count a published slate's impressions; a record already in the sums is not counted again."""
        self.count_slates([(record, features, offset)])

    def count_slates(self, slates: Sequence[tuple[Recommendation, NDArray[np.float32], int]]) -> None:
        """Count slates, in the order of their offsets, as `count_slate` does each."""
        self.published.extend((offset, record.request_id) for record, _, offset in slates)
        fresh = [slate for slate in slates if slate[2] > self.recommended_offset]
        if fresh:
            self.recommended_offset = fresh[-1][2]
        by_release: dict[str, list[tuple[Recommendation, NDArray[np.float32], int]]] = {}
        for slate in fresh:
            if len(slate[1]) and self.learns_of(slate[0]):
                by_release.setdefault(slate[0].model_version, []).append(slate)
        for version, shown in by_release.items():
            if (statistics := self._shown_of(version, shown[0][1].shape[1])) is not None:
                self._count_shown(statistics, shown)

    def _count_shown(
        self, statistics: Statistics, shown: Sequence[tuple[Recommendation, NDArray[np.float32], int]]
    ) -> None:
        sizes = [len(features) for _, features, _ in shown]
        statistics.add_impressions(
            np.concatenate([features for _, features, _ in shown]),
            arms=keys_of(item.item_id for record, _, _ in shown for item in record.slate),
            times_ms=np.repeat([record.timestamp_ms for record, _, _ in shown], sizes),
            weights=np.concatenate([self.examination[:size] for size in sizes]),
            offsets=np.repeat([offset for _, _, offset in shown], sizes),
        )

    def close_slates(self, positive: frozenset[str]) -> list[ClosedSlate]:
        """Close the slates whose window has ended, and learn how often their positions are looked at."""
        closed = self.slates.close(self.watermark_ms)
        if self.positions is not None:
            for slate, _, correction in closed:
                known = self._known(slate.record.model_version) is not None
                if not correction and known and self.learns_of(slate.record):
                    scores = np.array([item.score for item in slate.record.slate])
                    taken = np.array([not positive.isdisjoint(actions) for actions in slate.actions])
                    self.positions.add(scores, taken)
        return closed

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

    def stale_arms(self, index: ItemIndex) -> list[int]:
        """Arms of items that are not known any more and in no open slate; any thread may ask."""
        arms = np.unique(np.concatenate([one.parts for one in self.every_statistics]))
        arms = arms[index.find_keys(arms) < 0]
        if not len(arms):
            return []
        waiting = {key_of(item) for slate in self.slates.slates() for item in slate.item_ids}
        return [arm for arm in arms.tolist() if arm not in waiting]

    def drop_arms(self, arms: Collection[int]) -> None:
        """Let nothing be learned of arms any more."""
        for statistics in self.every_statistics:
            statistics.forget(arms)
            keys = (arm_key(self.partition, arm, statistics.feature_space) for arm in arms)
            self.dropped_arms.update(keys)
        self.dropped_arms.update(arm_key(self.partition, arm) for arm in arms)

    @property
    def marks(self) -> tuple[int, ...]:
        """What tells whether something was learned."""
        sums = [(one.impressions, one.rewards) for one in self.every_statistics]
        return (sum(shown for shown, _ in sums), sum(taken for _, taken in sums), self.rewarded_offset)

    def policy_row(self) -> PolicyRow:
        """The bandit's row as of now."""
        # Only here: what a restart reads again after this row is developed and weighed as the first time.
        if self.next_reference is not None:
            self.statistics.develop_at(self.next_reference)
        if self.next_examination is not None:
            self.examination = self.next_examination
        while self.published and self.published[0][1] not in self.slates:
            self.published.popleft()
        open_from = self.published[0][0] if self.published else self.recommended_offset + 1
        return PolicyRow(
            v=POLICY_ROW_VERSION,
            feature_space=self.statistics.feature_space,
            clicks_offset=self.rewarded_offset,
            recommendations_offset=self.recommended_offset,
            open_from=open_from,
            closed_ms=self.watermark_ms,
            statistics=self.statistics.summary(),
            positions=b"" if self.positions is None else self.positions.to_bytes(),
            examination=() if self.positions is None else tuple(self.examination[:POSITIONS].tolist()),
            dim=self.statistics.dim,
            others=tuple(SpaceRow(one.feature_space, one.dim, one.summary()) for one in self.others.values()),
        )

    def load_positions(self, row: PolicyRow) -> None:
        """Go on with what a row says of positions; one from before they were learned says nothing."""
        if self.positions is not None and row.examination:
            self.positions = PositionStatistics.from_bytes(row.positions)
            self.examination = by_position(np.array(row.examination), MAX_SLATE)

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
