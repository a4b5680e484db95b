"""`slatestream bench scale`: what more workers bring, on twelve partitions of one broker."""

import os
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from streams.bench.folding import folding_of, follow
from streams.bench.latency import Latencies
from streams.bench.load import librdkafka_options, run_together
from streams.bench.options import Set, settings_given, whole_numbers
from streams.bench.report import plot_curves, print_table, speaker, write_report
from streams.bench.steps import Steps
from streams.bench.wide import wide_clicks
from streams.bench.work import Work
from streams.bench.world import catalogue_rows, publish_all, random_release
from streams.kafka.topics import topic_name
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics

PARTITIONS = 12
ITEMS, USERS = 2_000, 5_000
READY_S = 300.0
START_S = 30.0
EXPECTED_RATE = 30_000


@dataclass(frozen=True, slots=True)
class Scaled:
    """Result of several workers together; cpu_us is the processor time of all of them an event."""

    workers: int
    events_per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    unanswered: int


def scale_command(
    workers: Annotated[str, typer.Option(help="Numbers of workers, comma-separated.")] = "1,2,4",
    events: Annotated[int, typer.Option(min=10_000, help="Clicks to ingest.")] = 500_000,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second after that.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of asking.")] = 8.0,
    set_: Set = None,
    out: Annotated[Path, typer.Option(help="Folder for scale.json and the workers' logs.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure one, two and four workers on twelve partitions.

    All workers are started together on a topic that is full, and are watched from the first event that any of
    them folds to the last of all; then requests come at a constant rate, to whichever worker owns the user.
    Workers share the cores of this machine with the broker: where there are fewer cores than workers, what is
    shown is what sharing costs and not what machines would bring. "CPU us" says that: it stays the same as
    long as workers do not get into each other's way.

    slatestream bench scale
    """
    console = Console()
    say = speaker(console)
    numbers = whole_numbers(workers)
    steps = Steps([START_S + events / EXPECTED_RATE + seconds for _ in numbers], say)
    scaled: list[Scaled] = []
    with clean_exit(console):
        given = {"release": str(random_release(out / "random-release"))} | settings_given(set_ or [])
        for n in numbers:
            steps.begin(f"{n} worker{'s' if n > 1 else ''}")
            with cluster(lambda _: None, "scale", partitions=PARTITIONS) as settings:
                scaled.append(measure(settings, given, n, events, rate, seconds, out))
            say(f"  {scaled[-1].events_per_second:,.0f} events/s, p99 {scaled[-1].p99_ms:,.0f} ms")
    print_table(
        console,
        f"Workers on {PARTITIONS} partitions and {len(os.sched_getaffinity(0))} cores",
        (
            "workers",
            "events/s",
            "over one",
            "CPU us an event",
            f"p50 ms at {rate:g}/s",
            "p99 ms",
            "unanswered",
        ),
        [row(one, scaled[0]) for one in scaled],
    )
    say(f"machine: {machine()}")
    write_report(out / "scale.json", {"events": events, "scaled": [asdict(one) for one in scaled]}, say)
    curve = [(float(one.workers), one.events_per_second) for one in scaled]
    if len(curve) > 1:
        plot_curves(
            out / "scale.png", {"events/s": curve}, x="workers", y="events/s", title="Ingest", say=say
        )  # fmt: skip


def row(one: Scaled, first: Scaled) -> list[Any]:
    """Return a line of the table."""
    over = one.events_per_second / first.events_per_second
    return [one.workers, one.events_per_second, over, one.cpu_us, one.p50_ms, one.p99_ms, one.unanswered]


def measure(
    settings: Settings, given: dict[str, Any], n: int, events: int, rate: float, seconds: float, out: Path
) -> Scaled:
    """Let n workers fold a full topic together, then answer requests."""
    publish_all(settings, "item-state", catalogue_rows(ITEMS, settings.partitions))
    start_ms = int(time.time() * 1000) - events
    publish_all(settings, "clicks", chain.from_iterable(wide_clicks(events, items=ITEMS, start_ms=start_ms)))
    with ExitStack() as stack:
        workers = []
        for number in range(n):
            log = out / f"scale-worker-{number + 1}.log"
            log.unlink(missing_ok=True)
            workers.append(stack.enter_context(WorkerProcess(same_topics(settings, **given), log=log)))
        folded = folding_of(follow(*workers, events=events))
        for worker in workers:
            worker.wait_ready(READY_S)
        work = Work(
            kind="kafka", rate=rate, seconds=seconds, users=USERS, client=librdkafka_options(settings),
            to=topic_name(settings, "requests"), back=topic_name(settings, "recommendations"),
            partitions=settings.partitions,
        )  # fmt: skip
        run_together(work)  # whose figures are those of workers that have just begun
        outcome = run_together(work)[0]
    latency = Latencies(outcome.latencies).summary()
    return Scaled(
        n, folded.per_second, folded.cpu_us, latency["p50_ms"], latency["p99_ms"], outcome.unanswered
    )  # fmt: skip
