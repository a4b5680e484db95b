"""`content`: validate, encode once per change, publish to `item-state` for every worker."""

from collections.abc import Iterable
from typing import Any

from streams.decoding import NULL_KEY, Rejected, decode
from streams.events import Content, decode_content
from streams.items.content import ContentEncoder
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.inputs import Inputs
from streams.kafka.log import RowPublisher
from streams.kafka.transport import RecordBatch
from streams.metrics import Metrics

# Items encoded together: the first of a large catalogue are served while the rest are being encoded.
SLICE = 256


class ContentAgent:
    """Turns batches of content into rows of `item_state`, that topic's full name."""

    def __init__(
        self,
        encoder: ContentEncoder,
        *,
        publisher: RowPublisher,
        item_state: str,
        inputs: Inputs,
        dead_letters: DeadLetters,
        metrics: Metrics,
    ) -> None:
        self._encoder = encoder
        self._publisher = publisher
        self._item_state = item_state
        self._inputs = inputs
        self._dead_letters = dead_letters
        self._metrics = metrics

    async def __call__(self, batch: RecordBatch) -> None:
        """Encode and publish a batch; its offsets complete when the broker has the rows."""
        self._metrics.observe_batch("content", len(batch))
        tombstones = [record for record in batch.records if record.value is None]
        decoded = decode([record for record in batch.records if record.value is not None], decode_content)
        rejected = list(decoded.rejected)
        rejected += [
            Rejected(record, NULL_KEY, "a deletion names its item by the record's key")
            for record in tombstones
            if not record.key
        ]
        changes = _newest(tombstones, zip(decoded.values, decoded.records, strict=True))
        for start in range(0, len(changes), SLICE):
            rows, refused = await self._encoder.rows(changes[start : start + SLICE])
            rejected += refused
            if rows:
                await self._publisher.publish(self._item_state, batch.tp.partition, rows)
        self._metrics.count_events("content", "accepted", len(decoded.values))
        self._metrics.count_events("content", "tombstone", len(tombstones))
        await self._dead_letters.publish("content", rejected)
        self._inputs.ledger.complete(batch.tp, batch.last_offset, batch.epoch)


def _newest(
    tombstones: Iterable[Any], described: Iterable[tuple[Content, Any]]
) -> list[tuple[Any, Content | None]]:
    """Keep the last word on each item: rows before it would be overwritten at once."""
    newest: dict[str, tuple[Any, Content | None]] = {}
    for record in tombstones:
        if record.key:
            newest[record.key.decode(errors="replace")] = (record, None)
    for value, record in described:
        held = newest.get(value.item_id)
        if held is None or held[0].offset < record.offset:
            newest[value.item_id] = (record, value)
    return sorted(newest.values(), key=lambda change: change[0].offset)
