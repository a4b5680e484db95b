"""Every query of dashboards and rules finds data on a real Prometheus that scrapes a live worker."""

import asyncio
import html
import re
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import yaml
from kafka.admin import NewTopic

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.page import page
from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import admin_client, create_topics
from streams.releases.actions import trial_of
from streams.releases.changes import publish_change
from streams.releases.store import ReleaseStore
from streams.settings import load_settings
from streams.worker.process import WorkerProcess, same_topics
from tests.deploy.conftest import program
from tests.deploy.live import (
    RULES,
    WINDOW_MS,
    Prometheus,
    Traffic,
    beside,
    missing,
    selectors,
    send_scores,
    start_experiment,
)
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import FAST
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny, variant

MAPPING = """
[[source]]
topic = "live.people"
feeds = "users"
repartition = true
[source.fields]
user_id = "who"
"""

PANELS = {
    f"{title}: {panel.title}": {query for query, _ in panel.queries}
    for title, panels in DASHBOARDS.values()
    for panel in panels
}


def rules() -> dict[str, str]:
    """Expression of each rule, by file, name and place."""
    return {
        f"{name} {rule.get('record') or rule['alert']} {place}": rule["expr"]
        for name in ("slo.yml", "alerts.yml")
        for group in yaml.safe_load((RULES / name).read_text())["groups"]
        for place, rule in enumerate(group["rules"])
    }


# An alert's expression is empty while it is silent: what it reads must be there.
RULE_QUERIES = {
    name: selectors(query) if name.startswith("alerts") else {query, *selectors(query)}
    for name, query in rules().items()
}
QUERIES = {
    name: queries | {part for query in queries for part in selectors(query)}
    for name, queries in (PANELS | RULE_QUERIES).items()
}


@dataclass(frozen=True)
class Seen:
    """Queries that gave nothing, of all, and the page with the panels."""

    unanswered: set[str]
    page: str


@pytest.fixture(scope="module")
def seen(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What a live worker's Prometheus answers; module-wide, for both take their time."""
    prometheus_program, folder = program("prometheus"), tmp_path_factory.mktemp("live")
    settings = load_settings(
        bootstrap_servers=broker.bootstrap_servers, topic_prefix="live.", group_id="live", http_port=0
    )
    create_topics(settings)
    mapping = folder / "mapping.toml"
    mapping.write_text(MAPPING)
    with admin_client(settings) as admin:
        admin.create_topics([NewTopic("live.people", 1, 1)])
    base, store = once_a_run(tmp_path_factory, "tiny-release", train_tiny), folder / "store"
    first, second = (
        ReleaseStore(str(store)).put(variant(base, folder / name, gain=gain)).version
        for name, gain in (("first", 1.0), ("second", 1.1))
    )
    values = same_topics(
        settings,
        mapping=str(mapping),
        release_store=str(store),
        **FAST,
        policy="epsilon-greedy",
        epsilon=0.6,
        candidate_policies=["random", "greedy"],
        attribution_window_ms=WINDOW_MS,
    )
    with ExitStack() as stack:
        worker = stack.enter_context(WorkerProcess(values, log=folder / "worker.log"))
        evaluation, _ = stack.enter_context(beside(settings, "ope", "--every", "1"))
        trainer, _ = stack.enter_context(
            beside(
                settings,
                "trainer",
                "--folder",
                str(folder / "training"),
                release_store=str(store),
                text_encoder="none",
                trainer_drift=1e6,
                trainer_every_events=10**9,
            )  # fmt: skip
        )
        client = stack.enter_context(Client(settings))
        worker.wait_ready()
        for kind, version, trial in (("promote", first, None), ("canary", second, trial_of(settings, 0.4))):
            asyncio.run(publish_change(settings, kind, version, by="ann", trial=trial))
        send_scores(client, first)
        traffic = Traffic(client, worker)
        start_experiment(settings)
        wait_until(lambda: worker.metrics().total("experiments_running") == 1, "the experiment runs")  # type: ignore[union-attr]
        canary, _ = stack.enter_context(beside(settings, "canary", "--every", "1"))
        targets = {
            "slatestream": [worker.url.removeprefix("http://")],
            "slatestream-ope": [evaluation],
            "slatestream-canary": [canary],
            "slatestream-trainer": [trainer],
        }
        prometheus = Prometheus(prometheus_program, folder, targets)
        stack.callback(prometheus.stop)
        wait_until(lambda: prometheus.has("slatestream_ready == 1"), "the worker is scraped")
        unanswered = missing(prometheus, traffic, set().union(*QUERIES.values()), within_s=240.0)
        drawn = page(prometheus.url, minutes=1.0, rate_interval="10s")
        (folder / "panels.html").write_text(drawn)
        return Seen(unanswered, drawn)


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_of_a_panel_or_a_rule_finds_data(seen: Seen, name: str) -> None:
    assert QUERIES[name] & seen.unanswered == set()


def test_the_page_with_the_panels_draws_each_and_loads_nothing(seen: Seen) -> None:
    figures = re.findall(r"<figcaption>(.*?)</figcaption>(.*?)</figure>", seen.page, re.DOTALL)
    titles = [panel.title for _, panels in DASHBOARDS.values() for panel in panels]
    assert [html.unescape(title) for title, _ in figures] == titles
    assert [title for title, drawn in figures if "no data" in drawn or "`" in drawn] == []
    assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=", seen.page) == []


def test_a_renamed_metric_would_be_seen() -> None:
    assert selectors('sum(rate(slatestream_slates_total{policy="x"}[5m])) / slatestream:slo_objective') == {
        'slatestream_slates_total{policy="x"}',
        "slatestream:slo_objective",
    }
    assert selectors('count(ALERTS{alertstate="firing"}) or up{job="slatestream"}') == {
        'up{job="slatestream"}'
    }
