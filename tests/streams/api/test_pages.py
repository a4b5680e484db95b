"""Every command and snippet of deploy/http.md and deploy/security.md, against workers that answer."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.api.openapi import document
from streams.api.routes import ROUTES
from streams.kafka.options import aiokafka_client_options
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import DAY_MS, TOPICS, topic_name
from streams.settings import Settings, load_settings
from tests.streams.conftest import MakeMemory
from tests.streams.worker.test_http import listening

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"(https?)://127\.0\.0\.1:6066")

needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, ("curl", "jq", "openssl", "sha256sum"))),
    reason="curl, jq, openssl or sha256sum is not here",
)


def text_of(page: str) -> str:
    return (DEPLOY / f"{page}.md").read_text()


def blocks(page: str, kind: str, name: str | None = None) -> list[tuple[str, str]]:
    """Names and texts of the blocks of a kind."""
    found = BLOCK.findall(text_of(page))
    return [(named, text) for kinds, named, text in found if kinds == kind and name in (None, named)]


def commands(page: str, name: str) -> list[tuple[str, str]]:
    """Commands of the console blocks of a name, and what they print."""
    shown = [one for _, text in blocks(page, "console", name) for one in re.split(r"^\$ ", text, flags=re.M)]
    pairs = [one.partition("\n") for one in shown if one]
    assert pairs, f"no block is called {name!r}"
    return [(command, printed.strip()) for command, _, printed in pairs]


def pattern(printed: str) -> str:
    """What must be printed, where "..." stands for anything."""
    return ".*".join(map(re.escape, printed.split("...")))


async def check(page: str, name: str, folder: Path, url: str = "") -> None:
    """Run the commands of a page in a folder, the worker being at a URL."""
    for command, printed in commands(page, name):
        ran = await asyncio.create_subprocess_exec(
            "bash", "-c", PLACE.sub(url, command), cwd=folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out = (await asyncio.wait_for(ran.communicate(), 60))[0].decode().replace("\r", "").strip()
        assert re.fullmatch(pattern(printed), out, re.DOTALL), f"{command}\nprinted: {out}\nnot: {printed}"


@asynccontextmanager
async def worker_at(make_memory: MakeMemory, **settings: Any) -> AsyncIterator[str]:
    """URL of a worker that knows four items and a user."""
    memory = make_memory(partitions=1, http_port=0, **settings)
    for item, title, genre in (
        ("alien", "Alien", "Sci-Fi"), ("heat", "Heat", "Crime"), ("big", "Big", "Comedy"), ("up", "Up", "War")
    ):  # fmt: skip
        memory.events.content(item, title=title, attributes={"genre": [genre]})
    memory.events.click("u1", "alien")
    async with memory.worker() as worker:
        await worker.deliver()
        async with listening(worker, digest=lambda: {"digest": worker.digest()}) as found:
            yield found.url


@needs_programs
async def test_commands_of_the_http_page_print_what_it_says(make_memory: MakeMemory, tmp_path: Path) -> None:
    ((name, tokens),) = blocks("http", "toml")
    (tmp_path / name).write_text(tokens)
    for block, settings in (
        ("", {}),
        ("tokens", {"http_tokens_file": tmp_path / name}),
        ("limits", {"http_rate_per_s": 0.01, "http_rate_burst": 1}),
    ):
        async with worker_at(make_memory, **settings) as url:
            await check("http", block, tmp_path, url)


def test_every_route_has_an_example() -> None:
    shown = " ".join(
        command for _, text in blocks("http", "console") for command in re.findall(r"^\$ (.*)", text, re.M)
    )
    asked = [
        ("POST" if " -d " in words else "GET", path)
        for words in re.split(r"(?=curl )", shown)
        for path in re.findall(r"http://127\.0\.0\.1:6066(/[^\s'?]*)", words)
    ]
    assert [
        f"{one.method} {one.path}"
        for one in ROUTES
        if not any(
            method == one.method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", one.path), path)
            for method, path in asked
        )
    ] == []


async def test_the_snippet_of_python_has_a_slate(
    make_memory: MakeMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    ((_, snippet),) = blocks("http", "python")
    async with worker_at(make_memory) as url:
        await asyncio.wait_for(asyncio.to_thread(exec, PLACE.sub(url, snippet), {}), 60)
    assert "'Heat'" in capsys.readouterr().out


@needs_programs
async def test_another_worker_s_user_is_where_the_page_says(make_memory: MakeMemory, tmp_path: Path) -> None:
    memory = make_memory(partitions=2, http_port=0)
    async with memory.worker() as worker:
        await worker.assign({1 - partition_of("u1", 2)})
        async with listening(worker, owner_url=lambda _: "http://10.0.0.7:6066") as found:
            await check("http", "elsewhere", tmp_path, found.url)


@needs_programs
async def test_commands_of_the_security_page_do_what_it_says(make_memory: MakeMemory, tmp_path: Path) -> None:
    await check("security", "", tmp_path)
    async with worker_at(make_memory, http_tokens_file=tmp_path / "tokens.toml") as url:
        await check("security", "tokens", tmp_path, url)
    tls = {"http_tls_certificate": tmp_path / "certificate.pem", "http_tls_key": tmp_path / "key.pem"}
    async with worker_at(make_memory, **tls) as url:
        await check("security", "tls", tmp_path, url)
    for copy, of in (("ca.pem", "certificate"), ("client.pem", "certificate"), ("client.key", "key")):
        shutil.copy(tmp_path / f"{of}.pem", tmp_path / copy)
    (tmp_path / "kafka.token").write_text("of the authority")
    for name, text in blocks("security", "toml"):
        (tmp_path / name).write_text(re.sub(r'"([a-z]+\.(?:pem|key|token))"', rf'"{tmp_path}/\1"', text))
        settings = load_settings(tmp_path / name)
        options = aiokafka_client_options(settings)
        assert options["security_protocol"] == settings.security_protocol
        assert ("ssl_context" in options) == (name != "http.toml")


async def test_the_snippet_that_erases_a_user_writes_a_null_where_the_user_s_worker_reads(
    kafka_settings: Settings,
) -> None:
    ((_, snippet),) = blocks("security", "python")
    topic = topic_name(kafka_settings, "users")
    snippet = snippet.replace("127.0.0.1:9092", kafka_settings.bootstrap_servers)
    snippet = snippet.replace('"users"', repr(topic))
    await asyncio.wait_for(asyncio.to_thread(exec, snippet, {}), 60)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_settings.bootstrap_servers)
    await consumer.start()
    try:
        place = TopicPartition(topic, partition_of("u1", kafka_settings.partitions))
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        record = await asyncio.wait_for(consumer.getone(), 120)
        assert (record.key, record.value) == (b"u1", None)
    finally:
        await consumer.stop()


@pytest.mark.parametrize(
    ("own_port", "path"), [(False, "/metrics"), (True, "/metrics"), (True, "/v1/digest")]
)
async def test_with_tokens_metrics_need_the_scope_admin_at_a_port_of_their_own_too(
    make_memory: MakeMemory, own_port: bool, path: str
) -> None:
    tokens = {"shop": {"sha256": "0" * 64, "scopes": ["recommend"]}}
    memory = make_memory(partitions=1, http_port=0, http_tokens=tokens, admin_port=0 if own_port else None)
    async with memory.worker() as worker, listening(worker) as found, aiohttp.ClientSession() as client:
        assert (found.admin_url != found.url) == own_port
        async with client.get(found.admin_url + path) as answer:
            assert answer.status == 401


def rows(page: str, begin: str) -> list[list[str]]:
    """Cells of the rows of a page's tables whose first cell begins with something."""
    lines = [line for line in text_of(page).splitlines() if line.startswith(f"| {begin}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_tables_of_routes_refusals_limits_and_days_are_those_of_the_program() -> None:
    said = [(cells[0].strip("`"), cells[2].strip("`")) for cells in rows("http", "`GET ")]
    said += [(cells[0].strip("`"), cells[2].strip("`")) for cells in rows("http", "`POST ")]
    assert sorted(said) == sorted((f"{one.method} {one.path}", one.scope or "") for one in ROUTES)
    answers = [
        status
        for path in msgspec.json.decode(document())["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    ]
    statuses = {cells[0] for start in "345" for cells in rows("http", start)}
    assert statuses == {*answers, "405"} - {"200"}
    for name, default, _ in rows("http", "`http_"):
        value = Settings.model_fields[name.strip("`")].default
        assert default == (str(value) if value else "unset")
    for topics, days in (
        (("requests",), 1), (("recommendations",), 7), (("dead-letters",), 30), (("clicks", "feedback"), 90)
    ):  # fmt: skip
        assert {TOPICS[name].retention_ms for name in topics} == {days * DAY_MS}
        assert re.search(rf"`{topics[0]}`.*\b{days}\b", text_of("security"))
