"""Alerts that fire because the real thing is broken, and resolve once it is mended.

A real Prometheus scrapes a real worker every second, by the committed rules with windows of seconds. To fire
and to resolve takes time, so what is broken is broken together.
"""

import asyncio
import hashlib
import json
import os
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import NewTopic

from model_core.release.folder import MANIFEST, RANKER
from streams.broker.embedded import EmbeddedBroker
from streams.events import Request
from streams.kafka.partitioner import partition_of
from streams.kafka.topic_admin import admin_client, create_topics
from streams.releases.actions import trial_of
from streams.releases.changes import publish_change
from streams.releases.store import ReleaseStore
from streams.settings import Settings, load_settings
from streams.worker.process import WorkerProcess, same_topics
from tests.deploy.conftest import program
from tests.deploy.live import RULES, Prometheus, beside, quicker
from tests.deploy.test_alerts import alerts
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import FAST
from tests.frozen import frozen
from tests.model_core.tiny import WEIGHTS
from tests.once import once_a_run
from tests.registry_server import RegistryServer, avro, registry_server
from tests.streams.releases.made import train_tiny, variant

PARTITIONS = 2
MAPPING = """
registry = "{registry}"
[[source]]
topic = "fired.people"
feeds = "users"
format = "avro"
[source.fields]
user_id = "who"
"""
PERSON = {"type": "record", "name": "Person", "fields": [{"name": "who", "type": "string"}]}
TOKEN = secrets.token_hex(16)
FILMS = [film(f"f{number}", f"Film {number}", genre=["Drama"]) for number in range(30)]
LIKED = "f7"
WINDOW_MS = 300
SMALL_BYTES = 200_000  # of slates that wait for their rewards: a few dozen
MONTH_S = 31 * 86_400
POLL_S = 0.2  # rules are evaluated once a second: asked without a pause, Prometheus has no time for them
NUMBERS = count()


@dataclass
class Site:
    """What runs; of the evaluation its process id."""

    settings: Settings
    values: dict[str, Any]
    folder: Path
    broker: EmbeddedBroker
    worker: WorkerProcess
    client: Client
    registry: RegistryServer
    prometheus: Prometheus
    evaluation: int

    def ask(self, user: str, *, token: str = TOKEN, k: int = 3, **more: Any) -> dict[str, Any]:
        """What a user is answered; of a refusal a problem with its status."""
        asked = urllib.request.Request(
            f"{self.worker.url}/v1/recommendations/{user}",
            data=json.dumps({"k": k, **more}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            with error:
                return {"status": error.code}

    def click(self, user: str, item: str, action: str = "like", **fields: Any) -> None:
        """Click now."""
        self.client.click(user, item, action, timestamp_ms=int(1000 * time.time()), **fields)

    def visit(self) -> None:
        """Let a new user ask for one film, who likes it only if it is the one that all like."""
        user = f"u{next(NUMBERS)}"
        answer = self.ask(user, k=1)
        if [item["item_id"] for item in answer.get("slate", ())] == [LIKED]:
            self.click(user, LIKED, request_id=answer["request_id"])

    def crowd(self, users: int, *, k: int) -> None:
        """Let strangers click, which closes older slates, and new users ask through the topic."""
        for place in range(PARTITIONS):
            stranger = next(f"v{n}" for n in NUMBERS if partition_of(f"v{n}", PARTITIONS) == place)
            self.click(stranger, "f0", "view")
        for number in islice(NUMBERS, users):
            now_ms = int(1000 * time.time())
            self.client.send("requests", f"u{number}", Request(f"r{number}", f"u{number}", now_ms, k=k))
        self.client.flush()
        time.sleep(0.1)  # no wait for anything: so few slates that there is room for them until they close


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    prometheus_program, folder = program("prometheus"), tmp_path_factory.mktemp("fired")
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        settings = load_settings(
            bootstrap_servers=broker.bootstrap_servers, topic_prefix="fired.", partitions=PARTITIONS
        )
        create_topics(settings)
        with admin_client(settings) as admin:
            admin.create_topics([NewTopic("fired.people", PARTITIONS, 1)])
        registry = stack.enter_context(registry_server())
        registry.register(7, PERSON)
        (folder / "mapping.toml").write_text(MAPPING.format(registry=registry.url))
        known = {"sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "scopes": ["recommend", "admin"]}
        more = {
            "session_timeout_ms": 3_000, "http_tokens": {"all": known}, "pending_slates_bytes": SMALL_BYTES,
            "attribution_window_ms": WINDOW_MS, "read_your_writes_ms": 500,
            "actions": WEIGHTS, "policy": "epsilon-greedy", "epsilon": 0.5, "candidate_policies": ["greedy"],
            "mapping": str(folder / "mapping.toml"), "release_store": str(folder / "store"),
        }  # fmt: skip
        values = same_topics(settings, **(FAST | more))
        worker = stack.enter_context(WorkerProcess(values, log=folder / "worker.log"))
        client = stack.enter_context(Client(settings))
        worker.wait_ready()
        client.content(*FILMS)
        for item in FILMS:
            client.click("sated", item.item_id)
        client.flush()
        # A training that may use less memory than it has when it begins.
        trainer, _ = stack.enter_context(
            beside(
                settings,
                "trainer",
                "--folder",
                str(folder / "training"),
                trainer_memory_mb=64,
                trainer_every_events=1,
                text_encoder="none",
                release_store=str(folder / "store"),
            )  # fmt: skip
        )
        judging = ("--every", "1", "--positions", "1", "--window", "1000")
        evaluation, evaluation_pid = stack.enter_context(beside(settings, "ope", *judging))
        canary, _ = stack.enter_context(beside(settings, "canary", "--every", "1", "--timeout", "2"))
        targets = {
            "slatestream": [worker.url.removeprefix("http://")],
            "slatestream-ope": [evaluation],
            "slatestream-canary": [canary],
            "slatestream-trainer": [trainer],
        }
        prometheus = Prometheus(prometheus_program, folder, targets, in_seconds=True, token=TOKEN)
        stack.callback(prometheus.stop)
        wait_until(lambda: prometheus.has("slatestream_ready == 1"), "the worker is scraped")
        yield Site(settings, values, folder, broker, worker, client, registry, prometheus, evaluation_pid)


def fires(site: Site, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Go on with what is wrong until all have fired."""
    waiting, began = set(names), time.monotonic()
    while waiting:
        passed = time.monotonic() - began
        assert passed < 120.0, f"{', '.join(sorted(waiting))} do not fire"
        meanwhile()
        time.sleep(POLL_S)
        waiting -= site.prometheus.fired(max(1, int(passed)))


def resolves(site: Site, *names: str) -> None:
    """Wait until they are silent, while ordinary traffic goes on."""

    def silent() -> bool:
        site.visit()
        time.sleep(POLL_S)
        return not set(names) & site.prometheus.firing()

    wait_until(silent, f"{', '.join(names)} resolve", timeout_s=120.0)


# Cases


def test_what_producers_callers_and_operators_do_wrong_is_told_each_by_its_own_alert(site: Site) -> None:
    told = (
        "SlatestreamDeadLetters", "SlatestreamWrongPartition", "SlatestreamFallbacks",
        "SlatestreamTokensRefused", "SlatestreamSlatesGivenUp", "SlatestreamExperimentRefused",
        "SlatestreamErrorsLogged",
    )  # fmt: skip

    def mistakes() -> None:
        number = next(NUMBERS)
        site.client.send("experiments", f"mistaken-{number}", b"{")
        site.client.send("clicks", "bad", b"{")
        misplaced = {"event_id": f"m{number}", "user_id": "m", "item_id": "f0", "action": "view",
                     "timestamp_ms": int(1000 * time.time())}  # fmt: skip
        site.client.send("clicks", "m", misplaced, partition=1 - partition_of("m", PARTITIONS))
        site.crowd(60, k=20)  # more than there is room for
        for _ in range(6):
            site.ask("sated")  # who has seen everything
            site.ask("u", token="guessed")

    fires(site, *told, meanwhile=mistakes)
    fires(site, "SlatestreamClicksMeetNoSlate", meanwhile=lambda: site.crowd(2, k=3))
    resolves(site, *told, "SlatestreamClicksMeetNoSlate")


def test_users_who_like_what_another_policy_would_show_are_told(site: Site) -> None:
    def visits() -> None:
        for _ in range(10):
            site.visit()

    fires(site, "SlatestreamCandidateBetter", meanwhile=visits)


def test_a_worker_that_starves_or_freezes_and_a_frozen_evaluation_are_told(site: Site) -> None:
    def starve() -> None:
        with frozen(site.worker.pid):
            time.sleep(0.25)  # what is broken, and not a wait for anything
        thawed = f"timestamp(slatestream_ready) > {time.time()}"
        wait_until(lambda: site.prometheus.has(thawed), "the worker is scraped again")

    told = ("SlatestreamDown", "SlatestreamEvaluationDown", "SlatestreamCanaryFails")
    fires(site, "SlatestreamLoopHeld", meanwhile=starve)
    with frozen(site.worker.pid), frozen(site.evaluation):
        fires(site, *told)
    resolves(site, "SlatestreamLoopHeld", *told)


def test_a_silent_broker_is_told_and_costs_availability(site: Site) -> None:
    told = (
        "SlatestreamBrokerUnreachable", "SlatestreamNotReady", "SlatestreamErrorBudgetBurnsFast",
        "SlatestreamErrorBudgetBurnsSlowly", "SlatestreamOwnClicksMissed",
    )  # fmt: skip
    wait_until(site.worker.is_ready, "the worker has what the tests before took from it")
    users = [f"u{number}" for number in islice(NUMBERS, 60)]
    with ThreadPoolExecutor(len(users)) as at_once, frozen(site.broker.pid):
        fires(site, *told, meanwhile=lambda: list(at_once.map(site.ask, users)))
    resolves(site, *told)


def test_records_that_wait_for_their_schema_are_told(site: Site) -> None:
    site.registry.status = 503
    site.client.producer.send("fired.people", avro(7, PERSON, {"who": "p"}), key=b"p")
    site.client.flush()
    fires(site, "SlatestreamBehind")
    site.registry.status = None
    resolves(site, "SlatestreamBehind")


def test_another_worker_with_an_old_and_then_a_bad_release_that_dies_again_and_again_is_told(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = once_a_run(tmp_path_factory, "tiny-release", train_tiny)
    release, bad = variant(base, site.folder / "release"), variant(base, site.folder / "bad", gain=20.0)
    written = (release / MANIFEST).stat().st_mtime - MONTH_S
    os.utime(release / MANIFEST, (written, written))
    (latest := site.folder / "latest").symlink_to(release)
    values = site.values | {"release": str(latest)}
    with WorkerProcess(values, log=site.folder / "second.log") as second:
        target = second.url.removeprefix("http://")
        site.prometheus.scrape("slatestream", target)
        second.wait_ready()
        fires(
            site, "SlatestreamReleaseOld", "SlatestreamReleasesDiffer", meanwhile=lambda: site.crowd(5, k=5)
        )
        for start in range(1, 4):
            second.kill()
            if start == 3:  # by then the last minute's scores are all of the good one
                latest.unlink()
                latest.symlink_to(bad)
            second.start()
            changes = f'changes(process_start_time_seconds{{instance="{target}"}}[120s]) == {start}'

            def again(changes: str = changes) -> bool:
                site.crowd(5, k=5)
                return site.prometheus.has(changes)

            wait_until(again, "it is seen to run again")
        fires(site, "SlatestreamRestarts", "SlatestreamScoresDrift", meanwhile=lambda: site.crowd(5, k=5))


def test_a_trainer_whose_trainings_fail_is_told(site: Site) -> None:
    fires(site, "SlatestreamTrainingFails", "SlatestreamNothingTrained", meanwhile=site.visit)


def test_a_canary_that_no_worker_can_serve_is_told(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base, store = once_a_run(tmp_path_factory, "tiny-release", train_tiny), site.folder / "store"
    folders = (
        variant(base, site.folder / "first"),
        variant(base, site.folder / "broken", files={RANKER: b"no graph"}),
    )
    first, broken = (ReleaseStore(str(store)).put(folder).version for folder in folders)
    for kind, version, trial in (("promote", first, None), ("canary", broken, trial_of(site.settings))):
        asyncio.run(publish_change(site.settings, kind, version, by="ann", trial=trial))
    fires(site, "SlatestreamCanaryRolledBack")
    resolves(site, "SlatestreamCanaryRolledBack")


def test_every_alert_is_fired_here() -> None:
    cases = Path(__file__).read_text().partition("# Cases")[2]
    assert set(re.findall(r'"(Slatestream\w+)"', cases)) == alerts().keys()


def test_quicker_rules_look_back_over_seconds() -> None:
    given = "for: 5m\n sum(rate(a_5m[10m])) [1h] [3d] max(b_lag_seconds) > 60"
    assert quicker(given) == "for: 2s\n sum(rate(a_5m[5s])) [8s] [12s] max(b_lag_seconds) > 1"
    changed = quicker((RULES / "alerts.yml").read_text())
    assert "score_impressions_total[8s])) > 50" in changed
    assert 'runs_total{outcome="failed"}[120s]' in changed
