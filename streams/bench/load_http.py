"""Requests over HTTP at a constant rate: keep-alive connections, as many as the answers need.

A small client of its own, because one that costs as much as the server would measure itself.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from streams.bench.latency import Latencies, due
from streams.bench.work import Outcome, Work

MAX_CONNECTIONS = 512
FALLBACK = b'"fallback":"'


class Connection(asyncio.Protocol):
    """One request at a time.

    Parameters
    ----------
    finished : called with the connection, the status and the body of each answer
    lost : called with the connection when it has been closed
    """

    def __init__(
        self,
        finished: Callable[["Connection", int, bytes], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        self._finished = finished
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, path: str, host: str, moment: float) -> None:
        """Send a request that was due at `moment`."""
        assert self._transport is not None
        self.due = moment
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Collect an answer; both its head and its length must have come."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        status, length = parse_head(bytes(self._buffer[:head]))
        end = head + 4 + length
        if len(self._buffer) < end:
            return
        body = bytes(self._buffer[head + 4 : end])
        del self._buffer[:end]
        self._finished(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that nothing more comes."""
        self._lost(self)

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None:
            self._transport.close()


def parse_head(head: bytes) -> tuple[int, int]:
    r"""Return the status and the length of the body that an answer's first lines announce.

    >>> parse_head(b"HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 12")
    (200, 12)
    """
    first, *lines = head.split(b"\r\n")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(first.split()[1]), int(value)
    raise ValueError(f"an answer must have a Content-Length, got {head[:200]!r}")


class Client:
    """Asks, each time on an idle connection or on a new one."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self.opening: set[asyncio.Task[Any] | None] = set()
        self._waiting: set[Connection] = set()
        self._queued: deque[tuple[str, float]] = deque()
        self.answers, self.late = Latencies(), Latencies()
        self.answered = self.refused = self.fallbacks = self.sent = self.cut_off = 0
        self.last = 0.0
        self.done = asyncio.Event()

    @property
    def connections(self) -> int:
        """Connections that are open or being opened."""
        return len(self._all) + len(self.opening)

    async def connect(self) -> None:
        """Open a connection, and use it for what is queued."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            lambda: Connection(self._finished, self._lost), self._work.host, self._work.port
        )
        self.opening.discard(asyncio.current_task())  # it is open now, and counts once
        self._all.add(made)
        self._take(made)

    def _take(self, connection: Connection) -> None:
        if self._queued:
            path, moment = self._queued.popleft()
            self._waiting.add(connection)
            connection.ask(path, self._work.host, moment)
        else:
            self._idle.append(connection)

    def _finished(self, connection: Connection, status: int, body: bytes) -> None:
        self._waiting.discard(connection)
        now = time.monotonic()
        if status == 200:
            self.answers.add(now - connection.due)
            self.answered += 1
            self.fallbacks += FALLBACK in body
        else:
            self.refused += 1
        self.last = now
        self._take(connection)
        self._look_if_done()

    def _lost(self, connection: Connection) -> None:
        """Do without a connection that the worker has closed; what was asked over it has no answer."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if connection in self._waiting:
            self._waiting.remove(connection)
            self.cut_off += 1
            self.answers.add(time.monotonic() - connection.due)
        if self._queued:
            self._connect_soon()
        self._look_if_done()

    def _connect_soon(self) -> None:
        if self.connections < MAX_CONNECTIONS:
            opening = asyncio.ensure_future(self.connect())
            self.opening.add(opening)
            opening.add_done_callback(self.opening.discard)

    def _look_if_done(self) -> None:
        if self.sent == self._work.count and not self._waiting and not self._queued:
            self.done.set()

    def send(self, user: str, moment: float) -> None:
        """Ask for a user's slate, as was due at a moment."""
        self.sent += 1
        self.late.add(time.monotonic() - moment)
        self._queued.append((f"/v1/recommendations/{user}?k={self._work.k}", moment))
        if self._idle:
            self._take(self._idle.pop())
        else:
            self._connect_soon()

    async def run(self, begin: Callable[[], float]) -> Outcome:
        """Send what is due, and wait for the answers."""
        work, rng = self._work, random.Random(self._work.seed)
        for _ in range(8):
            await self.connect()
        start = begin()
        for number in range(work.count):
            moment = start + due(number, work.rate)
            if (wait := moment - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self.send(f"u{rng.randrange(work.users)}", moment)
        try:
            async with asyncio.timeout(work.drain_s):
                await self.done.wait()
        except TimeoutError:
            pass
        now = time.monotonic()
        left = [connection.due for connection in self._waiting] + [moment for _, moment in self._queued]
        for moment in left:
            self.answers.add(now - moment)
        for connection in tuple(self._all):
            connection.close()
        return Outcome(
            sent=self.sent,
            answered=self.answered,
            unanswered=len(left) + self.cut_off,
            refused=self.refused,
            fallbacks=self.fallbacks,
            seconds=self.last - start,
            late_ms=self.late.at(99.0),
            latencies=self.answers.encoded(),
        )


def generate(work: Work, begin: Callable[[], float]) -> Outcome:
    """Send what is due, each on an idle connection or a new one."""

    async def run() -> Outcome:
        return await Client(work).run(begin)

    return asyncio.run(run())
