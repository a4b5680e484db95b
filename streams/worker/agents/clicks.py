"""`clicks`: decode, fold, reward; ask for a slate where the action says so."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.decoding.click_kernels import USER
from streams.decoding.clicks import ClickColumns, click_columns
from streams.decoding.dead_letters import DeadLetters
from streams.events import Request
from streams.kafka.columns import RecordColumns
from streams.kafka.placement import Placement
from streams.kafka.record_batch import RecordBatch
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.fold_kernels import APPLIED, BOUNDED, DUPLICATE, HELD, REFUSED, REPLAYED
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard

T = TypeVar("T")
Serve = Callable[[Shard, Request, Any], Awaitable[None]]

# So many clicks are folded in a few milliseconds: another thread would have the interpreter only later.
FEW_CLICKS = 384
# Clicks given to another thread at once.
PIECE = 4096


class ClickAgent:
    """Folds batches of clicks; their offsets are completed by the next flush.

    Batches of several partitions may be folded side by side, those of one only one after the other.

    Parameters
    ----------
    shard : returns the shard of an owned partition
    serve : begins to answer a request that a click's record asks for
    read : makes columns of records, where these are of a topic that is mapped
    threads : where many clicks are decoded and counted; the compiled loops let go of the interpreter
    """

    def __init__(
        self,
        settings: Settings,
        shard: Callable[[int], Awaitable[Shard]],
        *,
        index: ItemIndex,
        serve: Serve,
        placement: Placement,
        dead_letters: DeadLetters,
        metrics: Metrics,
        threads: Executor,
        read: Callable[[RecordColumns], ClickColumns] | None = None,
    ) -> None:
        self._shard = shard
        self._threads = threads
        self._index = index
        self._serve = serve
        self._placement = placement
        self._dead_letters = dead_letters
        self._metrics = metrics
        codes = {name: code for code, name in enumerate(settings.actions)}
        self._read = read or partial(click_columns, action_codes=codes, max_future_ms=settings.max_future_ms)
        self._positive = frozenset(settings.positive_actions)
        self._asks = np.array([name in settings.recommend_on for name in settings.actions], np.bool_)
        self._k = settings.k_default

    async def __call__(self, batch: RecordBatch) -> None:
        """Fold a batch."""
        shard = await self._shard(batch.tp.partition)
        shard.epochs["clicks"] = batch.epoch
        metrics = self._metrics
        metrics.observe_batch("clicks", len(batch))
        began = time.perf_counter()
        columns = await self._decoded(RecordColumns.of(batch.records))
        metrics.observe_stage("decode", time.perf_counter() - began)
        if columns.key_mismatches:
            metrics.count_key_mismatches("clicks", columns.key_mismatches)
            shard.clicks.keyed = False
        if columns.left_out:
            metrics.count_events("clicks", "left_out", columns.left_out)
        await self._dead_letters.publish("clicks", columns.rejected)
        base = shard.logs.of("clicks")
        if base:
            columns = columns.moved(base)
        for start in range(0, len(columns), PIECE):
            piece = columns[start : start + PIECE]
            await self._fold(shard, piece)
            if self._asks.any():
                await self._ask(shard, piece)
            shard.clicks.advance(int(piece.offsets[-1]) - base + 1)
        shard.clicks.advance(batch.last_offset + 1)

    async def _decoded(self, records: RecordColumns) -> ClickColumns:
        if len(records) <= FEW_CLICKS:
            return self._read(records)
        return await self._elsewhere(self._read, records)

    async def _fold(self, shard: Shard, clicks: ClickColumns) -> None:
        metrics = self._metrics
        began = time.perf_counter()
        items = shard.meet(clicks, self._index)
        if len(clicks) <= FEW_CLICKS:
            outcomes = shard.count(clicks, items, self._index)
        else:
            outcomes = await self._elsewhere(shard.count, clicks, items, self._index)
        shard.learn(clicks, outcomes, self._positive, metrics)
        metrics.observe_stage("fold", time.perf_counter() - began)
        # Of the oldest of the piece.
        metrics.observe_stage("click_to_fold", max(0.0, time.time() - clicks.broker_times[0] / 1000))
        _count(outcomes, metrics)
        self._placement.check_bytes("clicks", shard.partition, clicks.data, clicks.spans[USER])

    def _elsewhere(self, work: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

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
            await self._serve(shard, request, columns.records[int(columns.rows[row])])


def _count(outcomes: NDArray[np.uint8], metrics: Metrics) -> None:
    """Count what became of folded clicks."""
    counts = np.bincount(outcomes, minlength=HELD + 1).tolist()
    bounded, held = counts[BOUNDED], counts[HELD]
    for outcome, n in (
        ("accepted", counts[APPLIED] + bounded + held),
        ("duplicate", counts[DUPLICATE]),
        ("replayed", counts[REPLAYED]),
        ("refused", counts[REFUSED]),
    ):
        if n:
            metrics.count_events("clicks", outcome, n)
    if bounded:
        metrics.clicks_bounded.inc(bounded)
    if held:
        metrics.clicks_held.inc(held)
