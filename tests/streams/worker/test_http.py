"""The HTTP server on the parts of a worker whose log is in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiohttp

from streams.testing.worker import MemoryWorker
from streams.worker.http import Service, start_http
from tests.streams.conftest import MakeMemory


@asynccontextmanager
async def http(worker: MemoryWorker) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    parts = worker.parts
    while not parts.partitions.is_ready():
        await asyncio.sleep(0)
    runner, url = await start_http(
        Service(
            settings=parts.settings,
            partitions=parts.partitions,
            server=parts.server,
            explainer=parts.explainer,
            metrics=parts.metrics,
            owner_url=parts.shared_topics.owner_url,
            digest=dict,
            render=partial(asyncio.to_thread, parts.metrics.render),
        )
    )
    try:
        async with aiohttp.ClientSession() as client:
            yield client, f"{url}/v1/recommendations/u"
    finally:
        await runner.cleanup()


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
            assert "overloaded" in (await refused[0].json())["error"]
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
                assert (answer.status, await answer.json()) == (400, {"error": "k must be given once"})


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
