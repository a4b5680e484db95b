"""What ends the tasks in the background of aiokafka's clients, and what becomes of who waits for them."""

import asyncio
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError

from streams.kafka import client_patches
from streams.kafka.ends import Answer
from streams.kafka.quick_requests import QuickRequest

TURNS = 100  # of the loop, more than it takes to hear of a reset
ASKED = QuickRequest(2, 2, b"", Answer)


async def connected(address: tuple[str, int], **options: Any) -> AIOKafkaConnection:
    """A connection as if it had been told which versions the broker has."""
    connection = AIOKafkaConnection(*address, **options)
    connection._reader, connection._writer = await asyncio.open_connection(*address)
    connection._closed_fut = asyncio.get_running_loop().create_future()
    connection._read_task = asyncio.create_task(asyncio.Event().wait())
    return connection


async def refused() -> tuple[BaseException, bool]:
    """What is said of a request over a connection that has just been reset, and whether that is open."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = await connected(listening.getsockname())
        there, _ = listening.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        try:
            for _ in range(TURNS):
                connection.send(ASKED).close()
                await asyncio.sleep(0)
        except (KafkaConnectionError, RuntimeError) as error:
            return error, connection.connected()
        finally:
            connection.close()
    raise AssertionError("it was written all the same")


def test_a_connection_that_has_been_reset_is_no_error_that_aiokafka_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error, is_open = uvloop.run(refused())
    assert isinstance(error, KafkaConnectionError)
    assert not is_open
    monkeypatch.setattr(AIOKafkaConnection, "send", client_patches._write)
    error, is_open = uvloop.run(refused())
    assert isinstance(error, RuntimeError)  # as uvloop and aiokafka have it
    assert is_open


async def test_metadata_is_asked_for_again_whatever_error_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [ValueError("what no answer says"), True]

    async def answer(*_: object) -> bool:
        if isinstance(now := answers.pop(0), Exception):
            raise now
        return bool(now)

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", answer)
    client = AIOKafkaClient(retry_backoff_ms=1)
    client._sync_task = asyncio.create_task(client._md_synchronizer())
    async with asyncio.timeout(60):
        assert await client.force_metadata_update() is False
        assert await client.force_metadata_update() is True
        await client.close()


async def test_a_request_that_times_out_after_its_connection_is_forgotten_has_timed_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # never says a word
        connection = await connected(listening.getsockname(), request_timeout_ms=10)

        async def failed(send: Any) -> BaseException | None:
            client = AIOKafkaClient()
            client._conns[1, ConnectionGroup.DEFAULT] = connection
            asking = asyncio.ensure_future(send(client, 1, ASKED))
            await asyncio.sleep(0)
            client._conns.clear()  # as one does that has timed out beside it, and asks again
            await asyncio.wait({asking}, timeout=60)
            return asking.exception()

        assert isinstance(await failed(client_patches._send), KeyError)  # as aiokafka has it
        assert isinstance(await failed(AIOKafkaClient.send), RequestTimedOutError)
        connection.close()


async def test_who_reads_where_nothing_is_fetched_any_more_is_told() -> None:
    subscription = SubscriptionState()
    subscription.assign_from_user([TopicPartition("t", 0)])
    fetcher = Fetcher(AIOKafkaClient(), subscription)
    assert await fetcher.fetched_records((), 0.001) == {}
    fetcher._fetch_task.cancel()
    await asyncio.wait({fetcher._fetch_task})
    with pytest.raises(KafkaConnectionError, match="fetches nothing any more"):
        await fetcher.fetched_records((), 0.001)
    await fetcher.close()


async def test_a_coordinator_is_asked_for_again_where_no_broker_is_known() -> None:
    with pytest.raises(NodeNotReadyError, match="no broker is known"):
        await AIOKafkaClient().coordinator_lookup(0, "group")


async def test_metadata_of_a_topic_that_is_missing_is_asked_for_again_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, cluster, there = SimpleNamespace(_retry_backoff=0.05), SimpleNamespace(), {"a": {0}}
    cluster.partitions_for_topic = there.get

    async def updated(*_: Any) -> bool:
        return True

    monkeypatch.setattr(client_patches, "_update", updated)
    loop = asyncio.get_running_loop()

    async def seconds(*topics: str) -> float:
        began = loop.time()
        assert await client_patches._update_now_and_then(client, cluster, topics)
        return loop.time() - began

    assert await seconds("a") < 0.05
    assert await seconds("a", "b") < 0.05  # the first try
    assert await seconds("a", "b") >= 0.05
    there["b"] = {0}
    assert await seconds("a", "b") >= 0.05  # nobody knows before
    assert await seconds("a", "b") < 0.05
