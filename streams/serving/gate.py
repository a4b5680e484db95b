"""Admission: how many requests, bytes and seconds of work may be in flight, whatever way they came."""

import asyncio
import math
from collections import deque
from typing import Self

FADE = 0.1  # weight of the newest batch in the pace
FIRST = 20  # batches that a pace needs: the first ones meet cold caches, and say little


class Overloaded(Exception):
    """There is no room for a request, or the worker is about to stop."""


class Ticket:
    """The room that an admitted request takes up, until the end of a `with`."""

    __slots__ = ("_gate", "_nbytes")

    def __init__(self, gate: "Gate", nbytes: int) -> None:
        self._gate = gate
        self._nbytes = nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gate._leave(self._nbytes)


class Gate:
    """Bounds what is in flight, by count, by bytes and by time; one request alone is always let in.

    What waits is let in in the order in which it came, and nothing passes it by.

    Parameters
    ----------
    max_requests, max_bytes
        Of all requests admitted and not yet answered.
    max_queue_s
        Seconds in which what is in flight can be answered, by the pace of the last batches (`took`).
    """

    def __init__(self, *, max_requests: int, max_bytes: int, max_queue_s: float = math.inf) -> None:
        bounds = (("max_requests", max_requests, 1), ("max_bytes", max_bytes, 1))
        for name, value, least in (*bounds, ("max_queue_s", max_queue_s, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_queue_s = max_queue_s
        self._batches = 0
        self._requests = self._seconds = 0.0  # of the last batches, those long ago fading
        self.in_flight = 0
        self.nbytes = 0
        self._closed = False
        self._waiting: deque[tuple[int, asyncio.Future[Ticket]]] = deque()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self._waiting)

    @property
    def pace_s(self) -> float:
        """Seconds that a request has taken of late, in a batch with others; 0 while that is not known."""
        return self._seconds / self._requests if self._batches >= FIRST else 0.0

    def took(self, requests: int, seconds: float) -> None:
        """Learn that a batch of requests has taken so long, from when it could begin."""
        self._batches += 1
        self._requests += FADE * (requests - self._requests)
        self._seconds += FADE * (seconds - self._seconds)
        self._let_in()

    def admit(self, nbytes: int) -> Ticket:
        """Let a request in at once.

        Raises
        ------
        Overloaded
            If there is no room, or the gate is closed.
        """
        if self._waiting or not self._has_room(nbytes):
            raise Overloaded(f"{self.in_flight} requests in flight")
        return self._enter(nbytes)

    async def wait(self, nbytes: int) -> Ticket:
        """Let a request in when there is room."""
        if not self._waiting and self._has_room(nbytes):
            return self._enter(nbytes)
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # let in and cancelled at the same moment
                self._leave(nbytes)
            raise

    def close(self) -> None:
        """Let nothing in any more, so that `drained` comes true; what waits goes on waiting."""
        self._closed = True

    async def drained(self) -> None:
        """Wait until nothing is in flight."""
        await self._empty.wait()

    def _has_room(self, nbytes: int) -> bool:
        if self._closed:
            return False
        fits = self.in_flight < self._max_requests and self.nbytes + nbytes <= self._max_bytes
        in_time = (self.in_flight + 1) * self.pace_s <= self._max_queue_s
        return (fits and in_time) or not self.in_flight

    def _enter(self, nbytes: int) -> Ticket:
        self.in_flight += 1
        self.nbytes += nbytes
        self._empty.clear()
        return Ticket(self, nbytes)

    def _leave(self, nbytes: int) -> None:
        self.in_flight -= 1
        self.nbytes -= nbytes
        self._let_in()
        if not self.in_flight:
            self._empty.set()

    def _let_in(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._has_room(self._waiting[0][0])):
            size, future = self._waiting.popleft()
            if not future.done():
                future.set_result(self._enter(size))
