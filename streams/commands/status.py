"""`slatestream status`: what the workers and the cluster are doing, live in a terminal."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from kafka.errors import KafkaError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.commands.ask import HERE, check_url
from streams.errors import SlatestreamError, UnreachableError
from streams.kafka.topic_admin import admin_client
from streams.kafka.topics import topic_names
from streams.settings import Settings, load_settings
from streams.worker.scrape import Worker, watch

CLUSTER_S = 10.0
SAMPLE_S = 1.0
LATE_S = 30.0
MAX_ROWS = 6
"""Partitions that are behind and shown."""


@dataclass(slots=True)
class Cluster:
    """The cluster as a status shows it."""

    bootstrap_servers: str
    answers: bool = False
    brokers: int = 0
    missing_topics: list[str] = field(default_factory=list)
    group: str = ""
    group_state: str = ""
    members: int = 0
    error: str = ""


def status_command(
    url: Annotated[
        list[str] | None, typer.Option(help="A worker, or its admin port; several times for several.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, over a second, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Look once, and print JSON.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Show lag, rates, latencies, release and policy of workers, and the cluster, until Ctrl-C.

    Exit code 0: all workers are ready; 1: one is not, or a topic is missing; 3: no worker answers.

    slatestream status --url http://10.0.0.1:6066 --url http://10.0.0.2:6066

    slatestream status --json
    """
    settings = load_settings(config)
    urls = list(url or [HERE])
    for one in urls:
        check_url(one)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    if not (once or as_json) and console.is_terminal:
        _live(settings, urls, interval, console)
        return
    _, before = watch(urls, {})
    time.sleep(SAMPLE_S)
    workers, _ = watch(urls, before)
    cluster = look_at(settings)
    if as_json:
        found = {"workers": [one.as_json() for one in workers], "cluster": asdict(cluster)}
        print(json.dumps(found, indent=2))
    else:
        console.print(view(workers, cluster))
    try:
        _end(workers, cluster)
    except UnreachableError as error:
        if not as_json:
            raise
        print(f"slatestream: {error}", file=sys.stderr)  # stdout has one object already, which says so
        raise typer.Exit(error.exit_code) from error


def look_at(settings: Settings) -> Cluster:
    """Ask the cluster who is there."""
    cluster = Cluster(settings.bootstrap_servers, group=settings.group_id)
    try:
        with admin_client(settings) as admin:
            existing = set(admin.list_topics())
            names = topic_names(settings).values()
            cluster.missing_topics = sorted(name for name in names if name not in existing)
            cluster.brokers = len(admin.describe_cluster()["brokers"])
            group = admin.describe_groups([settings.group_id])[settings.group_id]
            cluster.group_state = str(group.get("group_state") or group.get("state") or "")
            cluster.members = len(group.get("members") or ())
            cluster.answers = True
    except (SlatestreamError, KafkaError) as error:
        cluster.error = str(error)
    return cluster


def _live(settings: Settings, urls: Sequence[str], interval: float, console: Console) -> None:
    workers, before = watch(urls, {})
    cluster, asked = look_at(settings), time.monotonic()
    try:
        with Live(view(workers, cluster), console=console, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(interval)
                workers, before = watch(urls, before)
                if time.monotonic() - asked > CLUSTER_S:
                    cluster, asked = look_at(settings), time.monotonic()
                live.update(view(workers, cluster), refresh=True)
    except KeyboardInterrupt:
        console.print(view(workers, cluster))
    _end(workers, cluster)


def _end(workers: Sequence[Worker], cluster: Cluster) -> None:
    if not any(worker.answers for worker in workers):
        named = ", ".join(f"{worker.url} ({worker.error})" for worker in workers)
        raise UnreachableError(f"status: no worker answers at {named}; name one with --url")
    if not all(worker.ready for worker in workers) or cluster.missing_topics:
        raise typer.Exit(1)


def view(workers: Sequence[Worker], cluster: Cluster) -> RenderableType:
    """Draw the status; as readable at 80 columns as at 120, and with few workers on 24 lines."""
    answering = [worker for worker in workers if worker.answers]
    parts: list[RenderableType] = [_cluster_line(cluster, len(workers)), Text(), _now(workers)]
    if answering:
        parts += [Text(), _held(answering), Text(), _behind(answering)]
    return Group(*parts)


def _now(workers: Sequence[Worker]) -> Table:
    """Draw what each worker does now."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("worker", overflow="fold")
    table.add_column("state", overflow="fold")
    for name in ("clicks/s", "slates/s", "p50, p99 ms", "lag, oldest s"):
        table.add_column(name, justify="right", no_wrap=True)
    for worker in workers:
        table.add_row(_name(worker), *_row(worker))
    return table


def _name(worker: Worker) -> str:
    return worker.url.removeprefix("http://")


def _cluster_line(cluster: Cluster, named: int) -> Text:
    if not cluster.answers:
        return Text(f"Kafka {cluster.bootstrap_servers}: {cluster.error}", "red")
    line = Text(
        f"Kafka {cluster.bootstrap_servers}: {cluster.brokers} broker{'s' * (cluster.brokers != 1)}; "
    )
    members = f"{cluster.members} member{'s' * (cluster.members != 1)}"
    line.append(f"group {cluster.group} {cluster.group_state.lower() or 'unknown'}, {members}")
    if cluster.members > named:
        line.append(f"; name the others with --url, {named} of {cluster.members} are shown", "yellow")
    if cluster.missing_topics:
        line.append(f"; missing topics: {', '.join(cluster.missing_topics)}", "red")
    return line


def _row(worker: Worker) -> Sequence[str | Text]:
    if not worker.answers:
        return Text(f"no answer: {worker.error}", "red"), "-", "-", "-", "-"
    state = (
        Text("ready", "green") if worker.ready else Text(f"not ready: {', '.join(worker.missing)}", "yellow")
    )
    p50, p99 = worker.latencies_ms["request to slate"]
    return (
        state,
        f"{worker.events_per_s['clicks']:,.0f}",
        f"{worker.slates_per_s:,.1f}",
        f"{p50:,.1f}, {p99:,.0f}",
        _late(worker.lag_records, worker.lag_seconds),
    )


def _late(records: int, seconds: float) -> Text:
    style = "" if seconds < 1 else "yellow" if seconds < LATE_S else "red"
    return Text(f"{records:,}, {seconds:,.1f}", style)


def _held(workers: Sequence[Worker]) -> Table:
    """Draw what each worker serves by, and holds."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for worker in workers:
        said = Text(f"release {worker.release or 'none: co-visits and popularity'}")
        if worker.canary:
            said.append(f", {worker.canary} for {worker.canary_share:.0%} of users", "cyan")
        if worker.refused:
            said.append(f", {worker.refused} is to serve and is refused, its log says why", "red")
        said.append(
            f"; policy {', '.join(worker.policies) or 'no slate yet'}, {worker.policy_version:,} updates; "
            f"{worker.partitions} partitions, {worker.users:,} users, {worker.items:,} items; "
            f"{worker.memory_mib:,.0f} MiB"
        )
        if worker.dead_letters:
            said.append(f"; {worker.dead_letters:,} dead letters since its start", "yellow")
        table.add_row(_name(worker), said)
    return table


def _behind(workers: Sequence[Worker]) -> RenderableType:
    """Draw the partitions that have been behind for the longest."""
    lags = [
        (seconds, records, topic, partition)
        for worker in workers
        for topic, parts in worker.lag.items()
        for partition, (records, seconds) in parts.items()
        if records
    ]
    if not lags:
        return Text("No partition is behind.", "green")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(f"behind: {min(len(lags), MAX_ROWS)} of {len(lags)}")
    for name in ("partition", "records, oldest s"):
        table.add_column(name, justify="right")
    for seconds, records, topic, partition in sorted(lags, reverse=True)[:MAX_ROWS]:
        table.add_row(topic, str(partition), _late(records, seconds))
    return table
