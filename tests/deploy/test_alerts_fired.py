"""Alerts that fire because the real thing is broken, and resolve once it is mended.

A real Prometheus scrapes a real worker every second, by the committed rules in which a minute is a second.
"""

import hashlib
import os
import re
import secrets
import signal
import time
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
from tests.deploy.live import FILMS, Prometheus, beside, quicker
from tests.deploy.test_alerts import alerts
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import FAST

PARTITIONS = 2
TOKEN = secrets.token_hex(16)
SMALL_BYTES = 200_000  # of slates that wait for their rewards: a few dozen
NUMBERS = count()

NOT_BROKEN_HERE = {
    "SlatestreamRestarts": "takes three starts of a worker",
    "SlatestreamErrorBudgetBurnsSlowly": "looks back over days",
    "SlatestreamBehind": "a record has to wait for over a minute",
    "SlatestreamOwnClicksMissed": "clicks have to come faster than this machine folds them",
    "SlatestreamClicksMeetNoSlate": "looks back over an hour and waits for another",
    "SlatestreamScoresDrift": "looks back over a week",
    "SlatestreamReleaseOld": "takes a release of a month ago",
    "SlatestreamReleasesDiffer": "takes two releases, and PyTorch to make them",
    "SlatestreamErrorsLogged": "takes a mistake of the program",
    "SlatestreamCandidateBetter": "takes an hour of feedback",
}
"""Alert -> why none of the cases below makes it fire; promtool tries them all in alerts_test.yml."""


@dataclass
class Site:
    """What runs; of the evaluation its process id."""

    broker: EmbeddedBroker
    worker: WorkerProcess
    client: Client
    prometheus: Prometheus
    evaluation: int

    def ask(self, user: str, *, token: str = TOKEN) -> int:
        asked = urllib.request.Request(
            f"{self.worker.url}/v1/recommendations/{user}?k=3", headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
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
        known = {"sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "scopes": ["recommend", "admin"]}
        more = {
            "session_timeout_ms": 3_000, "http_tokens": {"all": known}, "pending_slates_bytes": SMALL_BYTES,
        }  # fmt: skip
        values = same_topics(settings, **(FAST | more))
        worker = stack.enter_context(WorkerProcess(values, log=folder / "worker.log"))
        client = stack.enter_context(Client(settings))
        worker.wait_ready()
        client.content(*FILMS)
        for item in FILMS:
            client.click("sated", item.item_id)
        client.flush()
        evaluation, evaluation_pid = stack.enter_context(beside(settings, "ope"))
        canary, _ = stack.enter_context(beside(settings, "canary", "--timeout", "2"))
        targets = {
            "slatestream": [worker.url.removeprefix("http://")],
            "slatestream-ope": [evaluation],
            "slatestream-canary": [canary],
        }
        prometheus = Prometheus(prometheus_program, folder, targets, minutes_as_seconds=True, token=TOKEN)
        stack.callback(prometheus.stop)
        wait_until(lambda: prometheus.has("slatestream_ready == 1"), "the worker is scraped")
        yield Site(broker, worker, client, prometheus, evaluation_pid)


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


def test_a_frozen_worker_and_a_frozen_evaluation_are_told_and_the_canary_meets_it(site: Site) -> None:
    told = ("SlatestreamDown", "SlatestreamEvaluationDown", "SlatestreamCanaryFails")
    with frozen(site.worker.pid), frozen(site.evaluation):
        fires(site, *told)
    resolves(site, *told)


def test_a_worker_that_gets_too_little_of_the_processor_is_told(site: Site) -> None:
    def starve() -> None:
        with frozen(site.worker.pid):
            time.sleep(0.25)  # what is broken, and not a wait for anything

    fires(site, "SlatestreamLoopHeld", meanwhile=starve)
    resolves(site, "SlatestreamLoopHeld")


def test_a_silent_broker_is_told_and_costs_availability(site: Site) -> None:
    told = ("SlatestreamBrokerUnreachable", "SlatestreamNotReady", "SlatestreamErrorBudgetBurnsFast")
    with frozen(site.broker.pid):
        fires(site, *told, meanwhile=lambda: site.ask("u"))
    resolves(site, *told)


def test_what_producers_callers_and_operators_do_wrong_is_told_each_by_its_own_alert(site: Site) -> None:
    """All at once, for each takes its time to fire and to resolve."""
    told = (
        "SlatestreamDeadLetters", "SlatestreamWrongPartition", "SlatestreamFallbacks",
        "SlatestreamTokensRefused", "SlatestreamSlatesGivenUp", "SlatestreamExperimentRefused",
    )  # fmt: skip
    fired: set[str] = set()

    def do() -> None:
        number = next(NUMBERS)
        site.client.send("clicks", "bad", b"{")
        misplaced = {"event_id": f"m{number}", "user_id": "m", "item_id": "f0", "action": "view",
                     "timestamp_ms": site.client.now_ms + number}  # fmt: skip
        site.client.send("clicks", "m", misplaced, partition=1 - partition_of("m", PARTITIONS))
        site.client.flush()
        site.ask("sated")  # who has seen everything
        site.ask("u", token="guessed")
        site.ask(f"u{number}")  # more slates than there is room for
        fired.update(site.prometheus.firing())

    site.client.send("experiments", "mistaken", b"{")
    wait_until(lambda: do() or set(told) <= fired, f"{', '.join(told)} fire")  # type: ignore[func-returns-value]
    wait_until(
        lambda: not set(told) & site.prometheus.firing(), f"{', '.join(told)} resolve", timeout_s=120.0
    )


def test_every_alert_is_fired_here_or_it_is_said_why_not() -> None:
    cases = Path(__file__).read_text().partition("# Cases")[2]
    fired = set(re.findall(r'"(Slatestream\w+)"', cases))
    assert fired | NOT_BROKEN_HERE.keys() == alerts().keys()
    assert not fired & NOT_BROKEN_HERE.keys()


def test_quicker_rules_have_a_second_for_a_minute() -> None:
    assert quicker("for: 5m\n sum(rate(a_5m[10m])) [1h] [3d]") == "for: 5s\n sum(rate(a_5m[10s])) [60s] [3d]"
