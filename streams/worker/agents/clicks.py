"""`clicks`: decode, fold, reward; ask for a slate where the action says so."""

import asyncio
import time
from typing import TYPE_CHECKING

from streams.decoding import ClickColumns, click_columns
from streams.events import Request
from streams.kafka.transport import RecordBatch
from streams.state.shard import Shard, count_outcomes

if TYPE_CHECKING:
    from streams.worker.engine import Engine

# Rows folded between two looks at the event loop: about 10 ms.
SLICE = 2048


async def on_clicks(engine: "Engine", batch: RecordBatch) -> None:
    """Fold a batch of clicks; its offsets are completed by the next flush."""
    shard = await engine.shard(batch.tp.partition)
    shard.epochs["clicks"] = batch.epoch
    metrics = engine.metrics
    metrics.observe_batch("clicks", len(batch))
    for start in range(0, len(batch), SLICE):
        records = batch.records[start : start + SLICE]
        began = time.perf_counter()
        columns = click_columns(records, engine.action_codes, engine.settings.max_future_ms)
        decoded = time.perf_counter()
        known = shard.profiles.n_users
        outcomes = shard.fold(columns, engine.index, engine.positive, metrics)
        metrics.observe_stage("decode", decoded - began)
        metrics.observe_stage("fold", time.perf_counter() - decoded)
        count_outcomes(outcomes, metrics, "clicks")
        if columns.key_mismatches:
            metrics.count_key_mismatches("clicks", columns.key_mismatches)
        if shard.profiles.n_users > known:
            engine.check_partition("clicks", shard.partition, shard.profiles.user_ids(known))
        if engine.settings.recommend_on:
            _ask(engine, shard, columns)
        await engine.dead_letter("clicks", columns.rejected)
        shard.clicks.advance(records[-1].offset + 1)
        await asyncio.sleep(0)
    shard.clicks.advance(batch.last_offset + 1)


def _ask(engine: "Engine", shard: Shard, columns: ClickColumns) -> None:
    """Request a slate for each click whose action is in `recommend_on`; hold its offset until published."""
    for row, click in enumerate(columns.clicks):
        if click.action not in engine.settings.recommend_on:
            continue
        request = Request(
            request_id=f"click:{click.event_id}"[:512],
            user_id=click.user_id,
            timestamp_ms=click.timestamp_ms,
            k=engine.settings.k_default,
            context=click.context,
        )
        offset = int(columns.offsets[row])
        engine.server.serve_click(shard, request, offset, received=float(columns.broker_times[row]) / 1000)
