"""`recommend`, `user`, `item` and `status` against a worker, as a person runs them."""

import asyncio
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from streams.cli import main
from streams.commands.ask import ask
from streams.errors import UnreachableError
from tests.streams.conftest import MakeMemory
from tests.streams.worker.test_http import listening


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slatestream", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def said(make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command against a worker that knows a user and two items; returns its exit code and output."""

    async def ask(*arguments: str) -> tuple[int, str, str]:
        memory = make_memory(partitions=1, http_port=0)
        memory.events.content("a", "Alien (1979)", attributes={"genre": ["Horror"]})
        memory.events.content("b", "Heat [1995]", attributes={"genre": ["Crime"]})
        memory.events.click("u", "a", "like")
        async with memory.worker() as worker:
            await worker.deliver()
            async with listening(worker) as found:
                code = await asyncio.to_thread(run, monkeypatch, *arguments, "--url", found.url)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return ask


async def test_a_slate_is_shown_with_titles(said: Any) -> None:
    code, out, _ = await said("recommend", "u", "--k", "2")
    assert code == 0
    assert "Heat [1995] b" in out
    assert "no release: co-visits and popularity chose" in out
    assert max(map(len, out.splitlines())) <= 80


async def test_a_slate_is_the_record_as_json(said: Any) -> None:
    code, out, _ = await said("recommend", "u", "--json")
    assert code == 0
    assert [one["item_id"] for one in json.loads(out)["slate"]] == ["b"]


async def test_a_user_is_shown(said: Any) -> None:
    code, out, _ = await said("user", "u")
    assert code == 0
    assert "1: 1 like" in out
    assert "Alien (1979) a" in out
    assert "Horror" in out


async def test_a_user_who_is_not_known_is_a_message(said: Any) -> None:
    code, _, err = await said("user", "nobody")
    assert (code, err) == (
        2,
        "slatestream: user: user 'nobody' is not known: no click, and nothing stated\n",
    )


async def test_an_item_is_shown(said: Any) -> None:
    code, out, _ = await said("item", "b")
    assert code == 0
    assert out.startswith("Heat [1995] b\n")
    assert "Crime" in out


def test_where_nobody_answers_the_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "recommend", "u", "--url", "http://127.0.0.1:1") == 3
    assert "no worker answers at http://127.0.0.1:1" in capsys.readouterr().err
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert run(monkeypatch, "status", "--json", "--url", "http://127.0.0.1:1") == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["cluster"]["answers"] is False
    assert "status: no worker answers at http://127.0.0.1:1" in shown.err


class NotYet(BaseHTTPRequestHandler):
    """Answers as a worker does that is not ready."""

    def do_GET(self) -> None:  # noqa: N802
        body = b'{"title": "Service Unavailable", "status": 503, "detail": "not ready yet: topics_caught_up"}'
        self.send_response(503)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_worker_that_answers_later_is_told_apart_from_one_that_refuses() -> None:
    with HTTPServer(("127.0.0.1", 0), NotYet) as here:
        threading.Thread(target=here.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{here.server_port}"
        with pytest.raises(UnreachableError, match="^user: not ready yet: topics_caught_up$") as told:
            ask("user", url, lambda client: client.user("u"), retries=0)
        here.shutdown()
    assert told.value.exit_code == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:notaport", "http://127.0.0.1:99999", "http://[::1", "x"])
@pytest.mark.parametrize("command", [("status", "--once"), ("user", "u")])
def test_a_url_that_is_none_is_a_message(
    url: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *command, "--url", url) == 2
    assert "slatestream: --url must " in capsys.readouterr().err


@pytest.mark.parametrize("token", ["tok\nen: x", "tök", "to ken"])
@pytest.mark.parametrize("command", [("status", "--once"), ("user", "u")])
def test_a_token_that_is_none_is_a_message_that_does_not_tell_it(
    token: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLATES_TOKEN", token)
    assert run(monkeypatch, *command, "--url", "http://127.0.0.1:1") == 2
    shown = capsys.readouterr()
    assert "SLATES_TOKEN must be one line of ASCII" in shown.err
    assert token.split()[0] not in shown.err + shown.out


class Elsewhere(BaseHTTPRequestHandler):
    """Sends whoever comes to another place, or says what no worker says; notes the tokens it was shown."""

    location = ""
    shown: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:  # noqa: N802
        self.shown.append(self.headers["Authorization"])
        if self.location:
            self.send_response(302)
            self.send_header("Location", self.location)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_token_goes_nowhere_else_and_what_is_no_worker_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLATES_TOKEN", "s3cret")
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    taker = type("Taker", (Elsewhere,), {"shown": []})
    with HTTPServer(("127.0.0.1", 0), taker) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        sender = type("Sender", (Elsewhere,), {"location": f"http://localhost:{there.server_port}/x"})
        with HTTPServer(("127.0.0.1", 0), sender) as here:
            threading.Thread(target=here.serve_forever, daemon=True).start()
            assert run(monkeypatch, "status", "--once", "--url", f"http://127.0.0.1:{here.server_port}") == 3
            here.shutdown()
        assert taker.shown == []
        assert run(monkeypatch, "status", "--once", "--url", f"http://127.0.0.1:{there.server_port}") == 3
        there.shutdown()
    assert "what answers is no worker" in capsys.readouterr().err


async def test_status_shows_worker_and_cluster(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    code, out, _ = await said("status", "--once")
    assert code == 0
    assert "ready" in out
    assert "Kafka cannot be reached" in out
    assert "none: co-visits and popularity" in out


async def test_with_tokens_commands_show_the_one_of_the_environment_or_say_what_is_missing(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    digest = hashlib.sha256(b"secret").hexdigest()
    scopes = ("recommend", "explain", "admin")
    memory = make_memory(partitions=1, http_port=0, http_tokens={"me": {"sha256": digest, "scopes": scopes}})
    memory.events.content("a", "Alien (1979)")
    memory.events.content("b", "Heat [1995]")
    memory.events.click("u", "a")
    async with memory.worker() as worker:
        await worker.deliver()
        async with listening(worker) as found:
            for token, codes in (("secret", (0, 0, 0)), ("", (2, 2, 3))):
                monkeypatch.setenv("SLATES_TOKEN", token)
                for command, code in zip(
                    (("recommend", "u"), ("explain", "u", "b"), ("status", "--once")), codes, strict=True
                ):
                    arguments = (*command, "--url", found.url)
                    assert await asyncio.to_thread(run, monkeypatch, *arguments) == code
                    assert ("a token is needed" in capsys.readouterr().err) == (code != 0)
