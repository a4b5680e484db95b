"""`slatestream bench serve`: latency of slates under a constant load, by rate and size of the catalogue."""

from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from streams.bench.loaded import CLICKS_WARM_UP_S, PROBE_S, Load, Measured, Over, Overloaded, serving
from streams.bench.options import Set, numbers, settings_given, split, whole_numbers
from streams.bench.report import plot_curves, print_table, speaker, write_report
from streams.bench.stages import Stage
from streams.bench.steps import Steps
from streams.bench.world import random_release
from streams.errors import ConfigurationError
from streams.releases.options import check_release
from streams.session.machine import machine
from streams.session.shutdown import clean_exit

SETUP_S = 40.0  # a broker, a worker, a catalogue: as expected before it is known
COLUMNS = (
    "over", "items", "clicks/s", "asked/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms",
    "unanswered", "refused", "fallbacks", "loop p99.9 ms", "CPU ms/slate",
)  # fmt: skip


def serve_command(
    rates: Annotated[str, typer.Option(help="Requests a second, comma-separated.")] = "50,150,300",
    items: Annotated[
        str, typer.Option(help="Sizes of the catalogue, comma-separated.")
    ] = "1700,20000,200000,1000000",
    clicks: Annotated[
        str, typer.Option(help="Clicks a second beside the requests, comma-separated; 0 is none.")
    ] = "0,20000",
    over: Annotated[str, typer.Option(help="kafka, http or both, comma-separated.")] = "kafka,http",
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 10.0,
    users: Annotated[int, typer.Option(min=1, help="Users who ask, each with 20 likes.")] = 5_000,
    limit_ms: Annotated[
        float,
        typer.Option(
            help="Search for the rate at which p99 passes this, per size, way and clicks; 0 does not."
        ),
    ] = 25.0,
    release: Annotated[
        Path | None,
        typer.Option(help="Release to serve; unset, one of random weights is made."),
    ] = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="Serve without any release.")] = False,
    set_: Set = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the requests and the clicks.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for serve.json and the worker's log.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure how fast slates come at a constant rate of requests.

    The load is an open loop: requests are due at a constant rate whatever the answers do, and a latency
    counts from the moment a request was due, so that a worker that stalls is charged for everybody who
    waits (coordinated omission). An unanswered request counts with the time that it waited. The generators
    are processes of their own. Requests come from users with histories; --clicks has 100,000 users click
    beside them.

    The release's graphs are the real ones with random weights, and the catalogue is written straight to
    item-state. Beside the figures stand what the machine itself costs: "hop" is a record written and read
    by the same generator without any worker, twice through the broker. "CPU ms/slate" is the worker's
    processor time, clicks beside included: on a machine that others use it says more than a latency.

    The default grid takes about twenty minutes, the first of these examples two:

    slatestream bench serve --items 20000 --rates 50,100 --clicks 0 --limit-ms 0

    slatestream bench serve --set policy=greedy --set k_default=20
    """
    check_release(release)
    console = Console()
    say = speaker(console)
    given = settings_given(set_ or [])
    mixes = list(product(ways(over), numbers(clicks), numbers(rates)))
    loads = [[Load(way, size, rate, beside) for way, beside, rate in mixes] for size in whole_numbers(items)]
    step = seconds + 3.0
    searches = list(product(ways(over), numbers(clicks))) if limit_ms else []
    searched = PROBE_S * 9 * len(searches)
    warming = CLICKS_WARM_UP_S if max(numbers(clicks)) else 0.0
    steps = Steps([SETUP_S + warming + step * len(of_size) + searched for of_size in loads], say)
    measured: list[Measured] = []
    limits: list[dict[str, Any]] = []
    hop: dict[str, float] = {}
    with clean_exit(console):
        if not baseline:
            say("Making a release of random weights (kept for the next time) ...")
            given["release"] = str(release or random_release(out / "random-release"))
        for of_size in loads:
            steps.begin(f"{of_size[0].items:,} items")
            most = max(load.clicks for load in of_size)
            log = out / "serve-worker.log"
            with serving(of_size[0].items, users, given, log, say, clicks=most, seconds=seconds) as bench:
                hop = bench.hop(seconds=min(seconds, 5.0))
                try:
                    for load in of_size:
                        measured.append(bench.measure(load, seconds, seed))
                    for way, beside in searches:
                        load = Load(way, of_size[0].items, 0, beside)
                        limits.append(bench.limit(load, limit_ms, seed))
                except Overloaded as error:  # what would follow measures the backlog
                    say(f"  {error}; the rest of {of_size[0].items:,} items is left out")
    print_table(console, "Slates at a constant rate", COLUMNS, [one.row() for one in measured])
    print_table(console, "Stages, mean ms of a pass", *stage_table(measured))
    for found in limits:
        say(limit_line(found, limit_ms))
    say(
        f"hop, twice through the broker without a worker: p50 {hop['p50_ms']:.1f}, p99 {hop['p99_ms']:.1f} ms"
    )
    say(f"machine: {machine()}")
    cells = [described(one) for one in measured]
    write_report(
        out / "serve.json",
        {"seconds": seconds, "settings": given, "hop": hop, "loads": cells, "limits": limits},
        say,
    )
    curves = curves_of(measured)
    if curves and max(map(len, curves.values())) > 1:
        plot_curves(
            out / "serve.png", curves, x="items", y="p99, ms", title="p99 by size of the catalogue", say=say
        )


def limit_line(found: dict[str, Any], limit_ms: float) -> str:
    """Say in one line where p99 passes the limit."""
    where = f"{found['items']:,} items, {found['clicks']:,.0f} clicks/s beside, over {found['over']}"
    kept, broken = found["kept"], found["broken"]
    if kept is None:
        return f"{where}: p99 is above {limit_ms:g} ms at every rate that was tried"
    above = "" if broken is None else f", no longer at {broken:,.0f}"
    return f"{where}: p99 stays within {limit_ms:g} ms at {kept:,.0f} requests/s{above}"


def stage_table(measured: list[Measured]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: a load each, and a column for every stage that occurred."""
    names = list(dict.fromkeys(stage.name for one in measured for stage in one.stages))
    rows = []
    for one in measured:
        stages = {stage.name: stage for stage in one.stages}
        rows.append([str(one.load), *(stage_cell(stages.get(name)) for name in names)])
    return ["load", *names], rows


def stage_cell(stage: Stage | None) -> str:
    """Write the mean of a stage's passes, and its share of a request where it is part of one."""
    if stage is None:
        return "-"
    share = "" if stage.share is None else f" ({stage.share:.0%})"
    return f"{stage.mean_ms:.1f}{share}"


def described(one: Measured) -> dict[str, Any]:
    """Return a load and what became of it, for the report."""
    return {
        **asdict(one.load),
        "answered_per_second": one.outcome.per_second,
        "sent": one.outcome.sent,
        "unanswered": one.outcome.unanswered,
        "refused": one.outcome.refused,
        "fallbacks": one.outcome.fallbacks,
        "generator_late_ms": one.outcome.late_ms,
        "clicks_per_second": one.clicks.per_second if one.clicks else 0.0,
        **one.latency,
        "loop_lag_p99_9_ms": one.loop_lag_ms,
        "cpu_ms_per_slate": one.cpu_ms,
        "stages": [asdict(stage) for stage in one.stages],
    }


def curves_of(measured: list[Measured]) -> dict[str, list[tuple[float, float]]]:
    """p99 by size of the catalogue, a curve for every way and load."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for one in measured:
        name = f"{one.load.over}, {one.load.rate:g}/s" + (
            f" + {one.load.clicks:g} clicks/s" if one.load.clicks else ""
        )
        curves.setdefault(name, []).append((one.load.items, max(one.latency["p99_ms"], 0.001)))
    return curves


def ways(text: str) -> list[Over]:
    """Read a comma-separated list of ways for requests to come."""
    try:
        return [Over(part) for part in split(text)]
    except ValueError:
        raise ConfigurationError(f"--over must be among {', '.join(Over)}, got {text!r}") from None
