import asyncio
import time
from typing import Any

import pytest
from confluent_kafka import Consumer

from streams.bench import load_kafka
from streams.bench.load import librdkafka_options
from streams.bench.load_http import MAX_CONNECTIONS, Client, Connection, generate, parse_head
from streams.bench.work import Work
from streams.kafka.topics import topic_name
from streams.settings import Settings, load_settings


def test_a_load_has_as_many_requests_as_its_rate_and_time_say():
    work = {"kind": "kafka", "users": 1}
    assert Work(rate=50.0, seconds=2.0, **work).count == 100
    assert Work(rate=0.1, seconds=1.0, **work).count == 1


def test_credentials_reach_librdkafka_under_its_own_names():
    settings = load_settings(
        bootstrap_servers="a:1,b:2", security_protocol="SASL_SSL", sasl_username="u", sasl_password="p"
    )
    assert librdkafka_options(settings) == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "u",
        "sasl.password": "p",
    }


def test_a_load_over_kafka_reads_every_answer_and_does_not_look_in_vain(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Requests are due more often than librdkafka can wait: who looks for them all the time takes a core."""
    in_vain: list[float] = []

    class Watched(Consumer):
        def poll(self, timeout: float) -> Any:
            if (found := super().poll(timeout)) is None:
                in_vain.append(timeout)
            return found

    monkeypatch.setattr(load_kafka, "Consumer", Watched)
    topic = topic_name(kafka_settings, "feedback")
    work = Work(
        kind="hop", rate=1500.0, seconds=0.4, users=50, client=librdkafka_options(kafka_settings),
        to=topic, back=topic, partitions=kafka_settings.partitions, drain_s=60.0,
    )  # fmt: skip
    outcome = load_kafka.generate(work, time.monotonic)
    assert (outcome.sent, outcome.answered, outcome.unanswered) == (600, 600, 0)
    assert sum(in_vain) >= load_kafka.LOOK_S * (len(in_vain) - 1), "each look but the last waits its time"


def test_an_answer_that_comes_in_pieces_is_read_once_whole():
    answers: list[tuple[int, bytes]] = []
    connection = Connection(lambda _, status, body: answers.append((status, body)), lambda _: None)
    whole = b"HTTP/1.1 503 Busy\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"
    for byte in whole + whole[:10]:
        connection.data_received(bytes([byte]))
    assert answers == [(503, b"hello")]


def test_an_answer_without_a_length_is_refused():
    with pytest.raises(ValueError, match="must have a Content-Length, got b'HTTP/1.1 200 OK"):
        parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")


async def test_a_server_that_stalls_is_charged_for_everybody_who_waits():
    """One request in a hundred stalls the server for .3 s: an open loop sees many slow answers, not one."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            seen += 1
            if seen == 20:
                loop = asyncio.get_running_loop()
                until = loop.time() + 0.3
                while loop.time() < until:  # holds the loop as a long callback would
                    pass
            body = b'{"fallback":"no_release"}' if seen % 2 else b"{}"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    work = Work(kind="http", rate=100.0, seconds=1.0, users=10, host=host, port=port, drain_s=30.0)
    begin = asyncio.get_running_loop().time
    async with server:
        outcome = await asyncio.to_thread(generate, work, begin)
    assert (outcome.sent, outcome.answered, outcome.unanswered, outcome.refused) == (100, 100, 0, 0)
    assert outcome.fallbacks == 50
    from streams.bench.latency import Latencies

    latencies = Latencies(outcome.latencies)
    assert latencies.at(95.0) > 50.0, "about thirty requests were due during the stall"
    assert latencies.at(100.0) > 250.0


async def test_what_was_asked_over_a_connection_that_is_closed_is_unanswered_and_the_rest_is_asked_anew():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for left in (True, True, False):
            while (await reader.readline()).strip():
                pass
            if left:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    work = Work(kind="http", rate=200.0, seconds=0.3, users=10, host=host, port=port, drain_s=60.0)
    async with server:
        loop = asyncio.get_running_loop()
        outcome = await asyncio.to_thread(generate, work, loop.time)
    assert outcome.unanswered
    assert outcome.answered == 60 - outcome.unanswered >= outcome.unanswered
    assert outcome.seconds < 30.0, "nobody waits for an answer that cannot come"


async def test_a_connection_counts_once_while_it_is_opened_and_when_it_is_open():
    """Counted twice in between, it would keep another one from being opened."""
    held = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    client = Client(Work(kind="http", rate=3.0, seconds=1.0, users=1, host=host, port=port))
    async with server, asyncio.timeout(30.0):
        for _ in range(3):
            client.send("u", time.monotonic())
        while client.opening:
            assert client.connections == 3
            await asyncio.sleep(0)
        assert client.connections == 3
        held.set()


async def test_a_server_that_stands_still_has_a_bounded_number_of_connections():
    connected = 0
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await go_on.wait()
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2 * MAX_CONNECTIONS)
    host, port = server.sockets[0].getsockname()
    work = Work(kind="http", rate=5000.0, seconds=0.3, users=10, host=host, port=port, drain_s=60.0)
    async with server:
        loop = asyncio.get_running_loop()
        asking = asyncio.ensure_future(asyncio.to_thread(generate, work, loop.time))
        while connected < MAX_CONNECTIONS and not asking.done():
            await asyncio.sleep(0.01)
        go_on.set()
        outcome = await asking
    assert connected == MAX_CONNECTIONS
    assert (outcome.answered, outcome.unanswered) == (1500, 0)
