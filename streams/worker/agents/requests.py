"""`requests`: decode and serve; a request's offset is completed once its slate is published."""

import time
from typing import TYPE_CHECKING

from streams.decoding import decode, key_mismatches, refuse_future_requests
from streams.events import decode_request
from streams.kafka.transport import RecordBatch

if TYPE_CHECKING:
    from streams.worker.engine import Engine


async def on_requests(engine: "Engine", batch: RecordBatch) -> None:
    """Start to serve a batch of requests; returns when there is room for more."""
    shard = await engine.shard(batch.tp.partition)
    metrics = engine.metrics
    metrics.observe_batch("requests", len(batch))
    began = time.perf_counter()
    accepted, rejected = refuse_future_requests(
        decode(batch.records, decode_request), engine.settings.max_future_ms
    )
    metrics.observe_stage("decode", time.perf_counter() - began)
    mismatches = key_mismatches([r for _, r in accepted], [request.user_id for request, _ in accepted])
    if mismatches:
        metrics.count_key_mismatches("requests", mismatches)
    engine.check_partition("requests", shard.partition, [request.user_id for request, _ in accepted])
    await engine.dead_letter("requests", rejected)
    if not accepted:
        engine.ledger.complete(batch.tp, batch.last_offset, batch.epoch)
        return
    await engine.server.serve_batch(shard, accepted, batch)
