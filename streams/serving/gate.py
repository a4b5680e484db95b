"""Admission: how many requests, bytes and seconds of work may be in flight, whatever way they came."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Self

FADE = 0.1  # weight of the newest batch in the pace
FIRST = 20  # batches that a pace needs: the first ones meet cold caches, and say little
STANDING = 0.2  # share of the longest queue that may stand
PRODUCTIVE = 0.9  # of what full batches answer in a second, at least
STANDING_S = 0.5  # after so long a queue is no burst any more


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


class Throughput:
    """Estimates a batch's time by its size: least squares over the last ones, older ones fading.

    A batch has a price of its own beside that of each request, so the time of small batches says little about
    how many requests could be answered in large ones. Of batches that all have the same size a price for each
    request cannot be told: it counts as 0 until others come.

    Parameters
    ----------
    max_batch : most requests answered together
    """

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._batches = 0
        # Faded means: of sizes and seconds, and of the sizes' squares and their products with the seconds.
        self._n = self._s = self._nn = self._ns = 0.0
        self._weight = 0.0
        self._full_s = self._each_s = 0.0

    def took(self, requests: int, seconds: float) -> None:
        """Learn that a batch of requests has taken so long."""
        self._batches += 1
        self._weight += FADE * (1 - self._weight)
        self._n += FADE * (requests - self._n)
        self._s += FADE * (seconds - self._s)
        self._nn += FADE * (requests * requests - self._nn)
        self._ns += FADE * (requests * seconds - self._ns)
        if self._batches < FIRST:
            return
        n, s = self._n / self._weight, self._s / self._weight
        variance = max(0.0, self._nn / self._weight - n * n)
        covariance = self._ns / self._weight - n * s
        # Neither costs less than nothing: not a request, and not a batch.
        each = min(max(0.0, covariance / variance), s / n) if variance > 1e-9 * n * n else 0.0
        self._each_s, self._full_s = each, s + each * (self._max_batch - n)

    def seconds(self, requests: int) -> float:
        """Seconds in which so many requests are answered; 0 while that is not known."""
        if requests >= self._max_batch:
            return self._full_s * requests / self._max_batch
        return self._full_s - self._each_s * (self._max_batch - requests)

    @property
    def productive(self) -> float:
        """Size from which on batches answer `PRODUCTIVE` of the requests a second that full ones do.

        With `a` seconds for a batch and `b` more for each request, m / (a + b m) is that share of what it is
        for a full one.
        """
        a, spare = self.seconds(0), (1 - PRODUCTIVE) * self._max_batch * self._each_s
        return PRODUCTIVE * self._max_batch * a / (a + spare) if a else 1.0


class Gate:
    """Bounds what is in flight, by count, by bytes and by time; one request alone is always let in.

    What waits is let in in the order in which it came, and nothing passes it by.

    Parameters
    ----------
    max_requests, max_bytes
        Of all requests admitted and not yet answered.
    max_queue_s
        Seconds in which what is in flight can be answered, by how long the last batches took (`took`). A
        burst may be as long as that; a queue that stands, because more comes than is answered, only
        `STANDING` of it: it would make every request wait, and none more be answered. The idea is CoDel's
        (Nichols and Jacobson, "Controlling queue delay"); here the wait is known before it begins.
    max_batch
        Most requests answered together.
    now
        Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_bytes: int,
        max_queue_s: float = math.inf,
        max_batch: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        bounds = (("max_requests", max_requests, 1), ("max_bytes", max_bytes, 1))
        for name, value, least in (*bounds, ("max_queue_s", max_queue_s, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_queue_s = max_queue_s
        self._throughput = Throughput(max_batch)
        self._now = now
        self._short_s = self._stands_until_s = -math.inf
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

    def took(self, requests: int, seconds: float) -> None:
        """Learn that a batch of requests has taken so long, from when it could begin."""
        self._throughput.took(requests, seconds)
        self._let_in()

    def has_room(self, nbytes: int, *, coming: int = 0) -> bool:
        """Whether a request would be let in at once, were so many others in flight, or as many as are."""
        return not self._waiting and self._has_room(nbytes, max(coming, self.in_flight))

    def admit(self, nbytes: int) -> Ticket:
        """Let a request in at once.

        Raises
        ------
        Overloaded
            If there is no room, or the gate is closed.
        """
        if not self.has_room(nbytes):
            raise Overloaded(f"{self.in_flight} requests in flight")
        return self._enter(nbytes)

    async def wait(self, nbytes: int) -> Ticket:
        """Let a request in when there is room."""
        if not self._waiting and self._has_room(nbytes, self.in_flight):
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

    def _has_room(self, nbytes: int, in_flight: int) -> bool:
        if self._closed:
            return False
        if not in_flight:
            return True
        fits = in_flight < self._max_requests and self.nbytes + nbytes <= self._max_bytes
        return fits and self._in_time(in_flight + 1)

    def _in_time(self, requests: int) -> bool:
        """Whether so many requests are answered in time, which is shorter while a queue stands."""
        now, seconds = self._now(), self._throughput.seconds(requests)
        # While a batch runs, the next one waits: shorter than that, a queue would make batches too small.
        two = 2 * math.ceil(self._throughput.productive)
        if requests <= two or seconds <= STANDING * self._max_queue_s:
            self._short_s = now
            return seconds <= self._max_queue_s
        stands = now < self._stands_until_s or now > self._short_s + STANDING_S
        if stands or seconds > self._max_queue_s:
            self._stands_until_s = now + STANDING_S
            return False
        return True

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
        while self._waiting:
            size, future = self._waiting[0]
            if not future.done() and not self._has_room(size, self.in_flight):
                break
            self._waiting.popleft()
            if not future.done():
                future.set_result(self._enter(size))
