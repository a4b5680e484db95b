"""verify at a larger scale, and where the broker dies meanwhile: it ends, in bounded time and memory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.bench.world import catalogue_rows, history_rows, publish_all
from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import create_topics
from streams.settings import Settings, load_settings
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.e2e.conftest import FAST

USERS, ITEMS, EACH = 10_000, 1_700, 20
MAX_BYTES = 700 << 20
END_S = 120.0  # from the death of the broker


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """A broker that may be killed."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    """Topics with 200,000 clicks."""
    settings = load_settings(
        bootstrap_servers=broker.bootstrap_servers, topic_prefix="many.", group_id="many", partitions=4
    )
    create_topics(settings)
    publish_all(settings, "item-state", catalogue_rows(ITEMS, settings.partitions))
    assert publish_all(settings, "clicks", history_rows(USERS, ITEMS, each=EACH)) == USERS * EACH
    return settings


@pytest.mark.skipif("CHAOS_RUNS" not in os.environ, reason="make chaos")
@pytest.mark.timeout(1_800)
def test_200_000_clicks_are_checked_and_a_check_ends_whose_broker_dies(
    broker: EmbeddedBroker,
    settings: Settings,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    command = [sys.executable, "-m", "streams.cli", "verify", "--json", "--url"]
    variables = os.environ | environment(same_topics(settings, **FAST))
    with WorkerProcess(same_topics(settings, **FAST), log=tmp_path / "worker.log") as worker:
        worker.wait_ready()
        began = time.monotonic()
        with subprocess.Popen([*command, worker.url], env=variables, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = json.loads(process.stdout.read())
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert said["equal"]
        assert sum(part["rows"]["users"] for part in said["partitions"]) >= USERS
        record_property("verify, s", round(time.monotonic() - began, 1))
        record_property("verify, MiB", used.ru_maxrss // 1024)
        assert 1024 * used.ru_maxrss < MAX_BYTES

        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([*command, worker.url], env=variables, **pipes) as process:  # type: ignore[call-overload]
            assert "partition 0" in process.stderr.readline()  # it folds
            os.kill(broker.pid, signal.SIGKILL)
            out, _ = process.communicate(timeout=END_S)
        assert (process.returncode, "no broker has answered" in out) == (3, True), out
