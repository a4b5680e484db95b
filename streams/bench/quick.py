"""`slatestream bench quick`: two minutes that tell whether ingest, serving or the start became slower."""

import statistics
import time
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from model_core.release.scorer import Scorer
from streams.bench.folding import bare_consumer, folding_of, follow
from streams.bench.graphs import time_scorer
from streams.bench.load import librdkafka_options
from streams.bench.loaded import Bench, Load, Over
from streams.bench.ratios import Compared, compare, read_ratios, warnings_of
from streams.bench.ready import import_seconds, start_once
from streams.bench.report import Say, print_table, speaker, write_report
from streams.bench.steps import Steps
from streams.bench.wide import wide_clicks
from streams.bench.world import catalogue_rows, publish_all, random_release
from streams.errors import SlatestreamError
from streams.kafka.topics import topic_name
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.worker.process import WorkerProcess, same_topics

ITEMS, USERS, KNOWN = 2_000, 5_000, 300
RATE = 30.0
GRAPH_S = 3.0
NAMES = {
    "ingest": "events/s of a worker / of a bare consumer",
    "ingest_cpu": "CPU an event of a bare consumer / of a worker",
    "serve": "bare graph / p50 of a slate",
    "serve_cpu": "CPU of the bare graph / of a slate",
    "ready": "importing the libraries / start to ready",
}


def quick_command(
    events: Annotated[int, typer.Option(min=1_000, help="Clicks to ingest.")] = 300_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of asking for slates.")] = 10.0,
    against: Annotated[
        Path | None, typer.Option(help="JSON file with committed ratios, to compare with.")
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Write this run's ratios to that file.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for quick.json and the workers' logs.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure ingest, serving and the start of a worker, each as a ratio to a calibration of the same run.

    Higher is better. The calibrations are a consumer that decodes nothing, the release's graphs alone, and a
    process that imports the libraries; so what remains is comparable between machines. Ratios of processor
    time hold on a machine that others use, too. A ratio that fell by a fifth or more of the committed one is
    warned of; the exit code is 0 all the same, for a machine may have had a bad minute.

    The second is for after a change that is meant to be faster:

    slatestream bench quick

    slatestream bench quick --against tests/benchmarks/ratios.json --save
    """
    console = Console()
    say = speaker(console)
    if save and against is None:
        raise SlatestreamError("--save needs --against FILE: it writes this run's ratios there")
    committed = read_ratios(against, missing=save) if against else {}
    with clean_exit(console), cluster(lambda _: None, "quick", partitions=4) as settings:
        given = {"release": str(random_release(out / "small-release", known=KNOWN))}
        figures = _measure(settings, given, events, seconds, out, say)
    ratios = ratios_of(figures)
    compared = compare(ratios, committed)
    print_table(
        console,
        "Ratios, higher is better",
        ("ratio", "what", "now", "committed", "change"),
        [[one.name, NAMES[one.name], one.now, one.committed, changed(one)] for one in compared],
    )
    for warning in warnings_of(compared):
        say(warning)
    say(f"machine: {machine()}")
    report = {"ratios": ratios, "figures": figures}
    write_report(out / "quick.json", report, say)
    if save and against:
        write_report(against, report, say)


def changed(one: Compared) -> str:
    """Write by how much a ratio rose or fell."""
    return "" if one.change is None else f"{one.change:+.0%}"


def _measure(
    settings: Any, given: dict[str, Any], events: int, seconds: float, out: Path, say: Say
) -> dict[str, float]:
    steps = Steps([10.0, 15.0, 25.0, seconds + 10.0, GRAPH_S + 3.0], say)
    log = out / "quick-worker.log"
    figures: dict[str, float] = {}

    steps.begin("a worker's start, and imports alone")
    figures["imports_s"] = statistics.median(import_seconds() for _ in range(3))
    figures["ready_s"] = start_once("quick", settings, given, 0.0, log, ()).ready_s

    steps.begin(f"{events:,} clicks and {ITEMS:,} items are published")
    publish_all(settings, "item-state", catalogue_rows(ITEMS, settings.partitions))
    clicks = wide_clicks(events, items=ITEMS, start_ms=int(time.time() * 1000) - events)
    publish_all(settings, "clicks", chain.from_iterable(clicks))
    topic = topic_name(settings, "clicks")
    marks = bare_consumer(librdkafka_options(settings), topic, settings.partitions, events)
    bare = folding_of(marks)

    steps.begin("a worker folds them")
    with WorkerProcess(same_topics(settings, **given), log=log) as worker:
        folded = folding_of(follow(worker, events=events))
        worker.wait_ready()
        steps.begin(f"{RATE:g} slates a second")
        bench = Bench(settings, worker, USERS, lambda _: None)
        bench.measure(Load(Over.KAFKA, ITEMS, RATE, 0.0), 3.0, 0)
        served = bench.measure(Load(Over.KAFKA, ITEMS, RATE, 0.0), seconds, 1)

    steps.begin("the graphs alone")
    graph = time_scorer(Scorer(Path(given["release"])), 1, ITEMS, seconds=GRAPH_S)
    return figures | {
        "bare_per_second": bare.per_second,
        "bare_cpu_us": bare.cpu_us,
        "folded_per_second": folded.per_second,
        "folded_cpu_us": folded.cpu_us,
        "slate_p50_ms": served.latency["p50_ms"],
        "slate_p99_ms": served.latency["p99_ms"],
        "slate_cpu_ms": served.cpu_ms,
        "graph_ms": graph.ms,
        "graph_cpu_ms": graph.cpu_ms,
    }


def ratios_of(figures: dict[str, float]) -> dict[str, float]:
    """Ratios of a run by the names of `NAMES`, rounded to what they are good for."""
    found = {
        "ingest": figures["folded_per_second"] / figures["bare_per_second"],
        "ingest_cpu": figures["bare_cpu_us"] / figures["folded_cpu_us"],
        "serve": figures["graph_ms"] / figures["slate_p50_ms"],
        "serve_cpu": figures["graph_cpu_ms"] / figures["slate_cpu_ms"],
        "ready": figures["imports_s"] / figures["ready_s"],
    }
    return {name: round(value, 4) for name, value in found.items()}
