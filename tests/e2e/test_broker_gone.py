"""A broker that does not answer: the worker says so, keeps nobody waiting, and goes on when it is back."""

import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import create_topics
from streams.settings import load_settings
from streams.worker.process import WorkerProcess, same_topics
from tests.e2e.client import wait_until
from tests.e2e.conftest import FAST
from tests.frozen import frozen

SESSION_MS = 3_000


def status(worker: WorkerProcess, path: str) -> int:
    try:
        with urllib.request.urlopen(f"{worker.url}{path}", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def reachable(worker: WorkerProcess) -> tuple[float, float]:
    reading = worker.metrics()
    assert reading is not None
    return reading.total("broker_reachable"), reading.total("ready")


def test_a_silent_broker_is_told_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        settings = load_settings(
            bootstrap_servers=broker.bootstrap_servers, topic_prefix="gone.", partitions=1
        )
        create_topics(settings)
        values = same_topics(settings, **(FAST | {"session_timeout_ms": SESSION_MS}))
        with WorkerProcess(values, log=tmp_path / "worker.log") as worker, ThreadPoolExecutor(1) as beside:
            worker.wait_ready()
            assert status(worker, "/v1/recommendations/u") == 200
            assert reachable(worker) == (1, 1)
            with frozen(broker.pid):
                asked = time.monotonic()
                hanging = beside.submit(status, worker, "/v1/recommendations/u")
                wait_until(lambda: reachable(worker) == (0, 0), "the metrics say that the broker is gone")
                assert status(worker, "/readyz") == 503
                assert status(worker, "/v1/recommendations/u") == 503
                assert hanging.result() == 503
                # A send to a silent broker fails after 40 s by itself.
                assert time.monotonic() - asked < 38
            wait_until(lambda: reachable(worker) == (1, 1), "the broker is back")
            wait_until(lambda: status(worker, "/v1/recommendations/u") == 200, "the worker answers again")
