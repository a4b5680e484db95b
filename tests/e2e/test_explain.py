"""What a score is made of, from a running worker over HTTP and through the command."""

import json
import random
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from streams.cli import main
from streams.events import UserUpdate
from streams.settings import Settings
from streams.train import train_command
from streams.worker_process import WorkerProcess
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_loop import CATALOGUE, http, published

GENRES = ("western", "musical")
DIRECTORS = {"western": "Sergio Leone", "musical": "Stanley Donen"}
HATS = ("stetson", "top hat")


def run(monkeypatch: pytest.MonkeyPatch, worker: WorkerProcess, *arguments: str) -> int | str | None:
    command = ["slatestream", "explain", *arguments, "--url", worker.url]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def summed(answer: dict[str, object]) -> float:
    contributions = answer["contributions"]
    assert isinstance(contributions, list)
    return float(str(answer["base"])) + sum(one["value"] for one in contributions)


def test_a_score_of_a_release_is_taken_apart(
    client: Client,
    kafka_settings: Settings,
    start_worker: StartWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(0)
    client.content(
        *(
            film(f"{genre}-{n}", f"A {genre} film, part {n}", genre=[genre], directed_by=[DIRECTORS[genre]])
            for genre in GENRES
            for n in range(30)
        )
    )
    client.now_ms -= 10_000_000
    for user in range(40):
        client.send(
            "users", f"u{user}", UserUpdate(f"u{user}", {"hat": HATS[user % 2], "age": str(20 + user)})
        )
        for n in rng.sample(range(30), 12):
            client.click(f"u{user}", f"{GENRES[user % 2]}-{n}")
    client.flush()
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
    monkeypatch.setenv("SLATESTREAM_TOPIC_PREFIX", kafka_settings.topic_prefix)
    release = tmp_path / "release"
    train_command(from_topics=True, out=release, epochs=2, config=None)
    # More items are met than the matrix of described ones has rows: they must do no harm.
    for n in range(300):
        client.click("stranger", f"never-described-{n}")
    client.flush()
    worker = start_worker(release=str(release), policy="greedy", prior_precision=1e9)
    slate = http(worker, "/v1/recommendations/u0?k=5")[1]["slate"]
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
    assert summed(answer) == pytest.approx(answer["value"], abs=1e-4)
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
    assert summed(stranger) == pytest.approx(stranger["value"], abs=1e-4)

    assert run(monkeypatch, worker, "u0", item) == 0
    shown = capsys.readouterr().out
    assert "nothing known of" in shown
    assert "completeness error" in shown
    assert "path: u0" in shown
    assert run(monkeypatch, worker, "u0", item, "--json") == 0
    assert json.loads(capsys.readouterr().out)["item_id"] == item
    assert run(monkeypatch, worker, "nobody", item) == 2
    assert "user 'nobody' is not known" in capsys.readouterr().err


def test_without_a_release_what_serves_instead_is_explained(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker(policy="greedy")
    published(client, worker, *CATALOGUE, film("a/b c", "A slash"))
    for user in ("ann", "bob", "cyd"):
        client.click(user, "alien")
        client.click(user, "blade")
    client.click("eve", "alien")
    client.flush()
    status, answer = http(worker, "/v1/explanations/eve/blade")
    assert status == 200
    assert answer["unit"] == "level"
    assert answer["fallback"] == "no_release"
    assert answer["value"] == pytest.approx(answer["score"] / (1 - answer["score"]))
    assert summed(answer) == pytest.approx(answer["value"], abs=1e-5)
    covisits = [one for one in answer["contributions"] if one["kind"] == "covisits"]
    assert [one["name"] for one in covisits] == ["alien"]
    assert covisits[0]["value"] > 0
    assert "Alien (1979)" in answer["summary"]
    assert not http(worker, "/v1/explanations/eve/alien")[1]["eligible"]  # seen
    assert http(worker, f"/v1/explanations/eve/{quote('a/b c', safe='')}")[0] == 200
    for path, wanted, reason in (
        ("nobody/alien", 404, "user 'nobody' is not known"),
        ("eve/no-such-film", 404, "is not in the catalogue"),
        ("eve/" + "i" * 600, 400, "item_id must have 1 to 512 characters, got 600"),
        ("eve/alien?k=3", 400, "unknown parameter 'k'"),
    ):
        status, refused = http(worker, f"/v1/explanations/{path}")
        assert (status, reason in refused["error"]) == (wanted, True), refused
    client.send("content", "diner", None)
    client.flush()
    wait_until(lambda: http(worker, "/v1/explanations/eve/diner")[0] == 404, "the deleted film is not known")
