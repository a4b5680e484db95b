"""The command alone: what it prints, and what it says where no worker answers."""

import io
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rich.console import Console

from streams.api.answers import Contribution, Explanation, Path
from streams.cli import main
from streams.commands.explain import _show

ANSWER = Explanation(
    user_id="ann",
    item_id="blade",
    title="Blade [Runner]",
    model_version="v",
    unit="logit",
    score=0.5,
    value=0.0,
    base=-1.5,
    contributions=[
        Contribution("covisits", "alien", "liked Alien", 2.0, 0.01),
        Contribution("modality", "text", "its text", -1.0),
        Contribution("ease", "clue", "liked Clue", 0.5),
    ],
    groups={},
    completeness_error=0.0,
    orders=16,
    runs=33,
    eligible=False,
    summary="Blade [Runner] scores 0.500.",
    timestamp_ms=1,
    clicks_offset=0,
    path=Path("alien", "Alien", "like", "directed_by", "Ridley Scott"),
)


class Junk(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Junk) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2
) -> str:
    monkeypatch.setattr(sys, "argv", ["slatestream", "explain", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    return capsys.readouterr().err


def printed(rows: int) -> str:
    out = io.StringIO()
    _show(ANSWER, rows, Console(file=out, width=140))
    return out.getvalue()


def test_every_row_shown_and_the_rest_together_make_the_total() -> None:
    shown = printed(1)
    assert "-1.5000" in shown
    assert "+2.0000" in shown
    assert "2 more" in shown
    assert "-0.5000" in shown
    assert "its text" not in shown
    assert "its text" in printed(3)


def test_names_are_printed_as_they_are_and_the_path_is_drawn() -> None:
    shown = printed(3)
    assert "Blade [Runner] scores 0.500." in shown
    assert "ann ─like→ Alien ─directed_by→ Ridley Scott ←directed_by─ Blade [Runner]" in shown
    assert "in no slate of this user now" in shown
    assert "16 sampled orders" in shown


def test_a_worker_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(monkeypatch, capsys, "ann", "blade", "--url", "http://127.0.0.1:9", code=3)
    assert "no worker answers at http://127.0.0.1:9" in told
    told = refusal(monkeypatch, capsys, "ann", "blade", "--url", "file:///etc/hosts")
    assert "--url must begin with http:// or https://" in told


def test_an_answer_of_something_else_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], elsewhere: str
) -> None:
    assert "is no worker of this version" in refusal(monkeypatch, capsys, "ann", "blade", "--url", elsewhere)
    told = refusal(monkeypatch, capsys, "ann", "broken", "--url", elsewhere)
    assert "the worker answered 500" in told
