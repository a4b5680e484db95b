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


async def test_a_connection_that_the_broker_has_closed_already_is_closed_all_the_same() -> None:
    authority = trustme.CA()
    wanted, given = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(wanted)
    authority.issue_cert("127.0.0.1").configure_cert(given)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=given)
    async with server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=wanted)
        while not writer.transport.is_closing():
            await asyncio.sleep(0.01)
        close_at_once()
        connection = AIOKafkaConnection("127.0.0.1", 1, security_protocol="SSL", ssl_context=wanted)
        connection._reader, connection._writer = reader, writer
        connection._read_task = asyncio.create_task(asyncio.sleep(0))
        connection.close()
        assert not connection.connected()
