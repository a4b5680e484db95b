"""Rebuilding a shard from the topics: changelog rows first, then the tails of the logs they point into."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from online_learning.statistics.arms import ArmStatistics
from streams.decoding import decode
from streams.durability.profile_rows import Restore
from streams.durability.rows import COVISIT_PREFIX, restore_covisits
from streams.events import decode_click, decode_recommendation
from streams.kafka.progress import Progress
from streams.kafka.reader import read_partition
from streams.state.shard import (
    ARM_PREFIX,
    STATISTICS_PREFIX,
    PolicyRow,
    Shard,
    decode_policy_row,
    features_of,
)

if TYPE_CHECKING:
    from streams.worker.engine import Engine


async def restore_shard(engine: "Engine", partition: int) -> Shard:
    """Return the shard of a partition as it was when it was last flushed.

    What came after is read again from the committed offsets by the agents, and rows that have seen it
    already take no notice.
    """
    shard = engine.new_shard(partition)
    await _restore_profiles(engine, shard)
    row = await _restore_shared(engine, shard)
    if row is not None:
        await _restore_slates(engine, shard, row)
        await _replay_rewards(engine, shard, row)
        shard.slates.resume(row.closed_ms)
    await engine.positioned()
    shard.clicks = Progress(engine.start_offset("clicks", partition))
    shard.users = Progress(engine.start_offset("users", partition))
    shard.flushed.users = shard.flushed.shared = shard.clicks.position
    return shard


async def _restore_profiles(engine: "Engine", shard: Shard) -> None:
    topic = engine.topic("user-state")
    restore = Restore(shard.profiles, engine.index)
    async for records in read_partition(engine.settings, topic, shard.partition):
        restore.add(_rows(records))
        engine.metrics.count_restored("user-state", len(records))
    restore.finish()


async def _restore_shared(engine: "Engine", shard: Shard) -> PolicyRow | None:
    topic = engine.topic("policy-state")
    newest: PolicyRow | None = None
    async for records in read_partition(engine.settings, topic, shard.partition):
        rows = _rows(records)
        covisits = [row for row in rows if row[0].startswith(COVISIT_PREFIX)]
        restore_covisits(shard.covisits, engine.index, covisits)
        for key, value in rows:
            if key.startswith(STATISTICS_PREFIX) and value is not None:
                newest = decode_policy_row(value)
            elif isinstance(shard.statistics, ArmStatistics) and key.startswith(ARM_PREFIX) and value:
                shard.statistics.load_row(value)
        engine.metrics.count_restored("policy-state", len(records))
    return newest


async def _restore_slates(engine: "Engine", shard: Shard, row: PolicyRow) -> None:
    """Open the slates that can still be rewarded, and count those published after the row."""
    release = engine.scorer.release
    if row.feature_space == engine.policies.learning.feature_space:
        shard.load_positions(row)
        if row.statistics:
            shard.statistics = engine.policies.learning.read(row.statistics)
    shard.rewarded_offset = row.clicks_offset
    shard.recommended_offset = row.recommendations_offset
    shard.watermark_ms = row.closed_ms
    shard.flushed.statistics = (
        shard.statistics.impressions, shard.statistics.rewards, shard.rewarded_offset
    )  # fmt: skip
    topic = engine.topic("recommendations")
    async for records in read_partition(engine.settings, topic, shard.partition, start=row.open_from):
        for record in records:
            try:
                served = decode_recommendation(record.value)
            except (msgspec.MsgspecError, TypeError):
                continue  # not ours: somebody else wrote to the topic
            shard.answered.add(served.request_id)
            features = features_of(served, release.feature_dim)
            same_space = served.model_version == release.version
            erased = shard.profiles.erased_through(served.user_id)
            forgotten = erased is not None and served.clicks_offset <= erased
            kept = served.timestamp_ms + shard.slates.keep_ms > row.closed_ms
            if kept and not forgotten and len(features) == len(served.slate):
                shard.open_slate(served, features)
            shard.count_slate(served, features if same_space else features[:0], record.offset)
        engine.metrics.count_restored("recommendations", len(records))


async def _replay_rewards(engine: "Engine", shard: Shard, row: PolicyRow) -> None:
    """Mark what the slates have been rewarded for already: those clicks are in the sums."""
    slates = shard.slates.slates()
    if not slates:
        return
    start = min(slate.after_offset for slate in slates) + 1
    if start > row.clicks_offset:
        return
    topic = engine.topic("clicks")
    async for records in read_partition(engine.settings, topic, shard.partition, start=start):
        kept = [record for record in records if record.offset <= row.clicks_offset]
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
                    offset=record.offset,
                )
        if len(kept) < len(records):
            return


def _rows(records: Sequence[Any]) -> list[tuple[bytes, bytes | None]]:
    return [(record.key, record.value) for record in records if record.key is not None]
