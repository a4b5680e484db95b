"""The flush: dirty rows go to the changelogs, and only then may the offsets they cover be committed."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from online_learning.attribution.pending_slates import ClosedSlate
from streams.clock import Clock
from streams.durability.profile_rows import take_profiles
from streams.durability.rows import Taken, covisit_key, take_covisits
from streams.errors import OwnershipLost
from streams.events import Feedback, Recommendation, encode
from streams.kafka.inputs import Inputs
from streams.kafka.packed_rows import PackedRows, Row
from streams.kafka.state_writers import StateWriters
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard, arm_key, encode_policy_row, statistics_key

log = logging.getLogger(__name__)


class Flusher:
    """Makes shards durable; after an error nothing more is written, and no offset is completed.

    Parameters
    ----------
    shards : returns the shards that are restored and owned
    lost : called with a shard whose partition is another worker's
    """

    def __init__(
        self,
        settings: Settings,
        shards: Callable[[], list[Shard]],
        *,
        lost: Callable[[Shard], None],
        index: ItemIndex,
        inputs: Inputs,
        writers: StateWriters,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._shards = shards
        self._lost = lost
        self._index = index
        self._inputs = inputs
        self._writers = writers
        self._abandoned = False
        self._turn = asyncio.Lock()  # each shard's rows are copied in a turn of the loop of their own
        self._metrics = metrics
        self._positive = frozenset(settings.positive_actions)
        self._shared_interval_s = settings.shared_flush_interval_ms / 1000
        self._clock = clock
        self._shared_flushed_at = clock.monotonic()

    async def flush_due(self) -> None:
        """Write users' rows, and item statistics when it is their time."""
        due = self._clock.monotonic() - self._shared_flushed_at >= self._shared_interval_s
        if due:
            self._shared_flushed_at = self._clock.monotonic()
        await asyncio.gather(*(self.flush_shard(shard, shared=due) for shard in self._shards()))

    async def flush_all(self) -> None:
        """Write every dirty row and complete the offsets they cover."""
        await asyncio.gather(*(self.flush_shard(shard, shared=True) for shard in self._shards()))

    async def flush_shard(self, shard: Shard, *, shared: bool = False) -> None:
        """Write the shard's dirty rows, item statistics only when `shared`; complete what they cover.

        A shard whose partition another worker writes by now is given to `lost`.
        """
        async with shard.lock:
            async with self._turn:
                await asyncio.sleep(0)
            if self._abandoned:
                return
            started = time.perf_counter()
            clicks, users = shard.clicks.position, shard.users.position
            idle = self._inputs.folded_to_end("clicks", shard.partition, shard.clicks.position)
            shard.move_on(self._clock.monotonic(), idle=idle)
            # Without new clicks since the last flush, waiting would spare no row.
            shared = shared or shard.profiles.covisits_first or clicks == shard.flushed.users
            marks = (shard.statistics.impressions, shard.statistics.rewards, shard.rewarded_offset)
            taken, groups = self._take(shard, shared=shared, learned=marks != shard.flushed.statistics)
            if groups:
                try:
                    await asyncio.to_thread(_pack, taken)
                    await self._writers.write(shard.partition, groups)
                except OwnershipLost as error:
                    log.warning("%s", error)
                    self._lost(shard)
                    return
                except BaseException:
                    # Slates are closed whose feedback is not out: what is held here may not be written again.
                    self._abandoned = True
                    for part in taken:
                        part.put_back()
                    if shared:
                        shard.profiles.covisits_failed()
                    raise
            shard.flushed.users = clicks
            shard.flushed.statistics = marks
            if shared:
                shard.flushed.shared = clicks
            self._complete(shard, users)
            for name, rows in groups:
                self._metrics.count_events(name, "published", len(rows))
            if groups:
                self._metrics.observe_stage("flush", time.perf_counter() - started)

    def _take(
        self, shard: Shard, *, shared: bool, learned: bool
    ) -> tuple[list[Taken], list[tuple[str, Collection[Row]]]]:
        """Take the dirty rows of a shard, by topic; slates whose window has ended are closed.

        They are copied here, between two events, and packed later.
        """
        closed = shard.close_slates(self._positive)
        self._metrics.count_closed(_responses(closed, self._positive))
        feedback = _feedback(shard, closed)
        policy: list[Row] = []
        taken: list[Taken] = []
        if learned or feedback:
            parts = _take_parts(shard)
            policy += parts.rows
            taken.append(parts)
            policy.append((statistics_key(shard.partition), encode_policy_row(shard.policy_row())))
        groups: list[tuple[str, Collection[Row]]] = [("feedback", feedback), ("policy-state", policy)]
        if shared:
            # Before the rows: an item that was dropped may have come back.
            dropped = _take_dropped(shard)
            groups.append(("policy-state", dropped.rows))
            taken.append(dropped)
            covisits = take_covisits(shard.covisits, self._index, shard.partition)
            groups.append(("policy-state", covisits.rows))
            taken.append(covisits)
            shard.profiles.covisits_taken()
        users = take_profiles(shard.profiles, self._index)
        taken.append(users)
        groups.append(("user-state", users.rows))
        return taken, [(name, rows) for name, rows in groups if rows]

    def _complete(self, shard: Shard, users: int) -> None:
        for name, through in (("clicks", shard.committable_clicks()), ("users", users - 1)):
            if (epoch := shard.epochs.get(name)) is not None:
                self._inputs.ledger.complete_through(
                    self._inputs.partition(name, shard.partition), through, epoch
                )


def _pack(taken: Iterable[Taken]) -> None:
    for part in taken:
        if isinstance(part.rows, PackedRows):
            part.rows.pack()


def _take_dropped(shard: Shard) -> Taken:
    """Tombstones of items that are not counted any more."""
    keys, shard.dropped_items = shard.dropped_items, set()
    rows = [(covisit_key(shard.partition, key), None) for key in sorted(keys)]
    return Taken(rows, lambda: shard.dropped_items.update(keys))


def _take_parts(shard: Shard) -> Taken:
    """Rows of the parts of the statistics that have changed; they go out before the row of the whole."""
    taken = shard.statistics.take_rows()
    rows = [(arm_key(shard.partition, part), row) for part, row in taken]
    return Taken(rows, lambda: shard.statistics.put_back(part for part, _ in taken))


def _responses(
    closed: Iterable[ClosedSlate], positive: frozenset[str]
) -> Iterator[tuple[str, list[float], list[int]]]:
    """For each slate closed the first time: policy, propensities, and which positions were responded to."""
    for slate, _, correction in closed:
        if not correction:
            taken = [p for p, actions in enumerate(slate.actions) if not positive.isdisjoint(actions)]
            yield slate.record.policy, [item.propensity for item in slate.record.slate], taken


def _feedback(shard: Shard, closed: Iterable[ClosedSlate]) -> list[Row]:
    """Return the rows for `feedback` of slates whose window has ended, and of corrected ones."""
    rows: list[Row] = []
    for slate, rewards, correction in closed:
        served: Recommendation = slate.record
        feedback = Feedback(
            request_id=served.request_id,
            user_id=served.user_id,
            slate=served.slate,
            rewards=rewards.tolist(),
            actions=slate.actions,
            policy=served.policy,
            policy_version=served.policy_version,
            propensity_kind=served.propensity_kind,
            model_version=served.model_version,
            features=served.features,
            feature_dim=served.feature_dim,
            timestamp_ms=served.timestamp_ms,
            closed_ms=shard.watermark_ms,
            context=served.context,
            candidate_propensities=served.candidate_propensities,
            correction=correction,
            experiment=served.experiment,
            variant=served.variant,
        )
        rows.append((served.user_id.encode(), encode(feedback)))
    return rows
