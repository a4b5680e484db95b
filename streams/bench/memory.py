"""`slatestream bench memory`: what a user, an interaction, an item and an edge weigh, and what grows."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from streams.bench.folding import follow
from streams.bench.load import LoadProcess, librdkafka_options
from streams.bench.options import Set, settings_given
from streams.bench.report import Say, print_table, speaker, write_report
from streams.bench.steps import Steps
from streams.bench.work import Work
from streams.bench.world import CHUNK, Rows, catalogue_rows, history_rows, publish_all
from streams.errors import SlatestreamError
from streams.kafka.partitioner import partitions_of
from streams.kafka.topics import topic_name
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.state.item_rows import encode_item_state
from streams.worker.process import WorkerProcess, same_topics

EDGES = 8
SETTLE_S = 12.0
LOAD_S = 600.0
SOAK_ITEMS, SOAK_REQUESTS = 2_000, 20.0
SOAK_LOOK_S = 5.0
# Histories of the soak's users are full, and its slates have closed, within its first part.
SOAK_FULL, SOAK_WINDOW_MS = 1 / 8, 30_000
BURST = "a burst of clicks, at its peak"


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of one more of something: what the process grew by, divided by how many were loaded."""

    what: str
    loaded: int
    bytes_each: float


def memory_command(
    users: Annotated[int, typer.Option(min=1_000, help="Users to load.")] = 100_000,
    items: Annotated[int, typer.Option(min=1_000, help="Items to load, of each kind.")] = 50_000,
    soak: Annotated[
        float,
        typer.Option(
            min=0, max=100_000, help="Minutes of a steady load after that, memory watched; 0 is none."
        ),
    ] = 0.0,
    clicks: Annotated[float, typer.Option(min=1, help="Clicks a second of the soak.")] = 500.0,
    set_: Set = None,
    out: Annotated[Path, typer.Option(help="Folder for memory.json and the worker's log.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure what state weighs: by loading known amounts, one kind after the other, and reading memory.

    Users first with one interaction each, then again with nine more: the difference is what an interaction
    weighs. Items first bare, then with eight edges each, then with a text vector of 384 numbers: each kind is
    others' items, so that what was there before is not touched. The figures are resident memory, so the
    interpreter's and the clients' buffers are in them; they are right to a tenth at 100,000 of a kind.

    --soak 30 then asks for 20 slates and sends 500 clicks a second for half an hour, of users and items that
    are known, and fits a line through the second half: a slope that stays above 0 is a leak.

    slatestream bench memory
    """
    console = Console()
    say = speaker(console)
    given = {"text_encoder": "none"} | settings_given(set_ or [])
    if soak:
        given = {"attribution_window_ms": SOAK_WINDOW_MS} | given
    expected_s = [40.0, 30.0, 50.0, 30.0, 35.0, 35.0] + ([60 * soak] if soak else [])
    steps = Steps(expected_s, say)
    log = out / "memory-worker.log"
    log.unlink(missing_ok=True)
    with clean_exit(console), cluster(lambda _: None, "memory", partitions=4) as settings:
        steps.begin("an empty worker")
        with WorkerProcess(same_topics(settings, **given), log=log) as worker:
            worker.wait_ready()
            scale = Scale(worker)
            idle = scale.bytes
            weights = load_kinds(settings, worker, scale, steps, users, items)
            slope: float | None = None
            samples: list[tuple[float, float]] = []
            if soak:
                steps.begin(f"{soak:g} minutes of a steady load")
                samples = soaked(settings, worker, soak * 60, clicks, say)
                slope = slope_per_hour(samples)
    print_table(
        console, "Resident memory", ("what", "loaded", "bytes each"),
        [["an idle worker", 1, idle], *([w.what, w.loaded, w.bytes_each] for w in weights)],
    )  # fmt: skip
    if slope is not None:
        end = f"{samples[-1][1] / 2**20:,.0f} MiB at its end"
        say(f"second half of the soak: {slope / 2**20:+,.1f} MiB an hour, {end}")
    say(f"machine: {machine()}")
    report = {"idle_bytes": idle, "weights": [asdict(weight) for weight in weights]}
    write_report(out / "memory.json", report | {"soak": samples, "slope_bytes_per_hour": slope}, say)


class Scale:
    """Resident memory between one reading and the next."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self.bytes = self._read()

    def _read(self) -> int:
        time.sleep(SETTLE_S)  # flushes come and go, and what they needed is given back with the next sweep
        return self._worker.resident_bytes()

    def grown(self) -> int:
        """Bytes since the last reading."""
        before, self.bytes = self.bytes, self._read()
        return self.bytes - before

    def peak(self) -> int:
        """Bytes at the most since `forget_peak`, beyond the last reading."""
        return max(0, self._worker.peak_bytes() - self.bytes)

    def forget_peak(self) -> None:
        """Let `peak` count from now on."""
        self._worker.forget_peak()


def load_kinds(
    settings: Settings, worker: WorkerProcess, scale: Scale, steps: Steps, users: int, items: int
) -> list[Weight]:
    """Load each kind and weigh it."""
    found: list[Weight] = []
    clicks = 0

    def weigh(what: str, count: int, load: Callable[[], object]) -> None:
        steps.begin(what)
        load()
        found.append(Weight(what, count, scale.grown() / count))

    def histories(each: int, seed: int) -> Callable[[], object]:
        def load() -> None:
            nonlocal clicks
            clicks += publish_all(settings, "clicks", history_rows(users, 1_000, each=each, seed=seed))
            follow(worker, events=clicks)

        return load

    def catalogue(prefix: str, edges: int, dim: int, total: int) -> Callable[[], object]:
        def load() -> None:
            publish_all(settings, "item-state", item_rows(items, prefix, settings.partitions, edges, dim))
            await_items(worker, total)

        return load

    weigh("a user with one interaction", users, histories(1, 0))
    scale.forget_peak()
    weigh("an interaction", 9 * users, histories(9, 1))
    burst = Weight(BURST, 1, scale.peak())
    weigh("an item", items, catalogue("bare", 0, 0, items))
    weigh("an item with 8 edges", items, catalogue("edges", EDGES, 0, 2 * items))
    weigh("an item with a text vector", items, catalogue("text", 0, 384, 3 * items))
    item = found[2].bytes_each
    return [*found, Weight("an edge", EDGES * items, (found[3].bytes_each - item) / EDGES), burst]


def item_rows(items: int, prefix: str, partitions: int, edges: int, dim: int) -> Rows:
    """Key and item-state value of items with so many edges to 1,000 entities and a text vector of `dim`."""
    rng = np.random.default_rng(0)
    for start in range(0, items, CHUNK):
        names = [f"{prefix}{number}" for number in range(start, min(items, start + CHUNK))]
        where = partitions_of(names, partitions).tolist()
        linked = rng.integers(0, 1_000, (len(names), edges)).tolist()
        for number, (name, partition) in enumerate(zip(names, where, strict=True)):
            value = encode_item_state(
                content_id=name,
                title=name,
                text=rng.standard_normal(dim, np.float32) if dim else None,
                image=None,
                audio=None,
                attributes={"genre": [f"e{entity}" for entity in linked[number]]} if edges else {},
                triples=[],
                available=True,
                published_ms=None,
                expires_ms=None,
                partition=partition,
                offset=start + number,
            )
            yield name, value


def await_items(worker: WorkerProcess, total: int) -> None:
    """Wait until a worker has read so many items and placed them all."""
    deadline = time.monotonic() + LOAD_S
    while True:
        reading = worker.metrics()
        if reading is not None and reading.total("state_rows", kind="vectors") >= total and worker.is_ready():
            return
        if time.monotonic() > deadline:
            raise SlatestreamError(f"{total:,} items are not placed after {LOAD_S:.0f} s")
        time.sleep(0.2)


def soaked(
    settings: Settings, worker: WorkerProcess, seconds: float, clicks: float, say: Say
) -> list[tuple[float, float]]:
    """Put a steady load on the worker and read its memory: (seconds, bytes) samples."""
    users = max(100, int(clicks * seconds * SOAK_FULL / settings.history_limit))
    publish_all(settings, "item-state", catalogue_rows(SOAK_ITEMS, settings.partitions))
    works = [
        Work(
            kind=kind,
            rate=rate,
            seconds=seconds,
            users=users,
            items=1_000,
            client=librdkafka_options(settings),
            to=topic_name(settings, to),
            back=topic_name(settings, "recommendations"),
            partitions=settings.partitions,
        )
        for kind, rate, to in (("clicks", clicks, "clicks"), ("kafka", SOAK_REQUESTS, "requests"))
    ]
    samples: list[tuple[float, float]] = []
    with LoadProcess(works[0]) as first, LoadProcess(works[1]) as second:
        began = told = time.monotonic()
        for process in (first, second):
            process.begin(began)
        while (passed := time.monotonic() - began) < seconds:
            samples.append((passed, float(worker.resident_bytes())))
            if time.monotonic() - told > 60:
                told = time.monotonic()
                say(f"  after {passed / 60:.0f} min: {samples[-1][1] / 2**20:,.0f} MiB")
            time.sleep(SOAK_LOOK_S)
        outcomes = [process.result() for process in (first, second)]
    clicked, asked = outcomes
    say(f"  {asked.answered:,} slates, {asked.unanswered:,} unanswered, {clicked.answered:,} clicks")
    return samples


def slope_per_hour(samples: list[tuple[float, float]]) -> float:
    """Bytes an hour, by least squares over the second half of (seconds, bytes) samples; 0 of fewer than 2."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return 0.0
    times, sizes = np.array(half).T
    return float(np.polyfit(times, sizes, 1)[0] * 3600)
