"""From the topics to a release and back: train on what Kafka holds, measure, serve and explain it."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from model_core.release.folder import read_release
from streams.cli import main
from streams.commands.evaluate import evaluate_command
from streams.commands.train import train_command
from streams.events import UserUpdate
from streams.settings import Settings
from streams.worker.process import WorkerProcess
from tests.e2e.client import Client, contributed, film, item_ids, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_loop import http

GENRES = ("western", "musical")
DIRECTORS = {"western": "Sergio Leone", "musical": "Stanley Donen"}
HATS = ("stetson", "top hat")


def test_a_release_trained_from_the_topics_is_measured_served_and_explained(
    client: Client,
    kafka_settings: Settings,
    start_worker: StartWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish_the_world(client)
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
    monkeypatch.setenv("SLATESTREAM_TOPIC_PREFIX", kafka_settings.topic_prefix)
    release = tmp_path / "release"
    train_command(from_topics=True, out=release, epochs=12, config=None)
    figures = tmp_path / "figures.json"
    evaluate_command(release, from_topics=True, report=figures, config=None)
    recall = {name: of["recall"]["mean"] for name, of in json.loads(figures.read_text())["accuracy"].items()}
    assert recall["slatestream"] > 1.5 * recall["popularity"], recall

    # More items are met than the matrix of described ones has rows: they must do no harm.
    for n in range(300):
        client.click("stranger", f"never-described-{n}")
    client.flush()
    # Slates that nobody clicks would teach the policy otherwise: this is about what the release knows.
    worker = start_worker(release=str(release), policy="greedy", prior_precision=1e9)
    # Ready means caught up: the films published before the worker started are known.
    slate = client.ask("u0", k=10)
    assert slate.model_version == read_release(release).version
    assert slate.fallback is None
    assert len(slate.slate) == 10
    assert {item.split("-")[0] for item in item_ids(slate)} == {"western"}
    check_explanations(client, worker, http(worker, "/v1/recommendations/u0?k=5")[1]["slate"])
    check_the_command(worker, item_ids(slate)[0], monkeypatch, capsys)

    client.content(
        *(
            film(f"{genre}-new", f"A {genre} film, part 31", genre=[genre], directed_by=[DIRECTORS[genre]])
            for genre in GENRES
        )
    )
    new = {f"{genre}-new" for genre in GENRES}
    wait_until(lambda: new <= set(item_ids(client.ask("u0", k=62))), "the new films are known")
    for user in range(4):  # of two films that nobody has met, the one of the user's kind comes first
        order = [name for name in item_ids(client.ask(f"u{user}", k=62)) if name in new]
        assert order[0] == f"{GENRES[user % 2]}-new", (user, order)


def publish_the_world(client: Client) -> None:
    """Sixty films of two genres, and forty users who state what they are and like films of one."""
    client.content(
        *(
            film(f"{genre}-{n}", f"A {genre} film, part {n}", genre=[genre], directed_by=[DIRECTORS[genre]])
            for genre in GENRES
            for n in range(30)
        )
    )
    client.now_ms -= 10_000_000
    rng = random.Random(0)
    liked = [rng.sample(range(30), 12) for _ in range(40)]
    for user in range(len(liked)):
        client.send(
            "users", f"u{user}", UserUpdate(f"u{user}", {"hat": HATS[user % 2], "age": str(20 + user)})
        )
    for turn in range(12):
        for user, films in enumerate(liked):
            client.click(f"u{user}", f"{GENRES[user % 2]}-{films[turn]}")
    client.flush()


def check_explanations(client: Client, worker: WorkerProcess, slate: list[dict[str, Any]]) -> None:
    evidence = [one for item in slate for one in item["evidence"]]
    assert {one["signal"] for one in evidence} == {"covisits", "ease"}
    assert all(one["item_id"].startswith("western-") and one["share"] > 0 for one in evidence)
    assert len(http(worker, "/v1/recommendations/stranger")[1]["slate"]) == 10

    item = slate[0]["item_id"]
    status, answer = http(worker, f"/v1/explanations/u0/{item}")
    assert status == 200
    assert answer["unit"] == "logit"
    assert answer["eligible"]
    assert answer["score"] == pytest.approx(slate[0]["score"], abs=1e-3)
    assert contributed(answer) == pytest.approx(answer["value"], abs=1e-4)
    assert abs(answer["completeness_error"]) < 1e-4
    assert sum(answer["groups"].values()) == pytest.approx(answer["value"] - answer["base"], abs=1e-4)
    assert {"history", "entity", "text", "graph", "id", "covisits", "popularity", "ease"} <= set(
        answer["groups"]
    )
    assert answer["path"]["entity"] in ("western", "Sergio Leone")
    assert answer["path"]["item_id"].startswith("western-")
    assert answer["title"] in answer["summary"]
    # Nobody has seen this user do anything; what they state is read.
    client.send("users", "rider", UserUpdate("rider", {"hat": "stetson", "age": "33"}, ["western"]))
    client.flush()
    wait_until(lambda: http(worker, f"/v1/explanations/rider/{item}")[0] == 200, "the rider is known")
    parts = http(worker, f"/v1/explanations/rider/{item}")[1]["contributions"]
    near = {part["name"] for part in parts if part["kind"] == "entity"}
    assert near == {"hat=stetson", "age=30s", "western"}
    stranger = http(worker, f"/v1/explanations/stranger/{item}")[1]
    assert stranger["path"] is None
    assert contributed(stranger) == pytest.approx(stranger["value"], abs=1e-4)


def check_the_command(
    worker: WorkerProcess, item: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["slatestream", "explain", *arguments, "--url", worker.url])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    capsys.readouterr()
    assert run("u0", item) == 0
    shown = capsys.readouterr().out
    assert "nothing known of" in shown
    assert "completeness error" in shown
    assert "path: u0" in shown
    assert run("u0", item, "--json") == 0
    assert json.loads(capsys.readouterr().out)["item_id"] == item
    assert run("nobody", item) == 2
    assert "user 'nobody' is not known" in capsys.readouterr().err
