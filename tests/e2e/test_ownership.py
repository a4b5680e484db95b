"""Who speaks for a partition: a worker that was frozen, one that owns nothing, one the group refuses."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from streams.errors import SlatestreamError
from streams.kafka.topic_admin import admin_client
from streams.kafka.topics import topic_name
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics
from tests.conftest import SettingsFactory, with_topics
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import FAST, StartWorker
from tests.e2e.test_recovery import folded_digest, live_digest, owned
from tests.frozen import frozen

SESSION_MS = 3_000


def readiness(worker: WorkerProcess) -> dict[str, object]:
    with urllib.request.urlopen(f"{worker.url}/readyz", timeout=30) as answer:
        return dict(json.loads(answer.read()))


@pytest.mark.timeout(600)
def test_a_worker_that_was_frozen_overwrites_nothing_and_repeats_no_slate(
    client: Client, start_worker: StartWorker
) -> None:
    first = start_worker(session_timeout_ms=SESSION_MS)
    client.content(*(film(f"i{n}", f"Film {n}") for n in range(20)))
    requests = []

    def traffic(begin: int, end: int) -> None:
        for n in range(begin, end):
            client.click(f"u{n % 23}", f"i{n * 3 % 20}")
            if n % 10 == 0:
                requests.append(client.request(f"u{n % 23}"))
        client.flush()

    traffic(0, 300)
    with frozen(first.pid):
        traffic(300, 400)  # read by nobody yet; part of it is perhaps on its way to the frozen worker
        second = start_worker(session_timeout_ms=SESSION_MS)
        wait_until(lambda: owned(second) == 4, "the second worker owns everything")
        traffic(400, 800)
        wait_until(lambda: len(client.records("clicks")) == 800, "the log is read")
        expected = folded_digest(client)
        wait_until(lambda: live_digest(second) == expected, "the second worker has folded everything")
    wait_until(lambda: owned(first) == owned(second) == 2, "the partitions are shared again")
    traffic(800, 1_000)
    wait_until(lambda: len(client.records("clicks")) == 1_000, "the whole log is read")
    wait_until(
        lambda: set(requests) <= {slate.request_id for slate in client.recommendations()},
        "every request is answered",
    )
    slates = Counter(slate.request_id for slate in client.recommendations())
    assert [name for name, times in slates.items() if times > 1] == []
    first.stop()
    wait_until(lambda: owned(second) == 4, "the second worker has the rest back")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(second) == expected, "what is restored is the fold of the log")


@pytest.mark.timeout(600)
def test_a_worker_without_partitions_is_ready_and_sends_users_to_the_owners(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    with with_topics(make_settings(partitions=1)) as settings, ExitStack() as stack:
        values = same_topics(settings, **(FAST | {"session_timeout_ms": SESSION_MS}))
        workers = [
            stack.enter_context(WorkerProcess(values, log=tmp_path / f"worker-{n}.log")) for n in range(2)
        ]
        for worker in workers:
            worker.wait_ready()
        wait_until(lambda: sorted(map(owned, workers)) == [0, 1], "one worker is left over")
        standby = next(worker for worker in workers if owned(worker) == 0)
        assert readiness(standby)["partitions"] == 0
        url = f"{standby.url}/v1/recommendations/u1"
        wait_until(lambda: _status(url) == 200, "it redirects to the owner")


@pytest.mark.timeout(600)
def test_a_refused_changelog_row_ends_the_worker_and_loses_no_click(
    client: Client, start_worker: StartWorker, tmp_path: Path
) -> None:
    client.click("u1", "i1")
    client.click("u1", "i2")
    client.flush()
    values = same_topics(client.settings, **FAST)
    with (
        _max_message_bytes(client.settings, "user-state", 100),
        WorkerProcess(values, log=tmp_path / "refused.log") as worker,
    ):
        wait_until(lambda: not _runs(worker), "the worker has ended")
        assert "stopping without committing" in worker.log_tail(200)
    restarted = start_worker()
    wait_until(lambda: len(client.records("clicks")) == 2, "the log is read")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(restarted) == expected, "both clicks are folded after the restart")


@pytest.mark.timeout(300)
def test_a_worker_with_a_name_has_its_partitions_back_without_waiting_for_its_former_session(
    client: Client, start_worker: StartWorker
) -> None:
    named = {"instance_id": "one", "session_timeout_ms": 600_000}
    worker = start_worker(**named)
    for n in range(100):
        client.click(f"u{n % 7}", f"i{n % 5}")
    client.ask("u1")
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    request = client.request("u2")
    again = start_worker(**named)
    client.recommendation(request)
    wait_until(lambda: len(client.records("clicks")) == 100, "the log is read")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(again) == expected, "all is folded")


def test_a_worker_that_the_group_refuses_says_why_and_ends(kafka_settings: Settings, tmp_path: Path) -> None:
    values = same_topics(kafka_settings, **(FAST | {"session_timeout_ms": 3_600_000}))
    with WorkerProcess(values, log=tmp_path / "worker.log") as worker:
        wait_until(lambda: not _runs(worker), "the worker has ended")
        assert "session_timeout_ms must be from the brokers' group.min.session" in worker.log_tail(200)
        assert worker.stop() == SlatestreamError.exit_code


@contextmanager
def _max_message_bytes(settings: Settings, name: str, limit: int) -> Iterator[None]:
    def change(value: int) -> None:
        resource = ConfigResource(
            ConfigResourceType.TOPIC, topic_name(settings, name), configs={"max.message.bytes": str(value)}
        )
        with admin_client(settings) as admin:
            admin.alter_configs([resource])

    change(limit)
    try:
        yield
    finally:
        change(2 * 1024 * 1024)


def _runs(worker: WorkerProcess) -> bool:
    assert worker.pid is not None
    try:
        return os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
