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
from rich.markup import escape
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
    """Draw the status; as readable at 80 columns as at 120."""
    parts: list[RenderableType] = [_cluster_line(cluster, len(workers))]
    table = Table(title="Workers", title_justify="left")
    table.add_column("worker", overflow="fold")
    table.add_column("state", overflow="fold")
    for name in ("clicks/s", "slates/s", "slate p50, p99", "lag"):
        table.add_column(name, justify="right", overflow="fold")
    for worker in workers:
        table.add_row(*_worker_row(worker))
    parts.append(table)
    for worker in workers:
        if worker.answers:
            parts += _details(worker)
    return Group(*parts)


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


def _worker_row(worker: Worker) -> tuple[str | Text, ...]:
    if not worker.answers:
        return worker.url, Text(f"no answer: {worker.error}", "red"), "-", "-", "-", "-"
    state = (
        Text("ready", "green") if worker.ready else Text(f"not ready: {', '.join(worker.missing)}", "yellow")
    )
    p50, p99 = worker.latencies_ms["request to slate"]
    late = "" if worker.lag_seconds < 1 else "yellow" if worker.lag_seconds < 30 else "red"
    return (
        worker.url,
        state,
        f"{worker.events_per_s['clicks']:,.0f}",
        f"{worker.slates_per_s:,.1f}",
        f"{p50:,.1f}, {p99:,.1f} ms",
        Text(f"{worker.lag_records:,}, {worker.lag_seconds:,.1f} s", late),
    )


def _details(worker: Worker) -> list[RenderableType]:
    p50, p99 = worker.latencies_ms["click to fold"]
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    release = f"{worker.release} on {worker.provider}" if worker.release else "none: co-visits and popularity"
    if worker.refused:
        release += f"; {worker.refused} is to serve and is refused, its log says why"
    for name, value in (
        ("worker", worker.url),
        ("release", release),
        ("policy", f"{', '.join(worker.policies) or 'no slate yet'}; {worker.policy_version:,} updates"),
        ("state", f"{worker.users:,} users, {worker.items:,} items, {worker.memory_mib:,.0f} MiB"),
        ("click to fold", f"p50 {p50:,.0f}, p99 {p99:,.0f} ms by event time"),
        ("dead letters", f"{worker.dead_letters:,} since its start"),
    ):
        facts.add_row(name, escape(value))
    lag = Table(title="Lag by partition: records, seconds", title_justify="left")
    partitions = sorted({one for parts in worker.lag.values() for one in parts})
    lag.add_column("partition")
    for topic in worker.lag:
        lag.add_column(topic, justify="right")
    for partition in partitions:
        cells = [worker.lag[topic].get(partition) for topic in worker.lag]
        lag.add_row(str(partition), *("-" if one is None else f"{one[0]:,}, {one[1]:.1f}" for one in cells))
    return [facts, lag] if partitions else [facts]
