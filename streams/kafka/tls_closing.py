"""A TLS connection is closed without waiting for the broker's farewell, which may not come.

aiokafka closes a connection and waits for its end. Over TLS that is when the broker has said goodbye, too, or
after 30 s of uvloop's: a worker that starts or restores, and closes a few connections, stood still as often.
What was asked on the connection has been answered by then, or is not wanted any more.
"""

from collections.abc import Awaitable
from typing import Any

from aiokafka.conn import AIOKafkaConnection

_close = AIOKafkaConnection.close


def _close_at_once(self: Any, reason: Any = None, exc: BaseException | None = None) -> Awaitable[None]:
    writer = self._writer
    # Before: a transport that the broker has closed already can be asked nothing once it is closed again.
    is_tls = writer is not None and writer.get_extra_info("sslcontext") is not None
    closed: Awaitable[None] = _close(self, reason=reason, exc=exc)
    if is_tls:
        writer.transport.abort()
    return closed


def close_at_once() -> None:
    """Let all connections of this process be closed so."""
    AIOKafkaConnection.close = _close_at_once
