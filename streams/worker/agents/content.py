"""`content`: validate, encode once per change, publish to `item-state` for every worker."""

from typing import TYPE_CHECKING, Any

from streams.decoding import MEDIA, NULL_KEY, Rejected, decode
from streams.events import Content, decode_content
from streams.kafka.transport import RecordBatch

if TYPE_CHECKING:
    from streams.worker.engine import Engine

# Items encoded together: the first of a large catalogue are served while the rest are being encoded.
SLICE = 256


async def on_content(engine: "Engine", batch: RecordBatch) -> None:
    """Turn a batch of content into item-state rows; offsets complete when the broker has the rows."""
    engine.metrics.observe_batch("content", len(batch))
    tombstones = [record for record in batch.records if record.value is None]
    decoded = decode([record for record in batch.records if record.value is not None], decode_content)
    rejected = list(decoded.rejected)
    rejected += [
        Rejected(record, NULL_KEY, "a deletion names its item by the record's key")
        for record in tombstones
        if not record.key
    ]
    # Only the last word on an item counts within a batch: rows before it would be overwritten at once.
    newest: dict[str, tuple[Any, Content | None]] = {}
    for record in tombstones:
        if record.key:
            newest[record.key.decode(errors="replace")] = (record, None)
    for value, record in zip(decoded.values, decoded.records, strict=True):
        held = newest.get(value.item_id)
        if held is None or held[0].offset < record.offset:
            newest[value.item_id] = (record, value)
    changes = sorted(newest.values(), key=lambda change: change[0].offset)
    for start in range(0, len(changes), SLICE):
        rows, refused = await engine.content.rows(changes[start : start + SLICE])
        rejected += [Rejected(record, MEDIA, error) for record, error in refused]
        if rows:
            await engine.publisher.publish(engine.topic("item-state"), batch.tp.partition, rows)
    engine.metrics.count_events("content", "accepted", len(decoded.values))
    engine.metrics.count_events("content", "tombstone", len(tombstones))
    await engine.dead_letter("content", rejected)
    engine.ledger.complete(batch.tp, batch.last_offset, batch.epoch)
