"""Serving: from a request to a published slate, whatever way the request came."""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from streams.clock import Clock
from streams.decoding.dead_letters import DeadLetters
from streams.decoding.records import TOO_LARGE, Rejected
from streams.errors import OwnershipLost
from streams.events import Recommendation, Request
from streams.kafka.inputs import Inputs
from streams.kafka.record_batch import RecordBatch
from streams.metrics import Metrics
from streams.serving.fresh_slates import FreshSlates
from streams.serving.gate import Gate, Overloaded, Ticket
from streams.serving.lane import Lanes
from streams.serving.outbox import Outbox, SlateTooLarge
from streams.serving.own_clicks import OwnClicks
from streams.serving.popular import PopularSlates
from streams.serving.published import PublishedSlates
from streams.serving.records import slate_record
from streams.serving.scoring import Scoring
from streams.serving.shadowing import Shadowing
from streams.serving.slate_quota import SlateQuota
from streams.settings import Settings
from streams.state.shard import Shard
from streams.state.trial_counts import TrialCounts

log = logging.getLogger(__name__)

CHEAP = 4  # requests answered from the cheap path at a time, for each one that may be in flight


class Server:
    """Answers requests from Kafka, from clicks and from HTTP alike, through one gate.

    Beyond it a request has a slate of popular items (`when_overloaded` is "fallback"), or waits in its topic;
    over HTTP, where nothing can wait, it is refused. Who has waited for longer than `max_request_age_ms` has
    popular items, too: their slates cost little, and so nobody waits much longer than that.

    Parameters
    ----------
    lanes : say what makes the slates of a batch
    outbox : publishes slates
    published : slates of before, for who asks again
    """

    def __init__(
        self,
        settings: Settings,
        *,
        lanes: Lanes,
        popular: PopularSlates,
        own_clicks: OwnClicks,
        inputs: Inputs,
        outbox: Outbox,
        quota: SlateQuota,
        published: PublishedSlates,
        dead_letters: DeadLetters,
        shadowing: Shadowing,
        trials: TrialCounts,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._trials = trials
        self._lanes = lanes
        self._shadowing = shadowing
        self._popular = popular
        self._own_clicks = own_clicks
        self._inputs = inputs
        self._published = published
        self._outbox = outbox
        self._quota = quota
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._max_in_flight = settings.max_in_flight
        bounds = (settings.max_in_flight, settings.max_in_flight_bytes)
        self._gate = Gate(
            max_requests=bounds[0], max_bytes=bounds[1], max_queue_s=settings.max_queue_ms / 1000,
            max_batch=settings.max_batch,
        )  # fmt: skip
        self._scoring = Scoring(lanes, max_batch=settings.max_batch, metrics=metrics, took=self._took)
        self._slates = FreshSlates(self._scoring, own_clicks=own_clicks, inputs=inputs, metrics=metrics)
        self._cheap_gate = Gate(max_requests=CHEAP * bounds[0], max_bytes=CHEAP * bounds[1])
        self._falls_back = settings.when_overloaded == "fallback"
        max_age_ms = settings.max_request_age_ms
        self._max_age_s = math.inf if max_age_ms is None else max_age_ms / 1000
        self._tasks: set[asyncio.Task[Any]] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._serving: dict[tuple[int, str], asyncio.Future[None]] = {}  # by partition and id
        self._crash: Callable[[BaseException], None] | None = None

    def start(self, crash: Callable[[BaseException], None]) -> None:
        """Begin to score; an error that the worker must not survive goes to `crash`."""
        self._crash = crash
        self._scoring.start()
        if self._falls_back or self._max_age_s < math.inf:
            self._refreshing = asyncio.create_task(self._popular.keep_fresh())
            self._refreshing.add_done_callback(self._crash_on_error)

    async def stop(self) -> None:
        """Cancel what is in flight."""
        tasks = [*self._tasks, *([self._refreshing] if self._refreshing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._shadowing.stop()
        await self._outbox.stop()
        await self._scoring.stop()
        await self._own_clicks.stop()

    def refresh_popular(self) -> None:
        """List the popular items now; a started worker does so by itself, every few seconds."""
        self._popular.refresh()

    def close(self) -> None:
        """Let nothing in any more."""
        for gate in (self._gate, self._cheap_gate):
            gate.close()

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is in flight, but not for ever: what is left over of a topic is read again."""
        drained = [asyncio.ensure_future(gate.drained()) for gate in (self._gate, self._cheap_gate)]
        await asyncio.wait(drained, timeout=timeout_s)
        for one in drained:
            one.cancel()

    @property
    def in_flight(self) -> int:
        """Requests taken and not yet answered."""
        return self._gate.in_flight + self._cheap_gate.in_flight

    def has_room(self, coming: int) -> bool:
        """Whether `answer` would let a request in, were so many others to be answered before it."""
        return self._gate.has_room(0, coming=coming) or (
            self._falls_back and self._cheap_gate.has_room(0, coming=coming - self._max_in_flight)
        )

    # Entrances

    async def serve_batch(
        self,
        shard: Shard,
        accepted: Sequence[tuple[Request, Any]],
        batch: RecordBatch,
        *,
        clicks_end: int | None = None,
    ) -> None:
        """Serve the requests of a batch; complete its offsets when all are answered.

        It returns when all have been let in.

        Parameters
        ----------
        clicks_end : offset before which all clicks lie that came before these requests; None if not known
        """
        remaining, now = len(accepted), self._clock.time()
        self._metrics.observe_stages("read", [max(0.0, now - of.timestamp / 1000) for _, of in accepted])

        def answered() -> None:
            nonlocal remaining
            remaining -= 1
            if not remaining:
                self._inputs.ledger.complete(batch.tp, batch.last_offset, batch.epoch)

        for request, record in accepted:
            await self._let_in(
                request, shard, record.timestamp / 1000, nbytes=len(record.value), answered=answered,
                source=("requests", record), clicks_end=clicks_end,
            )  # fmt: skip

    async def serve_click(self, shard: Shard, request: Request, record: Any) -> None:
        """Serve the slate that a folded click asked for; its offset is held until then."""
        offset = record.offset
        shard.holding.add(offset)
        await self._let_in(
            request, shard, record.timestamp / 1000, nbytes=0, waits=False, source=("clicks", record),
            answered=lambda: shard.holding.discard(offset),
        )  # fmt: skip

    async def answer(
        self, request: Request, shard: Shard, *, received: float, nbytes: int = 0
    ) -> Recommendation | None:
        """Answer a request of so many bytes that somebody waits for, or return what it was answered with.

        None if its id has been answered, and the slate is not at hand.

        Raises
        ------
        Overloaded
            If there is no room for it, and no cheap answer is to be given.
        """
        try:
            with self._gate.admit(nbytes):
                record = await self.serve(request, shard, received=received)
        except Overloaded:
            if not self._falls_back:
                raise
            with self._cheap_gate.admit(nbytes):
                record = await self._once(request, shard, self._cheap(request, shard, received))
        # Reading takes no scoring: who asks again takes the place of nobody who asks anew.
        return record or await self._published.find(request, shard)

    async def _let_in(
        self,
        request: Request,
        shard: Shard,
        received: float,
        *,
        nbytes: int,
        answered: Callable[[], None],
        source: tuple[str, Any],
        waits: bool = True,
        clicks_end: int | None = None,
    ) -> None:
        """Begin to answer a request of a topic as soon as there is room."""
        cheap = self._is_late(received)
        if cheap:
            ticket = await self._cheap_gate.wait(nbytes)
        elif not self._falls_back:
            ticket = await self._gate.wait(nbytes)
            cheap = self._is_late(received)
        else:
            try:
                ticket = self._gate.admit(nbytes)
            except Overloaded:
                ticket, cheap = await self._cheap_gate.wait(nbytes), True

        async def one(ticket: Ticket) -> None:
            with ticket:
                try:
                    if cheap:
                        await self._once(request, shard, self._cheap(request, shard, received))
                    else:
                        await self.serve(
                            request, shard, received=received, waits=waits, clicks_end=clicks_end
                        )
                except OwnershipLost as lost:
                    log.warning("request %.40s is left to the owner: %s", request.request_id, lost)
                    return
                except SlateTooLarge as error:
                    name, record = source
                    await self._dead_letters.publish(name, [Rejected(record, TOO_LARGE, str(error))])
                answered()

        task = asyncio.create_task(one(ticket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._crash_on_error)

    def _is_late(self, received: float) -> bool:
        """Whether nobody waits for the model's slate any more."""
        return self._clock.time() - received > self._max_age_s

    def _crash_on_error(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            assert self._crash is not None
            self._crash(error)

    # The pipeline

    async def serve(
        self,
        request: Request,
        shard: Shard,
        *,
        received: float,
        waits: bool = True,
        clicks_end: int | None = None,
    ) -> Recommendation | None:
        """Answer one request and return the published record; None when its id was answered before.

        Parameters
        ----------
        received : Unix seconds at which the request entered, for the latency in the record
        waits : for the clicks acknowledged before
        clicks_end : offset before which these lie; None if the broker is to be asked
        """
        work = self._answer(request, shard, received, waits=waits, clicks_end=clicks_end)
        return await self._once(request, shard, work)

    async def _once(
        self, request: Request, shard: Shard, work: Coroutine[Any, Any, Recommendation]
    ) -> Recommendation | None:
        key = shard.partition, request.request_id
        if not shard.answered.add(request.request_id):
            work.close()
            self._metrics.count_events("requests", "duplicate")
            # Read again after a rebalance while the first is in flight: done only when that one is.
            if (first := self._serving.get(key)) is not None:
                await asyncio.shield(first)
            return None
        published = asyncio.get_running_loop().create_future()
        self._serving[key] = published
        try:
            record = await work
            published.set_result(None)
        except SlateTooLarge:
            published.set_result(None)  # it has been dealt with
            raise
        except Exception:
            shard.answered.forget(request.request_id)  # so that it can be asked again
            raise
        finally:
            published.cancel()
            if self._serving.get(key) is published:  # and not that of a partition that went and came back
                del self._serving[key]
        return record

    async def _answer(
        self, request: Request, shard: Shard, received: float, *, waits: bool, clicks_end: int | None
    ) -> Recommendation:
        chosen = await self._slates.slate(request, shard, waits=waits, clicks_end=clicks_end)
        learned = not request.preview and self._counts(request)
        await self._outbox.sure_of(shard)
        record = slate_record(
            request, chosen, learned=learned, clicks_offset=shard.closed_offset, received=received
        )
        # Opened before it is out, and before any later click is folded: each may be an answer to it.
        if learned:
            shard.learning.open(record, chosen.features, served_here=True)
        features = chosen.features if learned else None
        try:
            await self._outbox.publish(
                shard, record, features, received=received, spends_ms=self._spends_ms(request)
            )
        except Exception:  # it is not out
            shard.learning.withdraw(record.request_id)
            raise
        if chosen.tried is not None and not request.preview:
            self._metrics.trials.inc()
        if learned:
            self._trials.show([item.item_id for item in record.slate], chosen.tried)
        shard.watermark.see(request.timestamp_ms, int(received * 1000))
        self._shadowing.offer(request, shard, record, tried=chosen.tried, busy=self._gate.in_flight > 1)
        return record

    def _counts(self, request: Request) -> bool:
        """Whether a slate counts in what policies learn: the first of a user's hour do."""
        counts = self._quota.take(request.user_id, request.timestamp_ms, now_s=self._clock.monotonic())
        if not counts:
            self._metrics.slates_unlearned.inc()
        return counts

    async def _cheap(self, request: Request, shard: Shard, received: float) -> Recommendation:
        await self._outbox.sure_of(shard)
        depth = self._lanes.release.signals.depth
        record = self._popular.slate(request, shard, received=received, depth=depth)
        await self._outbox.publish(shard, record, None, received=received, spends_ms=self._spends_ms(request))
        return record

    def _spends_ms(self, request: Request) -> int | None:
        """When a slate that is published now spends of budgets: a preview does not."""
        return None if request.preview else int(self._clock.time() * 1000)

    def _took(self, requests: int, seconds: float) -> None:
        """Learn how long a batch has taken."""
        self._gate.took(requests, seconds)
        self._inputs.took(seconds)
        self._own_clicks.took(seconds)
