"""`users`: what users state about themselves, and their right to be forgotten."""

from typing import TYPE_CHECKING, Any

from streams.decoding import NULL_KEY, Rejected, decode
from streams.events import decode_user
from streams.kafka.transport import RecordBatch
from streams.state.shard import Shard

if TYPE_CHECKING:
    from streams.worker.engine import Engine


async def on_users(engine: "Engine", batch: RecordBatch) -> None:
    """Apply updates and erasures in offset order; an erasure is on the changelog before this returns."""
    shard = await engine.shard(batch.tp.partition)
    shard.epochs["users"] = batch.epoch
    engine.metrics.observe_batch("users", len(batch))
    decoded = decode([record for record in batch.records if record.value is not None], decode_user)
    values = {record.offset: value for value, record in zip(decoded.values, decoded.records, strict=True)}
    rejected = list(decoded.rejected)
    erased = 0
    for record in batch.records:
        if record.value is None:
            erased += _erase(engine, shard, record, rejected)
        elif (update := values.get(record.offset)) is not None:
            shard.profiles.set_stated(
                update.user_id,
                attributes=update.attributes,
                preferences=update.preferences,
                blocked=engine.index.rows_of(update.blocked_items),
                offset=record.offset,
            )
    engine.metrics.count_events("users", "accepted", len(values))
    await engine.dead_letter("users", rejected)
    shard.users.advance(batch.last_offset + 1)
    if erased:
        engine.metrics.count_events("users", "tombstone", erased)
        await engine.flusher.flush_shard(shard)


def _erase(engine: "Engine", shard: Shard, record: Any, rejected: list[Rejected]) -> int:
    if not record.key:
        rejected.append(Rejected(record, NULL_KEY, "an erasure names its user by the record's key"))
        return 0
    user_id = record.key.decode(errors="replace")
    if shard.profiles.erase(user_id, record.offset) or shard.profiles.row_of(user_id) < 0:
        shard.slates.forget(user_id)
    return 1
