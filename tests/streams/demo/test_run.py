"""`slatestream demo --serve`: it keeps broker, worker, console and users going until it is told to stop."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import admin_client
from streams.settings import load_settings
from streams.worker.process import MetricsReading
from tests.e2e.client import wait_until
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny, variant

USERS, ITEMS, EVENTS = 20, 60, 50


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Users who give 5 to items of their kind and 2 to others, in RecBole's files."""
    rng, folder = np.random.default_rng(0), tmp_path / "small"
    folder.mkdir()
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for event in range(EVENTS):
        for user in range(USERS):
            kind = (user + (rng.random() < 0.2)) % 2
            item = 2 * ((7 * event + 3 * user) % (ITEMS // 2)) + kind
            rating = 5 if kind == user % 2 else 2
            rows.append(f"u{user}\ti{item}\t{rating}\t{1_000_000 + 60 * event + user}")
    (folder / "small.inter").write_text("\n".join(rows) + "\n")
    items = ["item_id:token\tmovie_title:token_seq\tclass:token_seq"]
    items += [f"i{item}\tFilm {item}\t{'Odd' if item % 2 else 'Even'}" for item in range(ITEMS)]
    (folder / "small.item").write_text("\n".join(items) + "\n")
    return folder


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def test_a_demo_that_serves_keeps_its_users_coming_until_it_is_told_to_stop(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, data: Path, broker: EmbeddedBroker
) -> None:
    trained = once_a_run(tmp_path_factory, "tiny-release", train_tiny)
    release, said = variant(trained, tmp_path / "release"), tmp_path / "said.txt"
    options = ["--seconds", "1", "--users", "5", "--rate", "5", "--serve", "--json"]
    command = [sys.executable, "-m", "streams.cli", "demo", "--data", str(data), "--release", str(release)]
    with (
        said.open("w") as file,
        subprocess.Popen(
            [*command, "--out", str(tmp_path / "out"), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file, text=True,
            env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        ) as process,
    ):  # fmt: skip
        try:

            def serves() -> bool:
                assert process.poll() is None, said.read_text()
                return "Ctrl-C stops broker and worker" in said.read_text()

            wait_until(serves, "it serves")
            shown = said.read_text()
            console = re.search(r"Console: (http://\S+)", shown)
            url = re.search(r"Serving on (http://[^\s/]+)", shown)
            assert console, shown
            assert url, shown
            assert "slatestream" in get(console[1])
            assert len(json.loads(get(f"{url[1]}/v1/recommendations/u1?k=5"))["slate"]) == 5

            def slates() -> float:
                return MetricsReading(get(f"{url[1]}/metrics")).total("slates_total")

            before = slates()
            wait_until(lambda: slates() >= before + 3, "users keep coming")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert "Traceback" not in said.read_text()
    summary = json.loads(out)
    assert process.returncode == (0 if all(check["passed"] for check in summary["checks"]) else 1)
    assert summary["visits"]["answered"] == summary["visits"]["asked"] > 0
    with admin_client(load_settings(bootstrap_servers=broker.bootstrap_servers)) as admin:
        assert not [name for name in admin.list_topics() if name.startswith("demo-")]
