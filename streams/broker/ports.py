"""Ports that are kept for a process that is to listen on them."""

import socket

HOST = "127.0.0.1"


def keep_port(wanted: int = 0) -> socket.socket:
    """Keep a port of 127.0.0.1, a free one without; nobody else is given it until the socket is closed.

    A port that is merely found free may be somebody else's by the time a process has started and binds it.
    This socket is bound and does not listen: who connects is refused, and a server that sets SO_REUSEADDR, as
    asyncio, the JVM and Go do, can listen on the port all the same.

    Raises
    ------
    OSError
        If somebody has the port that is wanted.
    """
    kept = socket.socket()
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind((HOST, wanted))
    except OSError:
        kept.close()
        raise
    return kept


def port_of(kept: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    return int(kept.getsockname()[1])
