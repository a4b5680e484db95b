"""Connections of a worker's HTTP server: how many there are, and how a request is refused that is none."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from streams.api.door import Door, head_of, user_asked_for
from streams.api.problems import Problem

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 8190  # of a header, and of a URL: what aiohttp takes
MAX_HEADERS = 128  # the same
LINGER_S = 0.25
Refused = Callable[[int], None]


class Connection(web.RequestHandler):
    """One connection; what cannot be read as HTTP is refused with a problem, too, and counted.

    Parameters
    ----------
    door : what requests for slates have to pass before they are parsed; None where there is none
    """

    __slots__ = ("_between", "_door", "_inside", "_refused")

    def __init__(self, server: "Connections", *, refused: Refused, door: Door | None, **options: Any) -> None:
        super().__init__(server, **options)
        self._refused = refused
        self._door = door
        self._between = True  # all that has come was whole requests
        self._inside = False

    def data_received(self, data: bytes) -> None:
        """Take in what has come, unless it is refused at the door."""
        if self._door is not None and self._between and data:
            head = head_of(data)
            if head is None:
                self._between = False
            elif self._is_free and (user_id := user_asked_for(data, head)) is not None:
                refusal = self._door.enter(user_id)
                if refusal is not None:
                    assert self.transport is not None
                    self.transport.write(refusal)
                    self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                    return
                self._inside = True
        super().data_received(data)

    @property
    def _is_free(self) -> bool:
        """Whether nothing else is being asked or answered over this connection."""
        waits = self._waiter is not None or not self._request_count
        closes = self._close or self._force_close
        return waits and not (self._messages or self._inside or closes or self._paused)

    def _leave(self) -> None:
        if self._inside and self._door is not None:
            self._inside = False
            self._door.leave()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer."""
        self._leave()
        return await super().finish_response(request, resp, start_time)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget a connection that is closed."""
        self._leave()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of its headers, and is not being closed."""
        return self._waiter is not None and not self._force_close

    def log_exception(self, *values: Any, exc_info: Any = None, **options: Any) -> None:
        """Log an error that is no fault of who has sent a body."""
        if not isinstance(exc_info, web.RequestPayloadError):
            super().log_exception(*values, exc_info=exc_info, **options)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return what is answered when a request cannot be read, or its handler has failed; then close."""
        if status >= 500:
            log.error("%s %.100s has failed", request.method, request.path, exc_info=exc)
            problem = Problem(status, "the worker has failed at this request; its log says how")
        else:
            problem = _refusal(exc)
            self._refused(problem.status)
            # What was sent is not logged: there may be a token in it.
            log.debug("what %s sent cannot be read: %s", request.remote, type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer has been sent already")
        response = problem.response()
        response.force_close()
        return response


def _refusal(error: BaseException | None) -> Problem:
    if isinstance(error, LineTooLong):
        # The parser holds the first line in a bytearray.
        status, what = (414, "the URL") if isinstance(error.args[0], bytearray) else (431, "a header")
        return Problem(status, f"{what} must have at most {MAX_LINE_BYTES} bytes")
    said = str(getattr(error, "message", "")).partition("\n")[0].strip(" :")  # what follows was sent
    if said.startswith("Too many headers"):
        return Problem(431, f"there must be at most {MAX_HEADERS} headers")
    return Problem(400, f"this cannot be read as HTTP/1.1{': ' if said else ''}{said}")


class Connections(web.Server):
    """Makes the connections of an application, and keeps them to a number.

    Parameters
    ----------
    refused : told the status of what was refused before any route was found
    door : what requests for slates have to pass before they are parsed; None where there is none
    most : connections at a time; beyond, the oldest idle one makes room, or the new one is closed
    """

    def __init__(
        self, made: web.Server, *, refused: Refused, door: Door | None, most: int, **options: Any
    ) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory)
        self._options = {"refused": refused, "door": door, **options}
        self._most = most

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._options)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in, and make room for it."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._most:
            idle = (one for one in self._connections if isinstance(one, Connection) and one.is_idle)
            next(idle, handler).force_close()


class Runner(web.AppRunner):
    """Runs an application behind `Connections`.

    Parameters
    ----------
    idle_s : seconds after which an idle connection is closed
    """

    __slots__ = ("_door", "_idle_s", "_most", "_refused")

    def __init__(
        self,
        app: web.Application,
        *,
        refused: Refused,
        door: Door | None,
        most: int,
        idle_s: float,
        **options: Any,
    ) -> None:
        super().__init__(app, **options)
        self._refused = refused
        self._door = door
        self._most = most
        self._idle_s = idle_s

    async def cleanup(self) -> None:
        """Listen no more, answer who is connected, and close.

        A connection that was taken a moment ago has its request still on the way; it must not be closed as
        an idle one.
        """
        if self.sites:
            for site in self.sites:
                await site.stop()
            await asyncio.sleep(LINGER_S)
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        return Connections(
            await super()._make_server(),
            refused=self._refused,
            door=self._door,
            most=self._most,
            access_log=None,
            keepalive_timeout=self._idle_s,
        )
