"""From the topics to a release and back: train on what Kafka holds, serve the release, new items included."""

import json
import random
from pathlib import Path

import pytest

from model_core.release import read_release
from streams.evaluate import evaluate_command
from streams.settings import Settings
from streams.train import train_command
from tests.e2e.client import Client, film, item_ids, wait_until
from tests.e2e.conftest import StartWorker

GENRES = ("western", "musical")
DIRECTORS = {"western": "Sergio Leone", "musical": "Stanley Donen"}


def test_a_model_trained_from_the_topics_gives_new_items_to_the_right_users(
    client: Client,
    kafka_settings: Settings,
    start_worker: StartWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(0)
    items = [
        film(f"{genre}-{n}", f"A {genre} film, part {n}", genre=[genre], directed_by=[DIRECTORS[genre]])
        for genre in GENRES
        for n in range(30)
    ]
    client.content(*items)
    client.now_ms -= 10_000_000
    liked = [rng.sample(range(30), 12) for _ in range(40)]
    for turn in range(12):
        for user, films in enumerate(liked):
            client.click(f"u{user}", f"{GENRES[user % 2]}-{films[turn]}")
    client.flush()
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
    monkeypatch.setenv("SLATESTREAM_TOPIC_PREFIX", kafka_settings.topic_prefix)
    release = tmp_path / "release"
    train_command(from_topics=True, out=release, epochs=12, config=None)
    figures = tmp_path / "figures.json"
    evaluate_command(release, from_topics=True, json_file=figures, config=None)
    recall = {name: of["recall"]["mean"] for name, of in json.loads(figures.read_text())["accuracy"].items()}
    assert recall["slatestream"] > 1.5 * recall["popularity"], recall
    # Slates that nobody clicks would teach the policy otherwise: this is about what the release knows.
    worker = start_worker(release=str(release), policy="greedy", prior_precision=1e9)
    # Ready means caught up: the films published before the worker started are known.
    slate = client.ask("u0", k=10)
    assert len(slate.slate) == 10
    assert slate.model_version == read_release(release).version
    assert slate.fallback is None
    assert {item.split("-")[0] for item in item_ids(slate)} == {"western"}
    client.content(
        film("western-new", "A western film, part 31", genre=["western"], directed_by=["Sergio Leone"])
    )
    wait_until(lambda: "western-new" in item_ids(client.ask("u0", k=40)), "the new film is known")
    places = {user: item_ids(client.ask(user, k=61)).index("western-new") for user in ("u0", "u1")}
    assert places["u0"] + 2 < places["u1"], places
    assert worker.metrics() is not None
