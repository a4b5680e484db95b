import asyncio

import pytest

from streams.errors import SlatestreamError
from streams.metrics import Metrics
from streams.session import catching_up
from streams.session.catching_up import caught_up
from streams.worker.process import MetricsReading


class Worker:
    """Takes ten more clicks at each look."""

    def __init__(self, *, ready=True):
        self._metrics = Metrics(process=False)
        self._ready = ready

    def metrics(self):
        self._metrics.count_events("clicks", "accepted", 9)
        self._metrics.count_dead_letters("clicks", "invalid", 1)
        self._metrics.count_events("recommendations", "published", 1000)
        return MetricsReading(self._metrics.render()[0].decode())

    def is_ready(self):
        return self._ready


async def test_a_worker_has_caught_up_when_it_has_taken_every_record():
    worker = Worker()
    async with asyncio.timeout(120):
        await caught_up(worker, {"clicks": 25}, print)
    assert worker.metrics().total("events_total", topic="clicks", outcome="accepted") == 4 * 9


async def test_a_worker_that_does_not_catch_up_is_given_up(monkeypatch):
    monkeypatch.setattr(catching_up, "CATCH_UP_TIMEOUT_S", 0.2)
    with pytest.raises(SlatestreamError, match=r"not caught up in 0 s: clicks \d+ of 1,000"):
        await caught_up(Worker(), {"clicks": 1000}, print)
    with pytest.raises(SlatestreamError, match=r"clicks \d+ of 5"):
        await caught_up(Worker(ready=False), {"clicks": 5}, print)
