"""`requests`: decode and serve; a request's offset is completed once its slate is published."""

import time
from collections.abc import Awaitable, Callable

from streams.decoding.dead_letters import DeadLetters
from streams.decoding.records import decode, key_mismatches, refuse_future_requests
from streams.events import decode_request
from streams.kafka.columns import RecordColumns
from streams.kafka.inputs import Inputs
from streams.kafka.placement import Placement
from streams.kafka.record_batch import RecordBatch
from streams.metrics import Metrics
from streams.serving.server import Server
from streams.settings import Settings
from streams.state.shard import Shard


class RequestAgent:
    """Begins to serve batches of requests; a call returns when there is room for more.

    Parameters
    ----------
    shard : returns the shard of an owned partition
    """

    def __init__(
        self,
        settings: Settings,
        shard: Callable[[int], Awaitable[Shard]],
        *,
        server: Server,
        inputs: Inputs,
        placement: Placement,
        dead_letters: DeadLetters,
        metrics: Metrics,
    ) -> None:
        self._max_future_ms = settings.max_future_ms
        self._shard = shard
        self._server = server
        self._inputs = inputs
        self._placement = placement
        self._dead_letters = dead_letters
        self._metrics = metrics

    async def __call__(self, batch: RecordBatch) -> None:
        """Begin to serve a batch."""
        shard = await self._shard(batch.tp.partition)
        metrics = self._metrics
        metrics.observe_batch("requests", len(batch))
        if len(batch) and batch.records[0].offset >= shard.again_before:
            shard.answered.release()
        began = time.perf_counter()
        accepted, rejected = refuse_future_requests(
            decode(batch.records, decode_request), self._max_future_ms
        )
        metrics.observe_stage("decode", time.perf_counter() - began)
        mismatches = key_mismatches([r for _, r in accepted], [request.user_id for request, _ in accepted])
        if mismatches:
            metrics.count_key_mismatches("requests", mismatches)
        self._placement.check("requests", shard.partition, [request.user_id for request, _ in accepted])
        await self._dead_letters.publish("requests", rejected)
        if not accepted:
            self._inputs.ledger.complete(batch.tp, batch.last_offset, batch.epoch)
            return
        await self._server.serve_batch(shard, accepted, batch, clicks_end=self._clicks_end(batch))

    def _clicks_end(self, batch: RecordBatch) -> int | None:
        """Return the end offset of the same users' clicks when these requests were read, if known."""
        clicks = self._inputs.partition("clicks", batch.tp.partition)
        return RecordColumns.of(batch.records).ends.get(clicks)
