import sys

import pytest

from streams.metrics import Metrics
from streams.settings import load_settings
from streams.worker import process as worker_process
from streams.worker.process import MetricsReading, WorkerError, WorkerProcess, environment


def test_settings_survive_the_environment(monkeypatch):
    values = {
        "topic_prefix": "demo-",
        "partitions": 8,
        "actions": {"view": 0.5, "click": 1.0},
        "recommend_on": ("click",),
        "require_gpu": True,
        "release": None,
    }
    for name, value in environment(values).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    for name, value in values.items():
        assert getattr(settings, name) == value


def test_a_reading_sums_over_the_labels_that_are_not_named():
    metrics = Metrics()
    metrics.count_events("clicks", "accepted", 5)
    metrics.count_events("clicks", "duplicate", 2)
    metrics.count_events("users", "accepted", 1)
    reading = MetricsReading(metrics.render()[0].decode())
    assert reading.total("events_total", topic="clicks") == 7
    assert reading.total("events_total", outcome="accepted") == 6
    assert reading.total("process_resident_memory_bytes") > 2**20
    assert reading.total("no_such_metric") == 0


def test_a_worker_that_ends_is_reported_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(
        worker_process, "DIE_WITH_PARENT", (sys.executable, "-c", "raise SystemExit('no luck')")
    )
    with (
        WorkerProcess({}, log=tmp_path / "logs" / "worker.log") as worker,
        pytest.raises(WorkerError, match=r"ended with code 1; its last words:\nno luck"),
    ):
        worker.wait_ready(timeout_s=120)


def test_a_worker_that_never_gets_ready_is_given_up_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(
        worker_process, "DIE_WITH_PARENT", (sys.executable, "-c", "import time; time.sleep(60)")
    )
    worker = WorkerProcess({}, log=tmp_path / "worker.log")
    worker.start()
    with pytest.raises(WorkerError, match="not ready after 0 s"):
        worker.wait_ready(timeout_s=0.3)
    assert worker.metrics() is None
    assert worker.stop() == -15
    assert worker.stop() is None
