"""`content`: validate, encode once per change, publish to `item-state` for every worker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streams.decoding.dead_letters import DeadLetters
from streams.decoding.records import NULL_KEY, TOO_LARGE, Rejected, decode
from streams.errors import OwnershipLost
from streams.events import Content, decode_content
from streams.items.content import Change, ContentEncoder
from streams.kafka.inputs import Inputs
from streams.kafka.log import RowPublisher
from streams.kafka.publisher import Row
from streams.kafka.record_batch import RecordBatch
from streams.metrics import Metrics
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.worker.agents.deletions import Deletions

log = logging.getLogger(__name__)

# Items encoded together: the first of a large catalogue are served while the rest are being encoded.
SLICE = 256
# So long content waits until this worker has read what has been written of it.
READ_BACK_S, POLL_S = 5.0, 0.005


class ContentAgent:
    """Turns batches of content into rows of `item_state`, that topic's full name.

    Parameters
    ----------
    writes : whether this worker is surely a partition's writer now
    lost : called when another worker is
    ends : asks for the next offset to be written to each of some partitions of it
    position : the next offset to be read of a partition of it
    """

    def __init__(
        self,
        encoder: ContentEncoder,
        *,
        publisher: RowPublisher,
        item_state: str,
        writes: Callable[[int], bool],
        lost: Callable[[], object],
        ends: Callable[[Iterable[int]], Awaitable[Mapping[int, int]]],
        position: Callable[[int], int],
        inputs: Inputs,
        index: ItemIndex,
        catalogue: Catalogue,
        deletions: Deletions,
        dead_letters: DeadLetters,
        metrics: Metrics,
    ) -> None:
        self._encoder = encoder
        self._publisher = publisher
        self._item_state = item_state
        self._writes = writes
        self._lost = lost
        self._ends = ends
        self._position = position
        self._inputs = inputs
        self._index = index
        self._catalogue = catalogue
        self._deletions = deletions
        self._dead_letters = dead_letters
        self._metrics = metrics

    async def __call__(self, batch: RecordBatch) -> None:
        """Encode and publish a batch; its offsets complete when the broker has the rows.

        Raises
        ------
        OwnershipLost
            If another worker writes the partition's items by now.
        """
        self._metrics.observe_batch("content", len(batch))
        tombstones = [record for record in batch.records if record.value is None]
        decoded = decode([record for record in batch.records if record.value is not None], decode_content)
        rejected = list(decoded.rejected)
        rejected += [
            Rejected(record, NULL_KEY, "a deletion names its item by the record's key")
            for record in tombstones
            if not record.key
        ]
        versions = _versions(tombstones, zip(decoded.values, decoded.records, strict=True))
        unknown: list[Any] = []
        if versions:  # some may have been described or deleted just now, or by the partition's former owner
            await self._is_ours(batch)
            if await self._is_read_back(batch.tp.partition):
                unknown = self._unknown(versions)
        while versions:
            refused = await self._take(versions, batch)
            rejected += refused
            versions = _before({bad.record.offset for bad in refused}, versions)
        self._metrics.count_events("content", "accepted", len(decoded.values))
        self._deletions.count("content", sum(bool(one.key) for one in tombstones) - len(unknown), unknown)
        await self._dead_letters.publish("content", rejected)
        self._inputs.ledger.complete(batch.tp, batch.last_offset, batch.epoch)

    def _unknown(self, versions: "Versions") -> list[Any]:
        """Return the deletions of items that nobody has described or clicked on."""
        never = (held for held in versions.values() if all(content is None for _, content in held))
        records = [record for held in never for record, _ in held]
        return [record for record in records if self._index.row_of(record.key.decode(errors="replace")) < 0]

    async def _is_read_back(self, partition: int) -> bool:
        """Wait until what has been written of a partition is known here; False if that takes too long."""
        try:
            async with asyncio.timeout(READ_BACK_S):
                end = (await self._ends([partition]))[partition]
                while self._position(partition) < end:
                    await asyncio.sleep(POLL_S)
        except (KafkaError, TimeoutError) as error:
            log.warning(
                "%s [%d] is read up to %d, and not to its end (%r): content goes on, but an item deleted and "
                "described again may count as old, or one described again as new",
                self._item_state, partition, self._position(partition), error,
            )  # fmt: skip
            return False
        return True

    async def _take(self, versions: "Versions", batch: RecordBatch) -> list[Rejected]:
        """Encode and publish the newest version of each item; return those that cannot be used.

        An item that was deleted in between is deleted first, for all who fold the rows: what is described
        then is another one.
        """
        newest = sorted((held[-1] for held in versions.values()), key=lambda change: change[0].offset)
        rejected: list[Rejected] = []
        for start in range(0, len(newest), SLICE):
            changes = newest[start : start + SLICE]
            deleted, since_ms = self._before_now(changes, versions)
            changes = [*deleted, *changes]
            rows, refused = await self._encoder.rows(changes, since_ms)
            rejected += refused
            offsets = {bad.record.offset for bad in refused}
            records = [record for record, _ in changes if record.offset not in offsets]
            await self._is_ours(batch)
            try:
                rejected += await self._publish(batch.tp.partition, rows, records)
            except OwnershipLost:
                if self._is_current(batch):  # and so nobody has told this worker
                    self._lost()
                raise
        return rejected

    def _before_now(
        self, described: Sequence[Change], versions: "Versions"
    ) -> tuple[list[Change], dict[str, int]]:
        """Return the last deletions of items that are described now, and since when others exist, in ms."""
        deleted: list[Change] = []
        since_ms: dict[str, int] = {}
        for name in (content.item_id for _, content in described if content is not None):
            deletion = next((record for record, content in reversed(versions[name]) if content is None), None)
            after = (deletion.partition, deletion.offset) if deletion is not None else None
            if (since := self._catalogue.described_ms(name, after=after)) is not None:
                since_ms[name] = since
            elif deletion is not None:
                deleted.append((deletion, None))
        return deleted, since_ms

    def _is_current(self, batch: RecordBatch) -> bool:
        return self._inputs.ledger.is_current(batch.tp, batch.epoch)

    async def _is_ours(self, batch: RecordBatch) -> None:
        """Wait until this worker is surely the partition's writer: items of a former owner would be old."""
        while self._is_current(batch):
            if self._writes(batch.tp.partition):
                return
            await asyncio.sleep(POLL_S)
        raise OwnershipLost(f"partition {batch.tp.partition} is not this worker's any more")

    async def _publish(self, partition: int, rows: Sequence[Row], records: Sequence[Any]) -> list[Rejected]:
        """Publish rows, and return the records of those that the topic is too small for."""
        try:
            await self._publisher.publish(self._item_state, partition, rows)
            return []
        except MessageSizeTooLargeError:
            if len(rows) == 1:
                size = len(rows[0][1] or b"")
                return [Rejected(records[0], TOO_LARGE, f"{self._item_state} takes no row of {size} bytes")]
        alone = [await self._publish(partition, [row], [of]) for row, of in zip(rows, records, strict=True)]
        return [bad for found in alone for bad in found]


Versions = dict[str, list[tuple[Any, Content | None]]]


def _versions(tombstones: Iterable[Any], described: Iterable[tuple[Content, Any]]) -> Versions:
    """Return the versions of each item, oldest first; only the last one is written."""
    said = [(record.key.decode(errors="replace"), record, None) for record in tombstones if record.key]
    said += [(value.item_id, record, value) for value, record in described]  # type: ignore[misc]
    versions: Versions = {}
    for name, record, value in sorted(said, key=lambda one: one[1].offset):
        versions.setdefault(name, []).append((record, value))
    return versions


def _before(refused: set[int], versions: Versions) -> Versions:
    """Return the versions before the refused ones, of items that have an earlier version."""
    return {
        name: held[:-1] for name, held in versions.items() if held[-1][0].offset in refused and len(held) > 1
    }
