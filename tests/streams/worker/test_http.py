"""The HTTP server on the parts of a worker whose log is in memory."""

import asyncio
import io
import json
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest
import yarl

from streams.kafka.partitioner import partition_of
from streams.testing.worker import MemoryWorker
from streams.worker.http import Listening, start_http
from streams.worker.http_service import Service
from tests.streams.conftest import MakeMemory


@asynccontextmanager
async def listening(worker: MemoryWorker, **others: Any) -> AsyncIterator[Listening]:
    """HTTP of a worker that is ready."""
    parts = worker.parts
    while not parts.partitions.is_ready():
        await asyncio.sleep(0)
    found = await start_http(
        Service(
            **{
                "settings": parts.settings,
                "partitions": parts.partitions,
                "server": parts.server,
                "explainer": lambda user_id: parts.lanes.of(user_id).explainer,
                "inspector": parts.inspector,
                "lanes": parts.lanes,
                "lists": parts.lists,
                "ranking": parts.ranking,
                "metrics": parts.metrics,
                "title": parts.shared.title,
                "owner_url": parts.shared_topics.owner_url,
                "digest": dict,
                "state": worker.life.state,
                "quarantines": parts.quarantines,
                "suspects": parts.suspects,
                "render": partial(asyncio.to_thread, parts.metrics.render),
                **others,
            }
        )
    )
    try:
        yield found
    finally:
        await found.stop()


@asynccontextmanager
async def http(worker: MemoryWorker, **others: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client, and the URL of the slates of a user."""
    async with listening(worker, **others) as found, aiohttp.ClientSession() as client:
        yield client, f"{found.url}/v1/recommendations/u"


async def test_what_has_no_room_is_told_when_to_come_again(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, max_in_flight=1, http_port=0)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            async with client.get(url) as answer:
                assert answer.status == 200
                assert [item["item_id"] for item in (await answer.json())["slate"]] == ["a"]
            answers = await asyncio.gather(*(client.get(url) for _ in range(8)))
            refused = [answer for answer in answers if answer.status == 503]
            assert {answer.status for answer in answers} == {200, 503}
            assert all(answer.headers["Retry-After"] == "1" for answer in refused)
            assert "overloaded" in (await refused[0].json())["detail"]
            body, _ = worker.parts.metrics.render()
            counted = f'slatestream_events_total{{outcome="refused",topic="requests"}} {len(refused)}.0'
            assert counted in body.decode()


async def test_in_fallback_mode_what_has_no_room_has_popular_items(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, max_in_flight=1, http_port=0, when_overloaded="fallback")
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        worker.parts.server.refresh_popular()
        async with http(worker) as (client, url):
            answers = await asyncio.gather(*(client.get(url) for _ in range(5)))
            slates = [await answer.json() for answer in answers]
            assert {answer.status for answer in answers} == {200}
            assert {slate["fallback"] for slate in slates} == {"no_release", "overloaded"}
            assert all([item["item_id"] for item in slate["slate"]] == ["a"] for slate in slates)


async def test_each_answer_is_counted_by_route_and_status(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            base = url.removesuffix("/v1/recommendations/u")
            for path in ("/v1/recommendations/u", "/v1/recommendations/u?k=0", "/readyz", "/wp-login.php"):
                async with client.get(f"{base}{path}"):
                    pass
            body = worker.parts.metrics.render()[0].decode()
    for route, status, n in (
        ("recommendations", 200, 1), ("recommendations", 400, 1), ("readyz", 200, 1), ("other", 404, 1),
        ("recommendations", 503, 0),
    ):  # fmt: skip
        assert f'slatestream_http_requests_total{{route="{route}",status="{status}"}} {n}.0' in body
    assert 'slatestream_http_request_seconds_count{route="recommendations"} 2.0' in body


async def test_a_parameter_given_several_times_counts_as_often_or_is_refused(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0)
    for item in "abcd":
        memory.events.content(item)
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            async with client.get(f"{url}?exclude=a&exclude=b,c") as answer:
                assert [item["item_id"] for item in (await answer.json())["slate"]] == ["d"]
            async with client.get(f"{url}?k=1&k=2") as answer:
                assert (answer.status, (await answer.json())["detail"]) == (400, "k must be given once")


async def test_a_slate_is_for_no_cache_and_who_only_looks_gets_none(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            async with client.head(url) as answer:
                assert answer.status == 405
            assert memory.events.recommendations() == []
            for asked in (url, f"{url}?k=none"):
                async with client.get(asked) as answer:
                    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_post_says_in_its_body_what_is_asked_for(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0)
    for item, genre in (("a", "Drama"), ("b", "Drama"), ("c", "Comedy"), ("d,e", "Drama")):
        memory.events.content(item, attributes={"genre": [genre]})
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            for body, wanted in (
                ({"filters": {"genre": ["Comedy"]}}, {"c"}),
                ({"candidates": ["a", "d,e"]}, {"a", "d,e"}),
                ({"exclude": ["a", "d,e"]}, {"b", "c"}),
                ({"k": 1, "pinned": ["d,e"], "boosts": {"a": 0.5}}, {"d,e"}),
                ({}, {"a", "b", "c", "d,e"}),
            ):
                async with client.post(url, json=body) as answer:
                    assert answer.status == 200
                    assert {item["item_id"] for item in (await answer.json())["slate"]} == wanted
            asked = {"request_id": "r", "context": {"page": "home"}}
            async with client.post(url, json=asked) as answer:
                slate = await answer.json()
                assert (slate["request_id"], slate["context"]) == ("r", {"page": "home"})
        assert memory.events.recommendations()[-1].context == {"page": "home"}


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        (b"{", JSON, 400, "the body is no JSON"),
        (b"", JSON, 400, "the body is no JSON"),
        (b'{"exclude": ["\xff"]}', JSON, 400, "the body must be UTF-8"),
        (b'{"excluded": []}', JSON, 400, "unknown field `excluded`; fields are k, request_id, context"),
        (b'{"k": "ten"}', JSON, 400, "Expected `float | null`, got `str` - at `$.k`"),
        (b'{"k": 201}', JSON, 400, "`$.k`"),
        (b'{"k": 1.5}', JSON, 400, "`$.k`"),
        (b'{"exclude": [""]}', JSON, 400, "`$.exclude[0]`"),
        (b'{"boosts": {"a": 1e9}}', JSON, 400, "`$.boosts[...]`"),
        (b"k=3", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "Content-Type must be app"),
        (b'{"context": {"t": [' + b"1e9," * 200_000 + b"1]}}", JSON, 413, "must fit into"),
        (b" " * 10_000_000, JSON, 413, "the body is too large"),
        (b"\x1f\x8b" + bytes(20), JSON | {"Content-Encoding": "gzip"}, 400, "is not encoded as"),
        (zlib.compress(b" " * 10_000_000), JSON | {"Content-Encoding": "deflate"}, 413, "is too large"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_used_is_refused_with_what_is_wrong(
    make_memory: MakeMemory,
    body: bytes,
    headers: dict[str, str],
    status: int,
    detail: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = make_memory(partitions=1, http_port=0)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            async with client.post(url, data=io.BytesIO(body), headers=headers) as answer:
                said = await problem(answer)
            assert (said["status"], detail in said["detail"]) == (status, True), said
            assert memory.events.recommendations() == []
            async with client.post(url, json={}) as answer:
                assert answer.status == 200
    assert [one.message for one in caplog.records if one.levelno >= logging.ERROR] == []


async def problem(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """What a refusal says, which has the form of a problem."""
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    said: dict[str, Any] = await answer.json(content_type=None)
    assert said.keys() == {"type", "title", "status", "detail"}
    assert said["status"] == answer.status
    return said


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/wp-login.php", 404, "there is no '/wp-login.php' here"),
        ("DELETE", "/v1/recommendations/u", 405, "DELETE is not for '/v1/recommendations/u', but GET,POST"),
        ("GET", "/v1/recommendations/" + "u" * 513, 400, "user_id must have 1 to 512 characters, got 513"),
        ("GET", "/v1/recommendations/%ff", 400, "the URL must be UTF-8"),
        ("GET", "/v1/recommendations/u?exclude=%c3%28", 400, "the URL must be UTF-8"),
        ("GET", "/v1/recommendations/u?n=3", 400, "unknown parameter 'n'; known: k, exclude,"),
        ("GET", "/v1/recommendations/u?fields=", 400, "fields must be title, got ''"),
        ("POST", "/v1/recommendations/u?k=3", 400, "unknown parameter 'k'; the body says"),
        ("GET", "/v1/explanations/u/%ff", 400, "the URL must be UTF-8"),
        ("GET", "/v1/explanations/u/a", 404, "user 'u' is not known"),
    ],
)
async def test_whatever_is_refused_is_a_problem(
    make_memory: MakeMemory, method: str, path: str, status: int, detail: str
) -> None:
    memory = make_memory(partitions=1, http_port=0)
    async with memory.worker() as worker, http(worker) as (client, url):
        whole = yarl.URL(url.removesuffix("/v1/recommendations/u") + path, encoded=True)
        async with client.request(method, whole) as answer:
            said = await problem(answer)
            assert (said["status"], detail in said["detail"]) == (status, True), said
            assert status != 405 or answer.headers["Allow"] == "GET,POST"


SECRET = b"Authorization: Bearer very-secret"


@pytest.mark.parametrize(
    ("sent", "status", "detail"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + SECRET, 414, "the URL must have at most 8190 bytes"),
        (b"GET / HTTP/1.1\r\n" + SECRET + b"y" * 9000, 431, "a header must have at most 8190 bytes"),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 300 + SECRET, 431, "there must be at most 128 headers"),
        (b"GET / HTTP/1.1\r\n" + SECRET + b"\x01", 400, "cannot be read as HTTP/1.1: Invalid header value"),
        (b"GET / HTTP/1.1\r\n" + SECRET, 400, "Missing 'Host' header"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "cannot be read as HTTP/1.1"),
        (b"GET /\xff HTTP/1.1\r\n" + SECRET, 400, "cannot be read as HTTP/1.1: Invalid char in url"),
    ],
)
async def test_what_is_no_http_is_a_problem_too_and_counted_and_not_logged(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture, sent: bytes, status: int, detail: str
) -> None:
    caplog.set_level("DEBUG")
    memory = make_memory(partitions=1, http_port=0)
    async with memory.worker() as worker, http(worker) as (_, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", yarl.URL(url).port)
        writer.write(sent + b"\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        counted = worker.parts.metrics.render()[0].decode()
    assert b"Content-Type: application/problem+json" in head
    said = json.loads(body)
    assert (said["status"], detail in said["detail"]) == (status, True), said
    assert f'http_requests_total{{route="other",status="{status}"}} 1.0' in counted
    assert "very-secret" not in caplog.text + body.decode()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_handler_that_fails_says_so_in_a_problem_and_how_in_the_log(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> dict[str, Any]:
        raise ArithmeticError("seven")

    memory = make_memory(partitions=1, http_port=0)
    async with (
        memory.worker() as worker,
        http(worker, digest=fail) as (client, url),
        client.get(url.removesuffix("recommendations/u") + "digest") as answer,
    ):
        assert "its log says how" in (await problem(answer))["detail"]
    assert "ArithmeticError: seven" in caplog.text


async def test_the_same_request_id_has_the_same_slate_again_also_after_a_restart(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=1, http_port=0, policy="random")
    for number in range(40):
        memory.events.content(f"i{number}")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            asked = f"{url}?k=5&request_id=r1"
            # All at once: the first is in flight while the others come.
            answers = await asyncio.gather(*(client.get(asked) for _ in range(5)))
            bodies = [await answer.read() for answer in answers]
            assert ({answer.status for answer in answers}, len(set(bodies))) == ({200}, 1)
            async with client.get(f"{url}?k=5&request_id=r2") as answer:
                assert (await answer.json())["slate"] != json.loads(bodies[0])["slate"]
            async with client.get(url.removesuffix("u") + "v?request_id=r1") as answer:
                assert "another user's" in (await problem(answer))["detail"]
        assert len(memory.events.recommendations()) == 2
        await worker.flush()
        worker.commit()
    async with memory.worker() as worker, http(worker) as (client, url):
        async with client.post(url, json={"k": 7, "request_id": "r1"}) as answer:
            assert (answer.status, await answer.read()) == (200, bodies[0])
        assert len(memory.events.recommendations()) == 2


async def test_one_id_of_users_on_several_partitions_is_several_requests(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=4, http_port=0)
    memory.events.content("a")
    users = [f"u{n}" for n in range(12)]
    for user in users:
        memory.events.request(user, request_id="same")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            asked = [client.get(f"{url.removesuffix('u')}{user}?request_id=again") for user in users]
            statuses = [answer.status for answer in await asyncio.gather(*asked)]
    n = len({partition_of(user, 4) for user in users})
    assert n > 1
    assert sorted(statuses) == [200] * n + [409] * (12 - n), "the first on each partition is answered"
    answered = [one.request_id for one in memory.events.recommendations()]
    assert sorted(answered) == ["again"] * n + ["same"] * n


async def test_an_id_whose_answer_failed_may_be_asked_again(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory(partitions=1, http_port=0)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            with monkeypatch.context() as patch:
                patch.setattr(worker.parts.server._scoring, "slate", failing)
                async with client.get(f"{url}?request_id=r") as answer:
                    assert answer.status == 500
            async with client.get(f"{url}?request_id=r") as answer:
                assert answer.status == 200


async def failing(job: object) -> None:
    raise RuntimeError("no")


async def test_a_slate_that_is_not_at_hand_any_more_is_a_conflict(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        (shard,) = worker.parts.partitions.live()
        assert shard.answered.add("r1")
        async with http(worker) as (client, url), client.get(f"{url}?request_id=r1") as answer:
            assert (answer.status, "not at hand" in (await problem(answer))["detail"]) == (409, True)


async def test_titles_are_told_on_demand_and_items_that_nobody_knows_are_named(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=1, http_port=0)
    memory.events.content("a", title="Alien")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            for asking in (
                client.get(f"{url}?fields=title&pinned=a,gone&boosts=none:1"),
                client.post(
                    url, json={"fields": ["title"], "pinned": ["a", "gone"], "candidates": ["a", "none"]}
                ),
            ):
                async with asking as answer:
                    said = await answer.json()
                    assert [(item["item_id"], item["title"]) for item in said["slate"]] == [("a", "Alien")]
                    assert said["unknown_items"] == ["gone", "none"]
            async with client.get(url) as answer:
                said = await answer.json()
                assert "unknown_items" not in said
                assert "title" not in said["slate"][0]
            async with client.get(f"{url}?fields=title,price") as answer:
                assert "fields must be title, got 'price'" in (await problem(answer))["detail"]
