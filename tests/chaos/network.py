"""A wire between a worker and its broker that can be cut, wholly or in one direction."""

import asyncio
import contextlib
import threading
from typing import Self

from streams.broker.embedded import HOST


class Wire:
    """Forwards the connections to its port to another, in a thread of its own.

    What is held while it is cut arrives late, as on a network that lost it and sent it again.

    Parameters
    ----------
    target : port that is forwarded to
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._asking, self._answering = asyncio.Event(), asyncio.Event()
        self._asking.set()
        self._answering.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._held = 0
        self.port = 0

    def __enter__(self) -> Self:
        """Begin to forward."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut all connections for good."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, *, answers_only: bool = False) -> None:
        """Hold everything back, or what the broker answers alone."""
        self._do(lambda: self._cut(answers_only))

    def mend(self, *, reset: bool) -> None:
        """Forward again, what was held first; or `reset` all connections, and what was held is lost."""
        self._do(lambda: self._mend(reset))

    @property
    def holds_answers(self) -> bool:
        """Whether the broker has answered something since the cut."""
        return self._held > 0

    def _do(self, deed: object) -> None:
        async def run() -> None:
            deed()  # type: ignore[operator]

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _cut(self, answers_only: bool) -> None:
        self._held = 0
        self._answering.clear()
        if not answers_only:
            self._asking.clear()

    def _mend(self, reset: bool) -> None:
        if reset:
            for end in list(self._ends):
                end.transport.abort()
            self._ends.clear()
        self._asking.set()
        self._answering.set()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._mend(reset=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
        except OSError:  # no broker
            writer.transport.abort()
            self._ends.discard(writer)
            return
        self._ends.add(back)
        pumps = [
            asyncio.ensure_future(self._pump(reader, back, self._asking)),
            asyncio.ensure_future(self._pump(there, writer, self._answering)),
        ]
        try:  # what one side closes is closed for the other
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, back):
                end.transport.abort()
                self._ends.discard(end)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, open_: asyncio.Event
    ) -> None:
        while data := await self._read(source):
            if not open_.is_set():
                self._held += open_ is self._answering
                await open_.wait()
            if sink.transport.is_closing():
                return
            sink.write(data)
            with contextlib.suppress(OSError):  # the next look sees that it is closing
                await sink.drain()

    @staticmethod
    async def _read(source: asyncio.StreamReader) -> bytes:
        try:
            return await source.read(65_536)
        except OSError:
            return b""
