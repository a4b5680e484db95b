"""Who may ask a worker over HTTP, how often, over how many connections."""

import asyncio
import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yarl

from streams.errors import ConfigurationError
from tests.streams.conftest import MakeMemory
from tests.streams.worker.test_http import http, listening, problem

ONE = {"partitions": 1, "http_port": 0}


def token(secret: str, *scopes: str, expires: str | None = None) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(secret.encode()).hexdigest(), "scopes": scopes, "expires": expires}


TOKENS = {
    "shop": token("s1", "recommend"),
    "ops": token("s2", "admin", "explain"),
    "old": token("s3", "recommend", expires="2020-01-01T00:00:00Z"),
}


async def test_a_token_opens_what_its_scopes_say_and_is_never_logged(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    memory = make_memory(**ONE, http_tokens=TOKENS)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            base = url.removesuffix("/v1/recommendations/u")
            for path, secret, status in (
                ("/v1/recommendations/u", None, 401),
                ("/v1/recommendations/u", "wrong", 401),
                ("/v1/recommendations/u", "s3", 401),
                ("/v1/recommendations/u", "s2", 403),
                ("/v1/recommendations/u", "s1", 200),
                ("/v1/explanations/u/a", "s1", 403),
                ("/v1/explanations/u/a", "s2", 404),
                ("/metrics", None, 401),
                ("/metrics", "s1", 403),
                ("/metrics", "s2", 200),
                ("/v1/digest", "s2", 200),
                ("/v1/state/0/users", "s1", 403),
                ("/v1/state/0/users?bucket=1&of=2&rows=true", "s2", 200),
                ("/v1/state/0/users?of=0", "s2", 400),
                ("/v1/state/0/nothing", "s2", 404),
                ("/v1/state/77/users", "s2", 404),
                ("/v1/quarantined/0", "s1", 403),
                ("/v1/quarantined/0", "s2", 200),
                ("/v1/quarantined/1", "s2", 404),
                ("/healthz", None, 200),
                ("/readyz", None, 200),
                ("/nowhere", None, 404),
            ):
                headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
                async with client.get(base + path, headers=headers) as answer:
                    assert answer.status == status, (path, secret)
                    if status > 400:
                        await problem(answer)
                    assert ("WWW-Authenticate" in answer.headers) == (status in (401, 403))
            assert len(memory.events.recommendations()) == 1
            counted = worker.parts.metrics.render()[0].decode()
    assert 'http_requests_total{route="recommendations",status="401"} 3.0' in counted
    for secret in ("s1", "s2", "s3", "wrong"):
        assert f"Bearer {secret}" not in caplog.text


async def test_who_asks_too_often_is_told_when_to_come_again(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE, http_tokens=TOKENS, http_rate_per_s=0.01, http_rate_burst=2)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            shop, wrong = ({"Authorization": f"Bearer {secret}"} for secret in ("s1", "guess"))
            statuses = []
            for headers in (shop, wrong, shop, wrong, shop, wrong):
                async with client.get(url, headers=headers) as answer:
                    statuses.append(answer.status)
                    if answer.status == 429:
                        assert 90 <= int(answer.headers["Retry-After"]) <= 100
                        assert "come again in" in (await problem(answer))["detail"]
            assert statuses == [200, 401, 200, 401, 429, 429]  # guesses do not use up what the shop has
            async with client.get(url.removesuffix("v1/recommendations/u") + "readyz") as answer:
                assert answer.status == 200


async def test_pages_of_listed_origins_may_read_answers_and_others_may_not(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE, http_cors_origins=("https://shop.example",), http_tokens=TOKENS)
    async with memory.worker() as worker, http(worker) as (client, url):
        for origin, allowed in (("https://shop.example", True), ("https://evil.example", False)):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            async with client.options(url, headers=asks) as answer:
                assert answer.status == 204
                assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST"
                assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
                assert answer.headers["Vary"] == "Origin"
            async with client.get(url, headers={"Origin": origin}) as answer:
                assert answer.status == 401
                assert ("Access-Control-Allow-Origin" in answer.headers) == allowed


async def test_pages_of_every_origin_may_read_answers_where_all_are_listed(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE, http_cors_origins=("*",), http_tokens=TOKENS)
    async with memory.worker() as worker, http(worker) as (client, url):
        async with client.get(url, headers={"Origin": "https://any.example"}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "https://any.example"
            assert "Access-Control-Allow-Credentials" not in answer.headers  # so cookies stay out of it
        async with client.get(url) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_without_a_list_no_page_of_another_origin_may_read_anything(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE)
    async with memory.worker() as worker, http(worker) as (client, url):
        async with client.options(url, headers={"Origin": "https://shop.example"}) as answer:
            assert answer.status == 405
        async with client.get(url, headers={"Origin": "https://shop.example"}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


async def idle_connections(url: str, n: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connections that begin a request and do not go on."""
    opened = [await asyncio.open_connection("127.0.0.1", yarl.URL(url).port) for _ in range(n)]
    for _, writer in opened[::2]:
        writer.write(b"GET /v1/recomm")
    return opened


async def until_closed(opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]], n: int) -> None:
    """Wait until so many of the connections have been closed by the other side."""
    reading = {asyncio.ensure_future(reader.read()) for reader, _ in opened}
    async with asyncio.timeout(20):
        while sum(one.done() for one in reading) < n:
            await asyncio.wait(
                {one for one in reading if not one.done()}, return_when=asyncio.FIRST_COMPLETED
            )
    assert sum(one.done() for one in reading) == n
    for one in reading:
        one.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    for _, writer in opened:
        writer.close()


async def test_500_idle_connections_keep_nobody_out_and_the_oldest_make_room(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE, http_max_connections=100)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            opened = await idle_connections(url, 500)
            async with client.get(url) as answer:
                assert answer.status == 200
                await until_closed(opened, 401)


async def test_a_connection_that_is_idle_for_too_long_is_closed(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE, http_idle_s=0.1)
    async with memory.worker() as worker, http(worker) as (_, url):
        await until_closed(await idle_connections(url, 20), 20)


async def test_tls_is_spoken_with_the_certificate_that_was_given(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    memory = make_memory(**ONE, http_tls_certificate=certificate, http_tls_key=key)
    async with memory.worker() as worker, http(worker) as (client, url):
        assert url.startswith("https://127.0.0.1:")
        async with client.get(url, ssl=trusting) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.get(url)


async def test_metrics_and_digest_can_have_a_port_of_their_own(make_memory: MakeMemory) -> None:
    memory = make_memory(**ONE, admin_port=0)
    async with memory.worker() as worker, listening(worker) as where, aiohttp.ClientSession() as client:
        base, admin = where.url, where.admin_url
        for path, public, own in (
            ("/metrics", 404, 200), ("/v1/digest", 404, 200), ("/v1/recommendations/u", 200, 404),
            ("/v1/state/0/users", 404, 200),
            ("/healthz", 200, 200), ("/readyz", 200, 200),
        ):  # fmt: skip
            for port, status in ((base, public), (admin, own)):
                async with client.get(port + path) as answer:
                    assert answer.status == status, (port, path)


@pytest.mark.parametrize(
    ("tokens", "host", "warned"), [({}, "0.0.0.0", 1), (TOKENS, "0.0.0.0", 0), ({}, "127.0.0.1", 0)]
)
async def test_who_opens_to_everybody_is_warned_once(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture, tokens: dict[str, Any], host: str, warned: int
) -> None:
    memory = make_memory(**ONE, http_tokens=tokens, http_host=host)
    async with memory.worker() as worker, http(worker) as (client, url):
        assert "0.0.0.0" not in url
        async with client.get(url.removesuffix("v1/recommendations/u") + "healthz") as answer:
            assert answer.status == 200
    assert caplog.text.count("EVERYBODY WHO REACHES 0.0.0.0") == warned


async def test_a_port_that_is_taken_is_named(make_memory: MakeMemory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        memory = make_memory(partitions=1, http_port=port)
        async with memory.worker() as worker:
            with pytest.raises(
                ConfigurationError, match=rf"127.0.0.1:{port} cannot be listened on: .*in use"
            ):
                async with http(worker):
                    pass
