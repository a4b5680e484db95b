"""A worker process on topics of its own, and a client beside it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.settings import Settings
from streams.worker.process import COMMAND, WorkerProcess, same_topics
from tests.conftest import settings_maker, with_topics
from tests.e2e.client import Client

StartWorker = Callable[..., WorkerProcess]

FAST = {
    "flush_interval_ms": 100,
    "shared_flush_interval_ms": 200,
    # On a machine that is busy with other tests nobody is to be given up, refused or answered too early.
    "session_timeout_ms": 20_000,
    "read_your_writes_ms": 60_000,
    "max_queue_ms": 60_000,
    "text_encoder": "none",  # loading a transformer takes seconds; the tests of content ask for one
}
"""Settings of a worker in a test: it flushes often, and waits long."""


@contextmanager
def site(broker: EmbeddedBroker, log: Path, **overrides: Any) -> Iterator[tuple[Client, WorkerProcess]]:
    """A worker on topics of its own, and a client, for the tests of a module that need no other settings."""
    with with_topics(settings_maker(broker)()) as settings:
        values = same_topics(settings, **(FAST | overrides))
        with Client(settings) as client, WorkerProcess(values, log=log) as worker:
            worker.wait_ready()
            yield client, worker


@pytest.fixture
def client(kafka_settings: Settings) -> Iterator[Client]:
    with Client(kafka_settings) as client:
        yield client


@pytest.fixture
def start_worker(kafka_settings: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts workers on the test's topics and waits until they are ready; all end with the test."""
    with ExitStack() as stack:
        count = 0

        def start(*, command: Sequence[str] = COMMAND, **overrides: Any) -> WorkerProcess:
            nonlocal count
            count += 1
            values = same_topics(kafka_settings, **(FAST | overrides))
            worker = WorkerProcess(values, log=tmp_path / f"worker-{count}.log", command=command)
            stack.enter_context(worker)
            worker.wait_ready()
            return worker

        yield start
