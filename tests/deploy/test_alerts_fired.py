"""Alerts that fire because the real thing is broken, and resolve once it is mended.

A real Prometheus scrapes a real worker every second, by the committed rules in which a minute is a second.
"""

import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.kafka.partitioner import partition_of
from streams.kafka.topic_admin import create_topics
from streams.settings import load_settings
from streams.worker.process import WorkerProcess, same_topics
from tests.deploy.conftest import program
from tests.deploy.live import FILMS, Prometheus, quicker
from tests.deploy.test_alerts import alerts
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import FAST

PARTITIONS = 2
NUMBERS = count()

NOT_BROKEN_HERE = {
    "SlatestreamRestarts": "takes three starts of a worker",
    "SlatestreamErrorBudgetBurnsSlowly": "looks back over days",
    "SlatestreamBehind": "a record has to wait for over a minute",
    "SlatestreamOwnClicksMissed": "clicks have to come faster than this machine folds them",
    "SlatestreamLoopHeld": "nothing that is asked of a worker holds its loop",
    "SlatestreamSlatesGivenUp": "takes 10,000 slates and more",
    "SlatestreamCanaryFails": "is of a process of its own, a canary, and none runs beside this worker",
    "SlatestreamClicksMeetNoSlate": "looks back over an hour and waits for another",
    "SlatestreamReleaseOld": "takes a release of a month ago",
    "SlatestreamReleasesDiffer": "takes two releases, and PyTorch to make them",
    "SlatestreamErrorsLogged": "takes a mistake of the program",
    "SlatestreamExperimentRefused": "takes workers that are set up differently",
    "SlatestreamEvaluationDown": "the same rule as SlatestreamDown, of a process that is not started here",
    "SlatestreamCandidateBetter": "takes an hour of feedback",
}
"""Alert -> why none of the cases below makes it fire; promtool tries them all in alerts_test.yml."""


@dataclass
class Site:
    """What runs."""

    broker: EmbeddedBroker
    worker: WorkerProcess
    client: Client
    prometheus: Prometheus

    def ask(self, user: str) -> int:
        try:
            with urllib.request.urlopen(
                f"{self.worker.url}/v1/recommendations/{user}?k=3", timeout=30
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    prometheus_program, folder = program("prometheus"), tmp_path_factory.mktemp("fired")
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        settings = load_settings(
            bootstrap_servers=broker.bootstrap_servers, topic_prefix="fired.", partitions=PARTITIONS
        )
        create_topics(settings)
        values = same_topics(settings, **(FAST | {"session_timeout_ms": 3_000}))
        worker = stack.enter_context(WorkerProcess(values, log=folder / "worker.log"))
        client = stack.enter_context(Client(settings))
        worker.wait_ready()
        client.content(*FILMS)
        for item in FILMS:
            client.click("sated", item.item_id)
        client.flush()
        targets = {
            "slatestream": [worker.url.removeprefix("http://")],
            "slatestream-ope": [],
            "slatestream-canary": [],
        }
        prometheus = Prometheus(prometheus_program, folder, targets, minutes_as_seconds=True)
        stack.callback(prometheus.stop)
        wait_until(lambda: prometheus.has("slatestream_ready == 1"), "the worker is scraped")
        yield Site(broker, worker, client, prometheus)


@contextmanager
def frozen(pid: int | None) -> Iterator[None]:
    """Let a process keep its connections and do nothing."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def fires(site: Site, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    def do() -> bool:
        meanwhile()
        return set(names) <= site.prometheus.firing()

    wait_until(do, f"{', '.join(names)} fire")


def resolves(site: Site, *names: str) -> None:
    """Wait until they are silent, while ordinary traffic goes on."""

    def do() -> bool:
        site.ask(f"u{next(NUMBERS)}")
        return not set(names) & site.prometheus.firing()

    wait_until(do, f"{', '.join(names)} resolve", timeout_s=120.0)


# Cases


def test_a_frozen_worker_is_told(site: Site) -> None:
    with frozen(site.worker.pid):
        fires(site, "SlatestreamDown")
    resolves(site, "SlatestreamDown")


def test_a_silent_broker_is_told_and_costs_availability(site: Site) -> None:
    told = ("SlatestreamBrokerUnreachable", "SlatestreamNotReady", "SlatestreamErrorBudgetBurnsFast")
    with frozen(site.broker.pid):
        fires(site, *told, meanwhile=lambda: site.ask("u"))
    resolves(site, *told)


def test_poison_records_are_told(site: Site) -> None:
    def poison() -> None:
        site.client.send("clicks", "bad", b"{")
        site.client.flush()

    fires(site, "SlatestreamDeadLetters", meanwhile=poison)
    resolves(site, "SlatestreamDeadLetters")


def test_a_producer_with_another_partitioner_is_told(site: Site) -> None:
    def misplace() -> None:
        number = next(NUMBERS)
        click = {"event_id": f"m{number}", "user_id": "m", "item_id": "f0", "action": "view",
                 "timestamp_ms": site.client.now_ms + number}  # fmt: skip
        site.client.send("clicks", "m", click, partition=1 - partition_of("m", PARTITIONS))
        site.client.flush()

    fires(site, "SlatestreamWrongPartition", meanwhile=misplace)
    resolves(site, "SlatestreamWrongPartition")


def test_users_who_have_seen_everything_are_told(site: Site) -> None:
    fires(site, "SlatestreamFallbacks", meanwhile=lambda: site.ask("sated"))
    resolves(site, "SlatestreamFallbacks")


def test_every_alert_is_fired_here_or_it_is_said_why_not() -> None:
    cases = Path(__file__).read_text().partition("# Cases")[2]
    fired = set(re.findall(r'"(Slatestream\w+)"', cases))
    assert fired | NOT_BROKEN_HERE.keys() == alerts().keys()
    assert not fired & NOT_BROKEN_HERE.keys()


def test_quicker_rules_have_a_second_for_a_minute() -> None:
    assert quicker("for: 5m\n sum(rate(a_5m[10m])) [1h] [3d]") == "for: 5s\n sum(rate(a_5m[10s])) [60s] [3d]"
