"""Releases in a store: promoted, served after a restart, refused when damaged, rolled back."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_core.network.config import ModelConfig
from model_core.release.folder import MANIFEST, RANKER, sign_manifest
from streams.bench.world import random_release
from streams.cli import app
from streams.errors import SlatestreamError
from streams.settings import Settings
from streams.worker.process import environment, same_topics
from tests.e2e.client import Client, film
from tests.e2e.conftest import StartWorker

SMALL = ModelConfig(dim=16, layers=1, history_length=8, n_neighbours=4, n_affinities=4, feature_dim=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases of the same graphs, for which a like counts differently."""
    first = random_release(tmp_path_factory.mktemp("made") / "first", known=50, config=SMALL)
    second = first.with_name("second")
    shutil.copytree(first, second)
    manifest = json.loads((second / MANIFEST).read_text())
    manifest["actions"]["like"] += 1.0
    sign_manifest(second, manifest)
    return first, second


def run(*arguments: str) -> str:
    """What a command of `slatestream release` prints, or the message that it would end with."""
    done = CliRunner().invoke(app, ["release", *arguments])
    if isinstance(done.exception, SlatestreamError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_release_is_promoted_served_refused_when_damaged_and_rolled_back(
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
    client.content(*(film(f"i{n}", f"Film {n}", genre=["western"]) for n in range(20)))
    first, second = (run("put", str(folder)).split()[0] for folder in folders)

    assert "live" not in run("list")
    assert "no release served before" in run("rollback")
    assert f"{first} is promoted" in run("promote", first[:8], "--reason", "the first", "--by", "ann")
    assert f"{first} serves already" in run("promote", first)
    assert "names none of" in run("promote", "ffff")
    assert "actions.like" in run("diff", first, second)
    assert json.loads(run("show", first))["version"] == first

    def served() -> str:
        """Version that a worker serves that was started now."""
        worker = start_worker(release_store=str(store))
        found = client.ask("u", k=3).model_version
        worker.stop()
        return found

    assert served() == first
    assert f"{second} is promoted" in run("promote", second)
    assert [row["version"] for row in json.loads(run("list", "--json")) if row["live"]] == [second]
    (store / second / RANKER).write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "cache" / "slatestream" / "releases")
    assert "is not what it says" in run("promote", second)
    assert served() == first

    assert f"{first} is back" in run("rollback", "--reason", "damaged")
    changes = json.loads(run("history", "--json"))
    assert [(change["change"], change["version"]) for change in changes] == [
        ("promote", first), ("promote", second), ("refuse", second), ("rollback", first),
    ]  # fmt: skip
    assert (changes[0]["by"], changes[0]["reason"]) == ("ann", "the first")
    assert "must have SHA-256" in changes[2]["reason"]
    assert run("history", "--at", "2001-01-01").strip() == "none"
    assert run("history", "--at", "2100-01-01").strip() == first
    assert f"{second} would be deleted" in run("gc", "--keep", "1")
    assert f"{second} deleted" in run("gc", "--keep", "1", "--yes")
    assert [row["version"] for row in json.loads(run("list", "--json"))] == [first]
