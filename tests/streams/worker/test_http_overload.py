"""A worker that has no room for a request: refused at the door, over a connection that goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import yarl

from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory
from tests.streams.worker.test_http import http

ONE: dict[str, Any] = {"partitions": 1, "http_port": 0}
READY = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def asked(headers: str = "", user: str = "u") -> bytes:
    return f"GET /v1/recommendations/{user} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", yarl.URL(url).port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["Content-Length"]))


def parsed(worker: MemoryWorker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Methods of the requests that go the whole way to the gate."""
    found: list[str] = []
    whole_way: Callable[..., Any] = worker.parts.server.answer

    async def noted(request: Any, *arguments: Any, **others: Any) -> Any:
        found.append(request.user_id)
        return await whole_way(request, *arguments, **others)

    monkeypatch.setattr(worker.parts.server, "answer", noted)
    return found


async def test_what_is_refused_is_never_parsed_and_its_connection_goes_on(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory(**ONE)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (_, url), connected(url) as (reader, writer):
            came = parsed(worker, monkeypatch)
            writer.write(asked())
            assert (await answer(reader))[0] == 200
            worker.parts.server.close()
            body = b'{"k": 1}'
            post = asked(f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n") + body
            for data in (asked(), asked(), post.replace(b"GET", b"POST")):
                writer.write(data)
                status, headers, _ = await answer(reader)
                assert (status, headers["Retry-After"]) == (503, "1")
            assert came == ["u"]
            writer.write(READY)
            assert (await answer(reader))[0] == 200
            counted = worker.parts.metrics.render()[0].decode()
    assert 'events_total{outcome="refused",topic="requests"} 3.0' in counted
    assert 'http_requests_total{route="recommendations",status="503"} 3.0' in counted


@pytest.mark.parametrize(
    "pieces",
    [
        (asked()[:40], asked()[40:]),
        (asked() + asked(),),
        (READY + asked()[:40], asked()[40:] + asked()),
        (asked("Origin: https://shop.example\r\n"),),
        (asked(user="%75"),),
        (asked("Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",),
    ],
)
async def test_whatever_is_unusual_is_refused_by_the_gate_with_as_many_answers(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...]
) -> None:
    memory = make_memory(**ONE, http_cors_origins=("https://shop.example",))
    async with memory.worker() as worker, http(worker) as (_, url), connected(url) as (reader, writer):
        came = parsed(worker, monkeypatch)
        worker.parts.server.close()
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)  # so that they come apart; together, they are no less to be answered
        everything = b"".join(pieces)
        asking = everything.count(b"/v1/")
        answers = [await answer(reader) for _ in range(everything.count(b"HTTP/1.1"))]
        refused = [headers for status, headers, _ in answers if status == 503]
        assert len(came) == len(refused) == asking
        assert all(headers["Retry-After"] == "1" for headers in refused)
        if b"Origin" in everything:
            assert refused[0]["Access-Control-Allow-Origin"] == "https://shop.example"


async def test_a_request_that_another_worker_answers_is_sent_there_all_the_same(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory(**ONE)
    async with (
        memory.worker() as worker,
        http(worker, owner_url=lambda _: "http://127.0.0.1:1") as (_, url),
        connected(url) as (reader, writer),
    ):
        worker.parts.server.close()
        monkeypatch.setattr(worker.parts.partitions, "owns", lambda _: False)
        writer.write(asked())
        status, headers, _ = await answer(reader)
        assert (status, headers["Location"]) == (307, "http://127.0.0.1:1/v1/recommendations/u")


async def test_whoever_is_let_in_leaves_again(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE, max_in_flight=1)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            for _ in range(3):
                async with client.get(url) as found:
                    assert found.status == 200
            for _ in range(3):  # who gives up
                async with connected(url) as (_, writer):
                    writer.write(asked())
            statuses: set[int] = set()
            async with asyncio.timeout(60):
                while 200 not in statuses:
                    async with client.get(url) as found:
                        statuses.add(found.status)
            assert statuses <= {200, 503}


async def test_of_many_who_come_at_once_as_many_are_let_in_as_there_is_room_for(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory(**ONE, max_in_flight=3)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (_, url), aiohttp.ClientSession() as client:
            await asyncio.gather(
                *(client.get(url.replace("v1/recommendations/u", "healthz")) for _ in "x" * 8)
            )
            came = parsed(worker, monkeypatch)
            answers = await asyncio.gather(*(client.get(url) for _ in range(40)))
            statuses = [found.status for found in answers]
    assert set(statuses) == {200, 503}
    assert len(came) == statuses.count(200)  # none of those refused was parsed first
