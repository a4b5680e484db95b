"""The console over HTTP: its pages, what protects them, and that looking changes nothing."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from streams.console.server import start_console
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory

NASTY = "<script>alert(1)</script>\"'&"


@asynccontextmanager
async def console(
    worker: MemoryWorker, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[aiohttp.ClientSession]:
    caplog.set_level("INFO", "streams.console")
    stop = await start_console(worker.parts)
    found = re.search(r"console on (http://\S+)", caplog.text)
    assert found is not None
    try:
        async with aiohttp.ClientSession(found[1]) as client:
            yield client
    finally:
        await stop()


async def test_pages_of_the_state_are_shown_with_hostile_ids_and_titles_escaped(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture
) -> None:
    memory = make_memory(console_port=0, candidate_policies=("softmax",), policy="thompson")
    memory.events.content(NASTY, title=NASTY)
    memory.events.content("b", title="B")
    memory.events.click(NASTY, NASTY)
    async with memory.worker() as worker:
        await worker.deliver()
        before = worker.digest()
        async with console(worker, caplog) as client:
            for path in ("/", "/user", "/item", "/partitions", "/release", "/live.json"):
                async with client.get(path) as answer:
                    assert answer.status == 200, path
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            for path in ("/user", "/item"):
                async with client.get(path, params={"id": NASTY}) as answer:
                    text = await answer.text()
                    assert answer.status == 200, text
                    assert "&lt;script&gt;alert(1)" in text
                    assert "<script>alert" not in text
        assert worker.digest() == before
        assert not any(len(shard.slates) for shard in worker.parts.partitions.live())


async def test_affinities_are_shares_and_those_that_have_faded_are_left_out(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture
) -> None:
    memory = make_memory(console_port=0)
    for item, genre in (("old", "Western"), ("a", "Comedy"), ("b", "Drama")):
        memory.events.content(item, attributes={"genre": [genre]})
    now_ms = int(memory.clock.time() * 1000)
    for n, (item, days) in enumerate((("old", 3_000), ("a", 0), ("b", 0))):
        memory.events.click("u", item, event_id=f"e{n}", timestamp_ms=now_ms - 86_400_000 * days)
    async with memory.worker() as worker:
        await worker.deliver()
        async with console(worker, caplog) as client, client.get("/user", params={"id": "u"}) as answer:
            shown = (await answer.text()).partition("Affinities</h2>")[2]
    assert re.findall(r'<td>(\w+)</td><td class="n">([\d.]+ %)', shown) == [
        ("Comedy", "50.0 %"),
        ("Drama", "50.0 %"),
    ]


async def test_another_name_and_a_foreign_form_are_refused(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "ours"
    monkeypatch.setattr("streams.console.security.secrets.token_urlsafe", lambda size: token)
    memory = make_memory(console_port=0)
    async with memory.worker() as worker, console(worker, caplog) as client:
        async with client.get("/", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421
        ours = re.findall(r"console on (http://\S+)", caplog.text)[-1]
        for origin, shown in (
            (None, token),
            ("http://evil.example", token),
            ("http://[x", token),
            (ours, "guessed"),
            (ours, ""),
        ):
            headers = {} if origin is None else {"Origin": origin}
            form = {"number": "0", "token": shown}
            async with client.post("/dead-letter", data=form, headers=headers) as answer:
                assert answer.status == 403, (origin, shown)
        for number in ("", "-1", "9" * 5000, "x"):
            form = {"number": number, "token": token}
            async with client.post("/dead-letter", data=form, headers={"Origin": ours}) as answer:
                assert answer.status == 400, number
