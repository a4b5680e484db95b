"""The flush: dirty rows go to the changelogs, and only then may the offsets they cover be committed."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from streams.clock import Clock
from streams.durability.profile_rows import take_profiles
from streams.durability.rows import Taken, take_covisits
from streams.events import Feedback, Recommendation, encode
from streams.kafka.inputs import Inputs
from streams.kafka.log import RowPublisher
from streams.kafka.publisher import Row
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard, arm_key, encode_policy_row, statistics_key


class Flusher:
    """Makes shards durable; an error leaves their offsets uncommitted.

    Parameters
    ----------
    topics : full name on the broker by name
    shards : returns the shards that are restored and owned
    """

    def __init__(
        self,
        settings: Settings,
        topics: Mapping[str, str],
        shards: Callable[[], list[Shard]],
        *,
        index: ItemIndex,
        inputs: Inputs,
        publisher: RowPublisher,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._topics = topics
        self._shards = shards
        self._index = index
        self._inputs = inputs
        self._publisher = publisher
        self._metrics = metrics
        self._positive = frozenset(settings.positive_actions)
        self._shared_interval_s = settings.shared_flush_interval_ms / 1000
        self._clock = clock
        self._shared_flushed_at = clock.monotonic()

    async def flush_due(self) -> None:
        """Publish users' rows, and item statistics when it is their time."""
        due = self._clock.monotonic() - self._shared_flushed_at >= self._shared_interval_s
        if due:
            self._shared_flushed_at = self._clock.monotonic()
        await asyncio.gather(*(self.flush_shard(shard, shared=due) for shard in self._shards()))

    async def flush_all(self) -> None:
        """Publish every dirty row and complete the offsets they cover."""
        await asyncio.gather(*(self.flush_shard(shard, shared=True) for shard in self._shards()))

    async def flush_shard(self, shard: Shard, *, shared: bool = False) -> None:
        """Publish the shard's dirty rows, item statistics only when `shared`; complete what they cover."""
        async with shard.lock:
            started = time.perf_counter()
            clicks, users = shard.clicks.position, shard.users.position
            feedback = _feedback(shard, self._positive)
            # The profiles may need the item rows to be on the changelog before theirs: see their module.
            items_first = shard.profiles.covisits_first
            # Without new clicks since the last flush, waiting would spare no row.
            shared = shared or items_first or clicks == shard.flushed.users
            policy: list[Row] = []
            taken: list[Taken] = []
            marks = (shard.statistics.impressions, shard.statistics.rewards, shard.rewarded_offset)
            if marks != shard.flushed.statistics or feedback:
                parts = _take_parts(shard)
                policy += parts.rows
                taken.append(parts)
                policy.append((statistics_key(shard.partition), encode_policy_row(shard.policy_row())))
            if shared:
                covisits = take_covisits(shard.covisits, self._index, shard.partition)
                policy += covisits.rows
                taken.append(covisits)
                shard.profiles.covisits_taken()
            users_rows = take_profiles(shard.profiles, self._index)
            state = users_rows.rows
            taken.append(users_rows)
            publish = partial(self._publish, partition=shard.partition)
            try:
                # A slate's feedback goes out before the row that says the slate is closed.
                await publish("feedback", feedback)
                if items_first:
                    await publish("policy-state", policy)
                    await publish("user-state", state)
                else:
                    await asyncio.gather(publish("user-state", state), publish("policy-state", policy))
            except BaseException:
                for rows in taken:
                    rows.put_back()
                if shared:
                    shard.profiles.covisits_failed()
                raise
            shard.flushed.users = clicks
            shard.flushed.statistics = marks
            if shared:
                shard.flushed.shared = clicks
            self._complete(shard, users)
            if state or policy or feedback:
                self._metrics.observe_stage("flush", time.perf_counter() - started)

    async def _publish(self, name: str, rows: Sequence[Row], *, partition: int) -> None:
        if rows:
            await self._publisher.publish(self._topics[name], partition, rows)
            self._metrics.count_events(name, "published", len(rows))

    def _complete(self, shard: Shard, users: int) -> None:
        for name, through in (("clicks", shard.committable_clicks()), ("users", users - 1)):
            if (epoch := shard.epochs.get(name)) is not None:
                self._inputs.ledger.complete_through(
                    self._inputs.partition(name, shard.partition), through, epoch
                )


def _take_parts(shard: Shard) -> Taken:
    """Rows of the parts of the statistics that have changed; they go out before the row of the whole."""
    taken = shard.statistics.take_rows()
    rows = [(arm_key(shard.partition, part), row) for part, row in taken]
    return Taken(rows, lambda: shard.statistics.put_back(part for part, _ in taken))


def _feedback(shard: Shard, positive: frozenset[str]) -> list[Row]:
    """Close the slates whose window has ended; return their rows for `feedback`, and corrected ones."""
    rows: list[Row] = []
    for slate, rewards, _, correction in shard.close_slates(positive):
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
