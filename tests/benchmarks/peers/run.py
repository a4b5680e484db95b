"""Other stream processors beside our worker, on one broker, one topic and one machine, in one run.

    python -m tests.benchmarks.peers.run --peers kafka-streams,flink,quix,faust --events 1000000

Every engine gets the same clicks: about 99,000 users, none of whom dominates. A peer's job is a part of what
our worker does: decode, keep each user's last 50 items and a counter in the engine's own fault-tolerant
state, at least once, and write one record for every ten events of a user. Our worker folds profiles,
co-visits and the join with slates, and keeps them in changelogs.

A rate counts from the first output to the last, by the broker's clock, of a peer, and from the first folded
event to the last of our worker; the second half is the rate once compilers have warmed up. "from start"
counts from the start of the process. The number of outputs of a peer is checked. Beside them stands a bare
consumer that decodes nothing. Machines are noisy: what can be compared are the ratios of one run, and, where
others run beside it, processor time: "CPU us" is that of a process an event, its start included.
"""

import contextlib
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streams.bench.folding import Mark, bare_consumer, folding_of, follow
from streams.bench.load import librdkafka_options
from streams.bench.report import Say, print_table, speaker, write_report
from streams.bench.steps import Steps
from streams.errors import SlatestreamError
from streams.kafka.topic_admin import create_topics
from streams.kafka.topics import topic_name
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import DIE_WITH_PARENT, WorkerProcess, process_cpu_seconds, same_topics
from tests.benchmarks.peers.engines import ENGINES, Engine
from tests.benchmarks.peers.topic import PARTITIONS, Wide, await_outputs, fill, make_topic, read_span

OURS = "slatestream"
ENGINE_TIMEOUT_S = 600.0
STOP_S = 20.0
LOOK_S = 0.1
EXPECTED_RATE = {
    "bare": 500_000,
    OURS: 40_000,
    "kafka-streams": 60_000,
    "flink": 60_000,
    "quix": 20_000,
    "faust": 2_000,
}
START_S = 8.0


@dataclass(frozen=True, slots=True)
class Result:
    """Events a second of one engine."""

    name: str
    title: str
    events: int
    per_second: float
    second_half: float
    from_start: float
    cpu_us: float | None = None


def main(
    peers: Annotated[
        str, typer.Option(help=f"Of {', '.join(ENGINES)}, comma-separated; may be empty.")
    ] = ",".join(ENGINES),
    events: Annotated[
        int, typer.Option(min=10_000, help="Clicks; Quix gets a fifth of them and Faust 3 %.")
    ] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each; the medians are shown.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for peers.json and the logs.")] = Path("build/bench"),
) -> None:
    """Measure our worker and its peers on the same topic."""
    console = Console()
    say = speaker(console)
    names = [name.strip() for name in peers.split(",") if name.strip()]
    if unknown := set(names) - ENGINES.keys():
        raise SlatestreamError(f"--peers must be among {', '.join(ENGINES)}, got {sorted(unknown)[0]!r}")
    out.mkdir(parents=True, exist_ok=True)
    with clean_exit(console), cluster(say, "peers", partitions=PARTITIONS) as settings:
        results = measure_all(settings, names, events, rounds, out, say)
    ours = next(result.per_second for result in results if result.name == OURS)
    print_table(
        console,
        f"Events a second on the wide topic, {events:,} events",
        ("engine", "events", "events/s", "second half", "from start", "CPU us", "ours / theirs"),
        [
            [
                one.title,
                one.events,
                one.per_second,
                one.second_half,
                one.from_start,
                one.cpu_us,
                ours / one.per_second,
            ]  # fmt: skip
            for one in results
        ],
    )
    say(f"machine: {machine()}")
    ratios = {one.name: ours / one.per_second for one in results if one.name != OURS}
    write_report(out / "peers.json", {"results": [asdict(one) for one in results], "ratios": ratios}, say)


def measure_all(
    settings: Settings, names: list[str], events: int, rounds: int, out: Path, say: Say
) -> list[Result]:
    """Fill the topics, build the peers, then measure everything, a round after the other."""
    say("Building the peers (kept for the next time) ...")
    commands = {name: ENGINES[name].build() for name in names}
    wide: dict[float, Wide] = {}
    for name in ["all", *names]:
        share = 1.0 if name == "all" else ENGINES[name].events_share
        if share not in wide:
            topic = f"{settings.topic_prefix}wide-{name}"
            make_topic(settings.bootstrap_servers, topic)
            wide[share] = fill(settings, topic, round(events * share))
    order = ["bare", OURS, *names] * rounds
    share_of = {name: ENGINES[name].events_share for name in names}
    steps = Steps([START_S + events * share_of.get(name, 1.0) / EXPECTED_RATE[name] for name in order], say)
    taken: dict[str, list[Result]] = {}
    for name in order:
        steps.begin(name)
        if name == "bare":
            result = bare(settings, wide[1.0])
        elif name == OURS:
            result = ours(settings, events, out / "peers-worker.log")
        else:
            engine = ENGINES[name]
            result = peer(settings, engine, commands[name], wide[engine.events_share], out)
        say(f"  {result.per_second:,.0f} events/s, second half {result.second_half:,.0f}")
        taken.setdefault(name, []).append(result)
    return [median(results) for results in taken.values()]


def median(results: list[Result]) -> Result:
    """Return the result in the middle by its rate."""
    return sorted(results, key=lambda result: result.per_second)[len(results) // 2]


def bare(settings: Settings, wide: Wide) -> Result:
    """Consume with librdkafka and decode nothing."""
    began = time.monotonic()
    marks = bare_consumer(librdkafka_options(settings), wide.name, PARTITIONS, wide.events)
    return result_of("bare", "librdkafka consumer, nothing decoded", wide.events, marks, began)


def ours(settings: Settings, events: int, log: Path) -> Result:
    """Let a worker fold every event, from a cold start, on topics of its own."""
    log.unlink(missing_ok=True)
    unique = f"{settings.group_id}-{uuid.uuid4().hex[:6]}"
    fresh = settings.model_copy(update={"group_id": unique, "topic_prefix": f"{unique}-"})
    create_topics(fresh)
    fill(fresh, topic_name(fresh, "clicks"), events)
    began = time.monotonic()
    with WorkerProcess(same_topics(fresh, text_encoder="none"), log=log) as worker:
        marks = follow(worker, events=events)
    return result_of(OURS, "slatestream worker, full path", events, marks, began)


def result_of(name: str, title: str, events: int, marks: list[Mark], began: float) -> Result:
    """Rates from marks; processor time counts from the start of the process, as a peer's does."""
    folding, last = folding_of(marks), marks[-1]
    from_start = last.events / (last.at - began)
    return Result(
        name,
        title,
        events,
        folding.per_second,
        folding.second_half,
        from_start,
        folding.cpu_us if name == "bare" else last.cpu_s / last.events * 1e6,
    )


def peer(settings: Settings, engine: Engine, command: list[str], wide: Wide, out: Path) -> Result:
    """Run a peer on the topic until it has written every output."""
    servers, unique = settings.bootstrap_servers, f"{engine.name}-{uuid.uuid4().hex[:6]}"
    target = f"{settings.topic_prefix}{unique}"
    make_topic(servers, target, **{"message.timestamp.type": "LogAppendTime"})
    state = Path(tempfile.mkdtemp(prefix=f"{unique}-"))
    began_ms = time.time() * 1000
    log = out / f"peers-{engine.name}.log"
    with running([*command, servers, wide.name, target, unique, str(state)], log) as process:

        def check() -> None:
            if process.poll() is not None:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise SlatestreamError(f"{engine.title} ended with code {process.returncode}:\n{tail}")

        await_outputs(servers, target, wide.outputs, check=check, timeout_s=ENGINE_TIMEOUT_S)
        cpu_s = process_cpu_seconds(process.pid)
    shutil.rmtree(state, ignore_errors=True)
    span = read_span(servers, target)
    if len(span.written_ms) != wide.outputs:
        raise SlatestreamError(
            f"{engine.title} must write {wide.outputs:,} outputs, got {len(span.written_ms):,}"
        )
    return Result(
        engine.name,
        engine.title,
        wide.events,
        per_second=wide.events / max(span.seconds(), 1e-3),
        second_half=wide.events / 2 / max(span.seconds(wide.outputs_of_half), 1e-3),
        from_start=wide.events / ((span.written_ms[-1] - began_ms) / 1000),
        cpu_us=cpu_s / wide.events * 1e6,
    )


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process for the time of the block; it ends with us, whatever becomes of us."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*DIE_WITH_PARENT, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
