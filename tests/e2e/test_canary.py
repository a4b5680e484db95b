"""`slatestream canary` against a real worker, well and frozen."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from typer.testing import CliRunner, Result

from streams.canary.probe import NAME
from streams.cli import app
from streams.settings import Settings
from streams.worker.process import DIE_WITH_PARENT, MetricsReading, WorkerProcess, environment, same_topics
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import StartWorker
from tests.frozen import frozen


def once(settings: Settings, *options: str) -> Result:
    return CliRunner().invoke(
        app,
        ["canary", "--once", "--timeout", "60", *options],
        env=environment(same_topics(settings)) | {"COLUMNS": "400"},
    )


def check_round_trips(settings: Settings, worker: WorkerProcess) -> None:
    """They are measured until the command is told to stop."""
    variables = os.environ | environment(same_topics(settings)) | {"COLUMNS": "400"}
    options = ["--port", "0", "--every", "0.1", "--timeout", "60", "--url", worker.url]
    running = subprocess.Popen(
        [*DIE_WITH_PARENT, sys.executable, "-u", "-m", "streams.cli", "canary", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables,
    )  # fmt: skip
    with running:
        assert running.stdout is not None
        url = running.stdout.readline().split()[-1]

        def reading() -> MetricsReading:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return MetricsReading(answer.read().decode())

        wait_until(
            lambda: reading().total("canary_round_trip_seconds_count") >= 3 * settings.partitions,
            "trips are made",
        )
        found = reading()
        assert found.total("canary_failures_total") == 0
        assert found.total("canary_trips_total") >= found.total("canary_round_trip_seconds_count")
        running.send_signal(signal.SIGTERM)
        assert running.wait(120) == 130


def test_a_worker_that_is_well_passes_and_is_measured_and_one_that_is_frozen_or_has_no_items_does_not(
    kafka_settings: Settings, client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker()
    partitions = kafka_settings.partitions
    bare = once(kafka_settings)
    assert bare.exit_code == 1
    assert bare.stdout.count("empty: no item in the slate (no_candidates)") == partitions

    client.content(film("a", "A", genre=["Drama"]))
    wait_until(lambda: bool(client.ask("nobody", k=1).slate), "the item is served")
    well = once(kafka_settings, "--url", worker.url)
    assert (well.exit_code, well.stdout) == (0, f"{partitions} of {partitions} partitions are well\n")

    deaf = once(kafka_settings, "--url", "http://127.0.0.1:1")
    assert deaf.exit_code == 1
    assert deaf.stdout.count("http: canary: no worker answers at http://127.0.0.1:1") == partitions

    check_round_trips(kafka_settings, worker)
    assert NAME not in [item.item_id for item in client.ask("nobody", k=9).slate]

    with frozen(worker.pid):
        unanswered = once(kafka_settings, "--timeout", "0.5")
    assert unanswered.exit_code == 1
    assert unanswered.stdout.count("slate: nothing within 0.5 s") == partitions
    again = once(kafka_settings, "--json")
    assert json.loads(again.stdout) == {"partitions": partitions, "failed": 0, "why": []}


@pytest.mark.parametrize("url", ["localhost:6066", "ftp://x"])
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    done = CliRunner().invoke(app, ["canary", "--once", "--url", url])
    assert str(done.exception) == f"--url must begin with http:// or https:// and a host, got {url!r}"
