"""`clicks`: decode, fold, reward; ask for a slate where the action says so."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np

from streams.decoding import ClickColumns, click_columns
from streams.events import Request
from streams.kafka.columns import RecordColumns
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.placement import Placement
from streams.kafka.transport import RecordBatch
from streams.metrics import Metrics
from streams.serving.server import Server
from streams.settings import Settings
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard, count_outcomes

# Rows folded between two looks at the event loop: 1 to 2 ms.
SLICE = 384


class ClickAgent:
    """Folds batches of clicks; their offsets are completed by the next flush.

    Parameters
    ----------
    shard : returns the shard of an owned partition
    """

    def __init__(
        self,
        settings: Settings,
        shard: Callable[[int], Awaitable[Shard]],
        *,
        index: ItemIndex,
        server: Server,
        placement: Placement,
        dead_letters: DeadLetters,
        metrics: Metrics,
    ) -> None:
        self._shard = shard
        self._index = index
        self._server = server
        self._placement = placement
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._codes = {name: code for code, name in enumerate(settings.actions)}
        self._positive = frozenset(settings.positive_actions)
        self._max_future_ms = settings.max_future_ms
        self._asks = np.array([name in settings.recommend_on for name in settings.actions], np.bool_)
        self._k = settings.k_default

    async def __call__(self, batch: RecordBatch) -> None:
        """Fold a batch."""
        shard = await self._shard(batch.tp.partition)
        shard.epochs["clicks"] = batch.epoch
        metrics = self._metrics
        metrics.observe_batch("clicks", len(batch))
        fetched = RecordColumns.of(batch.records)
        for start in range(0, len(batch), SLICE):
            records = fetched[start : start + SLICE]
            began = time.perf_counter()
            columns = click_columns(records, self._codes, self._max_future_ms)
            decoded = time.perf_counter()
            outcomes = shard.fold(columns, self._index, self._positive, metrics)
            metrics.observe_stage("decode", decoded - began)
            metrics.observe_stage("fold", time.perf_counter() - decoded)
            # Of the oldest of the slice, its record's time on the broker being the first one's.
            metrics.observe_stage("click_to_fold", max(0.0, time.time() - records.timestamps[0] / 1000))
            count_outcomes(outcomes, metrics, "clicks")
            if columns.key_mismatches:
                metrics.count_key_mismatches("clicks", columns.key_mismatches)
            if newcomers := shard.profiles.newcomers:
                self._placement.check("clicks", shard.partition, newcomers)
            if self._asks.any():
                await self._ask(shard, columns)
            await self._dead_letters.publish("clicks", columns.rejected)
            shard.clicks.advance(int(records.offsets[-1]) + 1)
            await asyncio.sleep(0)
        shard.clicks.advance(batch.last_offset + 1)

    async def _ask(self, shard: Shard, columns: ClickColumns) -> None:
        """Ask for a slate for each click whose action says so; hold its offset until it is published."""
        for row in np.flatnonzero(self._asks[columns.actions]).tolist():
            click = columns.click(row)
            request = Request(
                request_id=f"click:{click.event_id}"[:512],
                user_id=click.user_id,
                timestamp_ms=click.timestamp_ms,
                k=self._k,
                context=click.context,
            )
            await self._server.serve_click(shard, request, columns.records[int(columns.rows[row])])
