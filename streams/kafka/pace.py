"""Paces a consumer's fetches: at once while somebody waits for what is to be read, else a little later.

A fetch costs the worker and its broker about the same whether it finds one record or a thousand, and under a
steady stream of clicks there are always some. So it waits until many have come, unless a request is in: that
waits for clicks. The wait is before the fetch, not after: what it brings is of the moment it was wanted in.
"""

import asyncio
import contextlib
import math
import time
from typing import Any

REST_S = 0.025
EXPECT_S = 0.5  # requests seldom come alone
BATCHES_APART = 1.5  # two fetches while somebody waits: to fetch takes the processor, too
LONGEST_S = 0.02  # between two fetches while somebody waits, however long a batch takes
FADE = 0.2  # weight of the newest batch
MANY = 2_000  # records of one fetch after which more are surely there already


class Pace:
    """Says when to fetch. `turn` and `found` belong to the consumer's thread, all else to the event loop.

    Requests that are read while a batch of them is being answered wait for it. So while somebody waits,
    fetches lie a little farther apart than batches take: under load they bring about one batch each.
    """

    def __init__(self) -> None:
        self._sent: dict[Any, float] = {}  # when the last fetch was, by broker
        self._wanted_s = self._expected_until = -math.inf
        self._batch_s = 0.0
        self._found = 0
        self._resting: dict[asyncio.Event, bool] = {}  # and whether to wake it is of use
        self._loop: asyncio.AbstractEventLoop | None = None

    def took(self, seconds: float) -> None:
        """Learn how long a batch of requests has taken to be answered."""
        self._batch_s += FADE * (seconds - self._batch_s)

    def want(self) -> None:
        """Somebody waits for a fetch that is sent from now on."""
        self._wanted_s = time.monotonic()
        self._wake()

    def expect(self) -> None:
        """Requests are read here: others are to come, for a while."""
        self._expected_until = time.monotonic() + EXPECT_S
        self._wake()

    def _wake(self) -> None:
        for resting, long in tuple(self._resting.items()):
            if not long:  # another thread is not woken for each of many requests
                continue
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # it is being closed
                self._loop.call_soon_threadsafe(resting.set)

    def found(self, records: int) -> None:
        """Learn how many records the last fetch has brought."""
        self._found = records

    async def turn(self, broker: Any) -> None:
        """Return when it is time to fetch from a broker, which is then done."""
        if self._left(broker)[0] > 0:
            await self._rest(broker)
        self._sent[broker] = time.monotonic()

    async def _rest(self, broker: Any) -> None:
        self._loop, woken = asyncio.get_running_loop(), asyncio.Event()
        try:
            while True:
                self._resting[woken] = True  # before it is looked who waits: who comes later, wakes
                left, waited_for = self._left(broker)
                if left <= 0:
                    return
                self._resting[woken] = not waited_for
                woken.clear()
                timer = self._loop.call_later(left, woken.set)
                await woken.wait()
                timer.cancel()
        finally:
            del self._resting[woken]

    def _left(self, broker: Any) -> tuple[float, bool]:
        """Seconds until the next fetch from a broker, and whether somebody waits for it."""
        sent, now = self._sent.get(broker, -math.inf), time.monotonic()
        waited_for = sent < self._wanted_s or now < self._expected_until
        if self._found >= MANY:
            return 0.0, waited_for
        apart_s = min(BATCHES_APART * self._batch_s, LONGEST_S) if waited_for else REST_S
        return sent + apart_s - now, waited_for
