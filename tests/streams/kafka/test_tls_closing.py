import asyncio
import socket
import ssl
import threading

import pytest
import trustme
from aiokafka.conn import AIOKafkaConnection

from streams.kafka.tls_closing import close_at_once


async def test_a_connection_is_closed_though_the_other_side_says_no_goodbye() -> None:
    authority = trustme.CA()
    wanted, given = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(wanted)
    authority.issue_cert("127.0.0.1").configure_cert(given)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with given.wrap_socket(plain, server_side=True):
                done.wait(60.0)  # reads nothing, and so never sees that the other has gone

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            close_at_once()
            connection = AIOKafkaConnection(
                *listening.getsockname(), security_protocol="SSL", ssl_context=wanted, request_timeout_ms=300
            )
            with pytest.raises(TimeoutError):  # nobody says which versions it has, so it is closed
                await connection.connect()
            await asyncio.wait_for(connection.close(), 20.0)  # the farewell would be waited for 30 s
        finally:
            done.set()
            thread.join()
