"""Releases in a store: promoted, served without a restart under load, refused when damaged, rolled back."""

import asyncio
import json
import re
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_core.release.baseline import BaselineScorer
from model_core.release.folder import RANKER
from streams.cli import app
from streams.errors import SlatestreamError
from streams.releases.changes import publish_change
from streams.settings import Settings
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import StartWorker
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny, variant

USERS = ("u0", "u1", "u2")
ITEMS = tuple(f"i{n}" for n in range(20))
PAUSE_S = 0.02


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases that give other scores."""
    base = once_a_run(tmp_path_factory, "tiny-release", train_tiny)
    made = tmp_path_factory.mktemp("made")
    return variant(base, made / "first"), variant(base, made / "second", gain=1.2)


def run(*arguments: str) -> str:
    """What a command of `slatestream release` prints, or the message that it would end with."""
    done = CliRunner().invoke(app, ["release", *arguments])
    if isinstance(done.exception, SlatestreamError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


class Console:
    """The page of releases in a worker's console, as a browser sees it."""

    def __init__(self, log: Path) -> None:
        found = re.search(r"console on (http://\S+)", log.read_text())
        assert found is not None
        self._url = found[1]

    def page(self) -> str:
        """The page."""
        with urllib.request.urlopen(f"{self._url}/release") as answer:
            text: str = answer.read().decode()
            return text

    def send(self, **form: str) -> str:
        """What is shown once a form has been sent."""
        found = re.search(r'name="token" value="([^"]+)"', self.page())
        assert found is not None
        body = urllib.parse.urlencode(form | {"token": found[1]}).encode()
        asked = urllib.request.Request(f"{self._url}/release", body, {"Origin": self._url})
        try:
            with urllib.request.urlopen(asked) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as refused:
            with refused:
                return f"{refused.code}: {refused.read().decode()}"


@contextmanager
def asking(settings: Settings) -> Iterator[list[str]]:
    """Ask for one user after the other, about fifty times a second; gives the ids of the requests so far."""
    asked: list[str] = []
    enough = threading.Event()

    def ask() -> None:
        with Client(settings) as other:
            while not enough.wait(PAUSE_S):
                name = f"load-{len(asked)}"
                asked.append(other.request(USERS[len(asked) % len(USERS)], request_id=name, k=3))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        enough.set()
        thread.join()


def test_releases_change_under_load_and_every_slate_is_of_one(
    client: Client,
    kafka_settings: Settings,
    start_worker: StartWorker,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "store"
    for name, value in environment(same_topics(kafka_settings, release_store=str(store))).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client.content(*(film(item, f"Film {item}", kind=["k1"]) for item in ITEMS))
    first, second = (run("put", str(folder)).split()[0] for folder in folders)
    assert "live" not in run("list")
    assert "no release served before" in run("rollback")
    assert json.loads(run("show", first))["version"] == first

    worker = start_worker(release_store=str(store), policy="greedy", console_port=0)
    console = Console(tmp_path / "worker-1.log")
    assert client.ask("u0", k=3).model_version == BaselineScorer().release.version
    assert f"{first} is promoted" in run("promote", first[:8], "--reason", "the first", "--by", "ann")
    assert f"{first} serves already" in run("promote", first)
    assert "names none of" in run("promote", "ffff")
    wait_until(lambda: client.ask("u0", k=3).model_version == first, "the first release serves")
    expected = {first: scores_of(client)}
    shown = console.page()
    assert all(version in shown.partition("In the store")[2] for version in (first, second))
    assert re.search(rf"{re.escape(worker.url)}</th><td><code>{first}", shown), "what serves where"

    with asking(kafka_settings) as asked:
        run("promote", second)
        wait_until(lambda: client.ask("u0", k=3).model_version == second, "the second release serves")
        expected[second] = scores_of(client)
        run("rollback", "--reason", "click-through fell")
        wait_until(lambda: client.ask("u0", k=3).model_version == first, "the first release is back")
        assert re.search("(?s)^422: .*names none of", console.send(what="promote", version="ffff"))
        assert "It is promoted" in console.send(what="promote", version=second, reason="it was no fault")
        wait_until(lambda: client.ask("u0", k=3).model_version == second, "the second release serves again")
    assert all(expected[first][item] != pytest.approx(expected[second][item], rel=0.01) for item in ITEMS)
    wait_until(
        lambda: set(asked) <= {slate.request_id for slate in client.recommendations()}, "all are answered"
    )
    loaded = [one for one in client.recommendations() if one.request_id in set(asked)]
    assert len(loaded) == len(asked)
    assert {one.model_version for one in loaded} == {first, second}
    for one in loaded:
        scores = {item.item_id: expected[one.model_version][item.item_id] for item in one.slate}
        assert {item.item_id: item.score for item in one.slate} == pytest.approx(scores, rel=1e-4)

    assert [row["version"] for row in json.loads(run("list", "--json")) if row["live"]] == [second]
    assert f"{first} is back" in run("rollback")
    wait_until(lambda: client.ask("u0", k=3).model_version == first, "the first release is back")
    third = damaged(folders[0], store, tmp_path)
    assert "is not what it says" in run("promote", third)
    promote_unchecked(kafka_settings, third)
    wait_until(lambda: refusals(worker) == 1, "the damaged release is refused")
    assert client.ask("u0", k=3).model_version == first
    wait_until(lambda: history()[-1]["change"] == "refuse", "the refusal is on the topic")

    kinds = ["promote", "promote", "rollback", "promote", "rollback", "promote", "refuse"]
    assert [change["change"] for change in history()] == kinds
    assert (history()[0]["by"], history()[0]["reason"]) == ("ann", "the first")
    assert history()[3]["by"].endswith(", console")
    assert history()[3]["reason"] == "it was no fault"
    assert "must have SHA-256" in history()[-1]["reason"]
    assert run("history", "--at", "2001-01-01").strip() == "none"
    assert [change["change"] for change in json.loads(run("history", "--last", "2", "--json"))] == kinds[-2:]
    shown = run("history", "--last", "1")
    assert "refuse" in shown
    assert "rollback" not in shown
    assert "6 earlier ones are shown by --last 7" in shown
    worker.stop()
    assert start_worker(release_store=str(store)).is_ready()
    assert client.ask("u0", k=3).model_version == first
    assert [change["change"] for change in history()] == kinds
    run("rollback")
    assert f"{second} would be deleted" in run("gc", "--keep", "1")
    assert f"{second} deleted" in run("gc", "--keep", "1", "--yes")


def scores_of(client: Client) -> dict[str, float]:
    """What each item scores now, for whoever has done nothing."""
    return {item.item_id: item.score for item in client.ask("u0", k=len(ITEMS)).slate}


def damaged(folder: Path, store: Path, tmp_path: Path) -> str:
    """Put a release into the store and damage it there; return its version."""
    version = run("put", str(variant(folder, tmp_path / "third", gain=1.3))).split()[0]
    (store / version / RANKER).write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "cache" / "slatestream" / "releases" / version, ignore_errors=True)
    return version


def promote_unchecked(settings: Settings, version: str) -> None:
    """Write the record that `promote` would not write."""
    asyncio.run(publish_change(settings, "promote", version, by="eve"))


def refusals(worker: WorkerProcess) -> float:
    found = worker.metrics()
    return 0.0 if found is None else found.total("releases_refused_total")


def history() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run("history", "--json"))
    return found
