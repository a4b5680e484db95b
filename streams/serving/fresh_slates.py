"""Slates that know the last clicks of their users: those acknowledged before they were asked for."""

import asyncio
import time

from streams.events import Request
from streams.kafka.inputs import Inputs
from streams.metrics import Metrics
from streams.serving.own_clicks import OwnClicks
from streams.serving.records import Chosen
from streams.serving.request_batch import Job
from streams.serving.scoring import Scoring
from streams.state.shard import Shard


class FreshSlates:
    """Makes slates once the user's own clicks are folded.

    Where the broker must be asked for these, the slate is made while the answer is on its way, and once more
    if it turns out that the user has clicked: most have not in those few milliseconds.

    Parameters
    ----------
    scoring : makes slates of the state as it is
    own_clicks : wait for the clicks of a user
    inputs : are told that somebody waits for what is read
    """

    def __init__(self, scoring: Scoring, *, own_clicks: OwnClicks, inputs: Inputs, metrics: Metrics) -> None:
        self._scoring = scoring
        self._own_clicks = own_clicks
        self._inputs = inputs
        self._metrics = metrics

    async def slate(
        self, request: Request, shard: Shard, *, waits: bool = True, clicks_end: int | None = None
    ) -> Chosen:
        """Return the slate of a request.

        Parameters
        ----------
        waits : for the user's clicks; if not, the state is taken as it is
        clicks_end : offset before which these lie; None if the broker is to be asked
        """
        if not waits:
            return await self._made(request, shard)
        if clicks_end is not None:
            self._inputs.expect()
            began = time.perf_counter()
            await self._own_clicks.wait(shard, request.user_id, end=clicks_end)
            self._waited(began)
            return await self._made(request, shard)
        self._inputs.want()
        waiting = asyncio.ensure_future(self._own_clicks.wait(shard, request.user_id))
        try:
            chosen = await self._made(request, shard)
            began = time.perf_counter()
            await waiting
            self._waited(began)
        finally:
            waiting.cancel()
        if chosen.events == shard.profiles.events_of(request.user_id):
            return chosen
        return await self._made(request, shard)

    async def _made(self, request: Request, shard: Shard) -> Chosen:
        return await self._scoring.slate(Job(request, shard, time.perf_counter()))

    def _waited(self, began: float) -> None:
        self._metrics.observe_stage("wait", time.perf_counter() - began)
