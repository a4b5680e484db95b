"""The client of HTTP against workers."""

import asyncio
import hashlib
import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme
from aiohttp import web

from streams.api.asking import Asked
from streams.client.http import HttpClient, HttpError
from streams.kafka.partitioner import partition_of
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory, Memory
from tests.streams.worker.test_http import listening

T = TypeVar("T")
TOKENS = {"shop": {"sha256": hashlib.sha256(b"s1").hexdigest(), "scopes": ["recommend"]}}


async def asking(url: str, question: Callable[[HttpClient], T], **options: Any) -> T:
    """Ask by a client of its own, in a thread."""

    def ask() -> T:
        with HttpClient(url, **options) as client:
            return question(client)

    return await asyncio.to_thread(ask)


@asynccontextmanager
async def serving(memory: Memory) -> AsyncIterator[MemoryWorker]:
    for item in ("a", "b", "c"):
        memory.events.content(item, title=item.upper(), attributes={"genre": [f"g{item}"]})
    memory.events.click("u", "a")
    async with memory.worker() as worker:
        await worker.deliver()
        yield worker


@asynccontextmanager
async def not_mine(make_memory: MakeMemory, owner_url: Callable[[int], str | None], **settings: Any) -> Any:
    """URL of a worker that sends "u" on."""
    memory = make_memory(partitions=2, http_port=0, **settings)
    async with memory.worker() as worker:
        await worker.assign({1 - partition_of("u", 2)})
        async with listening(worker, owner_url=owner_url) as found:
            yield found.url


def test_all_that_a_body_can_ask_for_is_a_parameter() -> None:
    parameters = set(inspect.signature(HttpClient.recommend).parameters) - {"self", "user_id"}
    assert parameters == {*Asked.__struct_fields__} - {"fields"} | {"titles"}


async def test_a_client_asks_for_slates_and_what_is_known(make_memory: MakeMemory) -> None:
    async with serving(make_memory(partitions=1, http_port=0)) as worker, listening(worker) as found:
        slate = await asking(
            found.url,
            lambda client: client.recommend(
                "u", 2, request_id="r", exclude=["b"], pinned=["c"], boosts={"gone": 1.0},
                filters={"genre": ["gc"]}, context={"page": "home"}, titles=True,
            ),
        )  # fmt: skip
        assert [(item.item_id, item.title) for item in slate.slate] == [("c", "C")]
        assert (slate.request_id, slate.context, slate.unknown_items) == ("r", {"page": "home"}, ["gone"])
        assert (await asking(found.url, lambda client: client.user("u"))).events == 1
        assert (await asking(found.url, lambda client: client.item("b"))).title == "B"
        assert (await asking(found.url, lambda client: client.explain("u", "b"))).item_id == "b"
        with pytest.raises(HttpError, match="user 'v/ü' is not known") as refused:
            await asking(found.url, lambda client: client.user("v/ü"))
        assert refused.value.status == 404


async def test_the_token_is_sent_again_to_the_worker_that_owns_the_user(make_memory: MakeMemory) -> None:
    owner = make_memory(partitions=1, http_port=0, http_tokens=TOKENS)
    async with (
        serving(owner) as worker,
        listening(worker) as found,
        not_mine(make_memory, lambda _: found.url, http_tokens=TOKENS) as url,
    ):
        slate = await asking(url, lambda client: client.recommend("u", 1), token="s1", hosts=["127.0.*"])
        assert len(slate.slate) == 1
        with pytest.raises(HttpError, match="a token is needed") as refused:
            await asking(url, lambda client: client.recommend("u", 1))
        assert refused.value.status == 401
        with pytest.raises(HttpError, match=r"whose host is none of \*\.svc"):
            await asking(url, lambda client: client.recommend("u"), token="s1", hosts=["*.svc"])
        assert len(owner.events.recommendations()) == 1


@pytest.mark.parametrize("user", ["mail@x.org", "user:1", "a'b!", "..", "a/b", "x y", "ä%40", "%2E"])
async def test_a_redirect_leads_to_the_same_user_however_the_id_is_written(
    make_memory: MakeMemory, user: str
) -> None:
    owner = make_memory(partitions=1, http_port=0)
    owner.events.content("a")
    other = make_memory(partitions=2, http_port=0)
    async with owner.worker() as worker, other.worker() as sends_on:
        await worker.deliver()
        await sends_on.assign({1 - partition_of(user, 2)})
        async with (
            listening(worker) as found,
            listening(sends_on, owner_url=lambda _: found.url) as first,
        ):
            slate = await asking(first.url, lambda client: client.recommend(user, 1))
        assert (slate.user_id, [item.item_id for item in slate.slate]) == (user, ["a"])


@pytest.mark.parametrize("location", ["http://h:notaport/v1", "http://[::1/v1", "//h/v1", "ftp://h/v1"])
async def test_a_redirect_that_is_no_url_is_an_error_of_the_client(location: str) -> None:
    async def elsewhere(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": location})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(HttpError, match="which is no URL of a worker"):
            await asking("http://127.0.0.1:{1}".format(*runner.addresses[0]), lambda one: one.user("u"))
    finally:
        await runner.cleanup()


async def test_no_token_leaves_tls_or_goes_to_another_path(make_memory: MakeMemory, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    files = {"http_tls_certificate": certificate, "http_tls_key": key}
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect(f"http://{request.host}/login")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    other = "http://127.0.0.1:{1}".format(*runner.addresses[0])
    try:
        async with not_mine(make_memory, lambda _: other, **files) as url:
            with pytest.raises(HttpError, match="which is not HTTPS; mend advertised_url"):
                await asking(url, lambda client: client.recommend("u"), token="s1", tls=trusting)
            assert asked == []
            with pytest.raises(HttpError, match="CERTIFICATE_VERIFY_FAILED"):
                await asking(url, lambda client: client.recommend("u"), token="s1")
        with pytest.raises(HttpError, match="its path is not the one that was asked for"):
            await asking(other, lambda client: client.recommend("u"), token="s1")
        assert asked == ["/v1/recommendations/u"]
    finally:
        await runner.cleanup()


async def test_what_has_no_owner_yet_or_a_dead_one_is_asked_for_again(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with serving(memory) as worker, listening(worker) as found:
            owners: list[str | None] = [None, dead, found.url]
            pauses: list[float] = []

            def wait(seconds: float) -> None:
                pauses.append(seconds)
                owners.pop(0)

            async with not_mine(make_memory, lambda _: owners[0]) as url:
                slate = await asking(url, lambda client: client.recommend("u", 1), sleep=wait, timeout_s=60)
    assert pauses == [1.0, 1.0]
    assert [one.request_id for one in memory.events.recommendations()] == [slate.request_id]


async def test_a_client_waits_as_long_as_it_is_told_and_no_longer_than_it_may(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=1, http_port=0, http_rate_per_s=0.01, http_rate_burst=1)
    async with serving(memory) as worker, listening(worker) as found:
        assert (await asking(found.url, lambda client: client.item("a"))).title == "A"
        for timeout_s, times in ((1_000, 2), (10, 0)):
            pauses: list[float] = []
            with pytest.raises(HttpError, match="come again in") as refused:
                await asking(
                    found.url, lambda client: client.item("a"),
                    retries=2, timeout_s=timeout_s, sleep=pauses.append,
                )  # fmt: skip
            assert refused.value.status == 429
            assert len(pauses) == times
            assert all(90 <= seconds <= 100 for seconds in pauses)


async def test_a_connection_that_the_worker_has_closed_is_opened_anew(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0, http_max_connections=1)
    async with serving(memory) as worker, listening(worker) as found:
        with HttpClient(found.url) as one:
            for _ in range(2):
                assert (await asyncio.to_thread(one.item, "a")).title == "A"
                # Another one takes the only place.
                assert (await asking(found.url, lambda client: client.item("b"))).title == "B"


async def test_who_does_not_answer_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(HttpError, match=f"no worker answers at {url} .*timed out") as refused:
            await asking(url, lambda client: client.recommend("u"), timeout_s=0.2)
        assert refused.value.status is None


@pytest.mark.parametrize("url", ["file:///etc/hosts", "127.0.0.1:6066", "http://"])
def test_what_is_no_url_of_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must begin with http:// or https:// and a host"):
        HttpClient(url)
