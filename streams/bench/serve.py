"""`slatestream bench serve`: latency of slates under a constant load, by rate and size of the catalogue."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from streams.bench.latency import Latencies, Limit, find_limit
from streams.bench.load import Outcome, Work, librdkafka_options, run_together
from streams.bench.plan import Plan
from streams.bench.report import Say, machine, plot_curves, print_table, speaker, write_report
from streams.bench.stages import Stage, loop_lag_ms, stages_between
from streams.bench.world import catalogue_rows, history_rows, publish_all, random_release
from streams.demo.session import clean_exit, cluster
from streams.errors import ConfigurationError, SlatestreamError
from streams.kafka.topics import topic_name
from streams.settings import Settings
from streams.worker.process import MetricsReading, WorkerProcess, same_topics

SETUP_S = 40.0  # a broker, a worker, a catalogue: what the plan expects before it knows
READY_S = 900.0
QUIET_S = 60.0
WARM_UP = (30.0, 4.0)  # requests a second, seconds
CLICKING_USERS = 100_000
PROBE_S = 6.0
BISECTIONS = 3
HIGHEST_RATE = 6_400.0
HOP_RATE = 50.0
COLUMNS = (
    "over", "items", "clicks/s", "asked/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms",
    "unanswered", "refused", "fallbacks", "loop p99.9 ms",
)  # fmt: skip


class Over(StrEnum):
    """How requests come."""

    KAFKA = "kafka"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Load:
    """One cell of the table: what is asked of the worker."""

    over: Over
    items: int
    rate: float
    clicks: float

    def __str__(self) -> str:
        beside = f", {self.clicks:,.0f} clicks/s beside" if self.clicks else ""
        return f"{self.items:,} items, {self.rate:,.0f} requests/s over {self.over}{beside}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a load."""

    load: Load
    outcome: Outcome
    clicks: Outcome | None
    latency: dict[str, float]
    stages: list[Stage]
    loop_lag_ms: float | None

    def keeps(self, limit_ms: float) -> bool:
        """Tell whether p99 is within a limit and nothing was left unanswered or refused."""
        return self.latency["p99_ms"] <= limit_ms and not self.outcome.unanswered and not self.outcome.refused

    def row(self) -> list[Any]:
        """Return the cells of `COLUMNS`."""
        load, made = self.load, self.outcome
        figures = [self.latency[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p99_9_ms")]
        clicks = self.clicks.per_second if self.clicks else 0
        return [
            str(load.over), load.items, round(clicks), round(load.rate), made.per_second, *figures,
            made.unanswered, made.refused, made.fallbacks, self.loop_lag_ms,
        ]  # fmt: skip


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
        float, typer.Option(help="Search for the rate at which p99 passes this, per size; 0 does not.")
    ] = 25.0,
    release: Annotated[
        Path | None, typer.Option(help="Release to serve; unset, one of random weights is made.")
    ] = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="Serve without any release.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the worker, name=value, such as policy=greedy; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the requests and the clicks.")] = 1,
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
    by the same generator without any worker, twice through the broker.

    Examples: `slatestream bench serve --items 20000 --rates 50,100 --clicks 0 --limit-ms 0` takes two
    minutes; the default grid about twenty; `--set policy=greedy --set k_default=20` measures other settings.
    """
    console = Console()
    say = speaker(console)
    given = settings_given(set_ or [])
    mixes = list(product(ways(over), numbers(clicks), numbers(rates)))
    loads = [[Load(way, size, rate, beside) for way, beside, rate in mixes] for size in whole_numbers(items)]
    step = seconds + 3.0
    searched = PROBE_S * 9 if limit_ms else 0.0
    plan = Plan([SETUP_S + step * len(of_size) + searched for of_size in loads], say)
    measured: list[Measured] = []
    limits: list[dict[str, Any]] = []
    hop: dict[str, float] = {}
    with clean_exit(console):
        if not baseline:
            say("Making a release of random weights (kept for the next time) ...")
            given["release"] = str(release or random_release(out / "random-release"))
        for of_size in loads:
            plan.begin(f"{of_size[0].items:,} items")
            with serving(of_size[0].items, users, given, out / "serve-worker.log", say) as bench:
                hop = bench.hop(seconds=min(seconds, 5.0))
                for load in of_size:
                    one = bench.measure(load, seconds, seed)
                    measured.append(one)
                    say(f"  {line(one)}")
                if limit_ms:
                    for beside in numbers(clicks):
                        limits.append(
                            bench.limit(Load(Over.KAFKA, of_size[0].items, 0, beside), limit_ms, seed)
                        )
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


class Bench:
    """A worker that is ready, and what is asked of it."""

    def __init__(self, settings: Settings, worker: WorkerProcess, users: int, say: Say) -> None:
        self._settings = settings
        self._worker = worker
        self._users = users
        self._say = say
        self._client = librdkafka_options(settings)

    def hop(self, *, seconds: float) -> dict[str, float]:
        """Measure a record's way to the broker and back, without a worker."""
        topic = topic_name(self._settings, "feedback")  # of no use to a worker that has just begun
        work = Work(
            kind="hop", rate=HOP_RATE, seconds=seconds, users=self._users, client=self._client,
            to=topic, back=topic, partitions=self._settings.partitions,
        )  # fmt: skip
        return _latency(run_together(work)[0])

    def measure(self, load: Load, seconds: float, seed: int) -> Measured:
        """Put a load on the worker once it has nothing else to do."""
        self.quiet()
        works = [self._asking(load, seconds, seed)]
        if load.clicks:
            works.append(self._clicking(load, seconds, seed))
        before = self._reading()
        outcomes = run_together(*works)
        after = self._reading()
        return Measured(
            load,
            outcomes[0],
            outcomes[1] if load.clicks else None,
            _latency(outcomes[0]),
            stages_between(before, after),
            loop_lag_ms(before, after),
        )

    def limit(self, load: Load, limit_ms: float, seed: int) -> dict[str, Any]:
        """Search for the rate at which p99 passes a limit."""

        def keeps(rate: float) -> bool:
            one = self.measure(Load(load.over, load.items, rate, load.clicks), PROBE_S, seed)
            self._say(f"  {line(one)}")
            return one.keeps(limit_ms)

        found: Limit = find_limit(keeps, start=50.0, steps=BISECTIONS, highest=HIGHEST_RATE)
        return {
            "over": str(load.over), "items": load.items, "clicks": load.clicks, "kept": found.kept,
            "broken": found.broken,
        }  # fmt: skip

    def quiet(self) -> None:
        """Wait until everything that was asked and clicked before has been dealt with."""
        deadline = time.monotonic() + QUIET_S
        while True:
            reading = self._reading()
            left = reading.total("lag_records", topic="clicks") + reading.total(
                "lag_records", topic="requests"
            )
            if not left and not reading.total("waiting_requests") and self._worker.is_ready():
                return
            if time.monotonic() > deadline:
                raise SlatestreamError(
                    f"after {QUIET_S:.0f} s the worker still has {left:,.0f} records to read and "
                    f"{reading.total('waiting_requests'):,.0f} requests to answer"
                )
            time.sleep(0.5)

    def _reading(self) -> MetricsReading:
        deadline = time.monotonic() + QUIET_S
        while (reading := self._worker.metrics()) is None:
            if time.monotonic() > deadline:
                raise SlatestreamError(f"the worker's /metrics has not answered for {QUIET_S:.0f} s")
        return reading

    def _asking(self, load: Load, seconds: float, seed: int) -> Work:
        url = urlsplit(self._worker.url)
        return Work(
            kind=load.over.value,
            rate=load.rate,
            seconds=seconds,
            users=self._users,
            seed=seed,
            host=str(url.hostname),
            port=int(url.port or 80),
            client=self._client,
            to=topic_name(self._settings, "requests"),
            back=topic_name(self._settings, "recommendations"),
            partitions=self._settings.partitions,
        )

    def _clicking(self, load: Load, seconds: float, seed: int) -> Work:
        return Work(
            kind="clicks", rate=load.clicks, seconds=seconds, users=CLICKING_USERS, items=load.items,
            seed=seed + 1, client=self._client, to=topic_name(self._settings, "clicks"),
            partitions=self._settings.partitions,
        )  # fmt: skip


@contextmanager
def serving(items: int, users: int, given: dict[str, Any], log: Path, say: Say) -> Iterator[Bench]:
    """Give a warm worker with a catalogue and users with histories, on topics of its own."""
    with cluster(lambda _: None, "serve", partitions=4) as settings:
        publish_all(settings, "item-state", catalogue_rows(items, settings.partitions))
        publish_all(settings, "clicks", history_rows(users, items))
        log.unlink(missing_ok=True)
        began = time.monotonic()
        with WorkerProcess(same_topics(settings, **given), log=log) as worker:
            worker.wait_ready(READY_S)
            say(f"  ready with {items:,} items after {time.monotonic() - began:.1f} s")
            bench = Bench(settings, worker, users, say)
            for way in Over:
                bench.measure(Load(way, items, WARM_UP[0], 0.0), WARM_UP[1], 0)
            yield bench


def _latency(outcome: Outcome) -> dict[str, float]:
    return Latencies(outcome.latencies).summary()


def line(one: Measured) -> str:
    """Say in one line what became of a load."""
    latency, made = one.latency, one.outcome
    told = f"p50 {latency['p50_ms']:.1f}, p99 {latency['p99_ms']:.1f}, p99.9 {latency['p99_9_ms']:.1f} ms"
    lost = f", {made.unanswered} unanswered" if made.unanswered else ""
    turned = f", {made.refused} refused" if made.refused else ""
    late = f" (the generator was {made.late_ms:.0f} ms late)" if made.late_ms > 10 else ""
    return f"{one.load}: {told}{lost}{turned}{late}"


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


def split(text: str) -> list[str]:
    """Parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def ways(text: str) -> list[Over]:
    """Read a comma-separated list of ways for requests to come."""
    try:
        return [Over(part) for part in split(text)]
    except ValueError:
        raise ConfigurationError(f"--over must be among {', '.join(Over)}, got {text!r}") from None


def numbers(text: str) -> list[float]:
    """Read a comma-separated list of numbers from 0 on."""
    try:
        found = [float(part) for part in split(text)]
    except ValueError:
        raise ConfigurationError(f"expected numbers, comma-separated, got {text!r}") from None
    if not found or min(found) < 0:
        raise ConfigurationError(f"expected numbers from 0 on, comma-separated, got {text!r}")
    return found


def whole_numbers(text: str) -> list[int]:
    """Read a comma-separated list of whole numbers from 1 on."""
    found = [int(number) for number in numbers(text)]
    if min(found) < 1:
        raise ConfigurationError(f"expected numbers from 1 on, comma-separated, got {text!r}")
    return found


def settings_given(pairs: list[str]) -> dict[str, Any]:
    """Read name=value pairs as settings of the worker.

    Raises
    ------
    ConfigurationError
        If there is no such setting, or a pair has no value.
    """
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in Settings.model_fields:
            raise ConfigurationError(f"--set must be name=value with a name of the settings, got {pair!r}")
        given[name] = value
    return given
