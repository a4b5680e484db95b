"""`slatestream bench swap`: what it costs those who ask that releases change, and how fast they do."""

import asyncio
import json
import os
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from model_core.release.folder import MANIFEST, sign_manifest
from streams.bench.latency import Latencies
from streams.bench.loaded import READY_S, Bench, Load, Over
from streams.bench.options import Set, settings_given
from streams.bench.report import Say, print_table, speaker, write_report
from streams.bench.world import catalogue_rows, history_rows, publish_all, random_release
from streams.client import SlateClient
from streams.errors import SlatestreamError
from streams.events import Request
from streams.kafka.publisher import Publisher
from streams.kafka.topics import topic_name
from streams.releases.changes import Kind, ReleaseChange, encode_change
from streams.releases.store import ReleaseStore
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics

SERVES_S = 120.0
REWARDED_MS = 5_000  # a slate: of half an hour's worth, memory would grow by themselves
LOOK_S = 0.05
WARM_UP_S = 6.0
COLUMNS = (
    "swaps", "what", "p50 ms", "p99 ms", "p99 to none by round", "unanswered", "CPU ms/slate", "MiB by round",
)  # fmt: skip
NONE, READY, LOADED = "none", "to a release held ready", "to a release that is fetched and loaded"
SERVES = re.compile(r"release (\w{12}) serves in the place of")


@dataclass(slots=True)
class Phase:
    """Results of a load while releases changed, of all rounds.

    p99_by_round_ms, cpu_ms, mib : of each round; mib is the worker's memory after it
    """

    what: str
    swaps: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    unanswered: int = 0
    p99_by_round_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Figures as they are written to swap.json."""
        return {
            "what": self.what, "swaps": self.swaps, **self.latencies.summary(), "mib": self.mib,
            "unanswered": self.unanswered, "cpu_ms": float(np.mean(self.cpu_ms)),
            "p99_by_round_ms": self.p99_by_round_ms,
        }  # fmt: skip


def to_none(phase: Phase, none: Phase) -> NDArray[np.float64]:
    """Return p99 as a share of that without swaps in the same round: (rounds,).

    Other programs disturb some rounds more than others; p99 of all rounds together is that of the worst ones.
    """
    share: NDArray[np.float64] = np.asarray(phase.p99_by_round_ms) / np.asarray(none.p99_by_round_ms)
    return share


def swap_command(
    items: Annotated[int, typer.Option(min=10, help="Items of the catalogue.")] = 1_700,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 100.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured, in turns.")] = 6,
    seconds: Annotated[float, typer.Option(min=2, help="Of each measurement.")] = 15.0,
    swaps: Annotated[int, typer.Option(min=2, help="Swaps in all, half of each kind.")] = 500,
    rollbacks: Annotated[int, typer.Option(min=1, help="Rollbacks that are timed, one by one.")] = 30,
    users: Annotated[int, typer.Option(min=1, help="Users who ask, each with 20 likes.")] = 5_000,
    set_: Set = None,
    out: Annotated[Path, typer.Option(help="Folder for swap.json, the store and the worker's log.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure latency and memory while releases change, beside the same load without changes.

    The same load in turns, round by round, for what else runs on a machine to disturb all alike: no swaps;
    swaps between two releases that the worker holds; swaps to the next of three releases, each fetched,
    loaded and warmed anew. Swaps are spread evenly. p99 is put beside that without swaps in the same round:
    the median of the rounds, the lowest and the highest. Then rollbacks are timed, from the broker's answer
    to the record until the first slate of the release before.

    slatestream bench swap
    """
    console = Console()
    say = speaker(console)
    with clean_exit(console), _worker(items, users, settings_given(set_ or []), out, say) as world:
        phases = [Phase(what) for what in (NONE, READY, LOADED)]
        every = rounds * seconds / (swaps / 2)
        for _ in range(rounds):
            for one in phases:
                world.measure(one, rate, seconds, world.changing(one.what, every))
        took_ms = np.array(asyncio.run(world.rollbacks(rollbacks))) * 1000
    found = [one.figures() for one in phases]
    shares = [to_none(one, phases[0]) for one in phases]
    rows = [
        [
            one["swaps"], one["what"], one["p50_ms"], one["p99_ms"],
            f"{np.median(share):.2f} ({share.min():.2f} .. {share.max():.2f})", one["unanswered"],
            one["cpu_ms"], " ".join(f"{mib:.0f}" for mib in one["mib"]),
        ]
        for one, share in zip(found, shares, strict=True)
    ]  # fmt: skip
    print_table(console, f"{rate:g} requests/s, {items:,} items", COLUMNS, rows)
    rollback = {"p50": float(np.median(took_ms)), "max": float(took_ms.max())}
    say(f"rollback, record to first slate: p50 {rollback['p50']:.0f} ms, longest {rollback['max']:.0f} ms")
    say(f"machine: {machine()}")
    figures = {"items": items, "rate": rate, "seconds": seconds, "rollback_ms": rollback}
    write_report(out / "swap.json", figures | {"rounds": rounds, "phases": found}, say)


class World:
    """A worker that follows, the releases of its store, and who changes what serves."""

    def __init__(
        self,
        settings: Settings,
        worker: WorkerProcess,
        bench: Bench,
        versions: list[str],
        *,
        log: Path,
        fetched: Path,
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._bench = bench
        self._versions = versions
        self._log = log
        self._fetched = fetched
        self._topic = topic_name(settings, "model-releases")

    def measure(
        self, phase: Phase, rate: float, seconds: float, changing: AbstractContextManager[Any]
    ) -> None:
        """Add a measurement to a phase."""
        before = self._swaps()
        with changing:
            one = self._bench.measure(Load(Over.KAFKA, 0, rate, 0.0), seconds, 1)
        self._bench.quiet()
        phase.swaps += self._swaps() - before
        phase.latencies.add_all(one.outcome.latencies)
        phase.p99_by_round_ms.append(Latencies(one.outcome.latencies).at(99.0))
        phase.unanswered += one.outcome.unanswered
        phase.cpu_ms.append(one.cpu_ms)
        phase.mib.append(self._worker.resident_bytes() / 2**20)

    def changing(self, what: str, every: float) -> AbstractContextManager[Any]:
        """Return what changes releases in a thread of its own while it is entered, so many seconds apart."""
        if what == NONE:
            return nullcontext()

        @contextmanager
        def running() -> Iterator[None]:
            enough = threading.Event()
            asyncio.run(self._hold_ready())
            work = (self._go_to_and_fro if what == READY else self._go_round)(every, enough)
            thread = threading.Thread(target=lambda: asyncio.run(work))
            thread.start()
            try:
                yield
            finally:
                enough.set()
                thread.join()

        return running()

    async def say(self, publisher: Publisher, kind: Kind, version: str) -> None:
        """Write a change; return when the broker has it."""
        change = ReleaseChange(kind, version, "bench", int(1000 * time.time()))
        await publisher.publish(self._topic, 0, [encode_change(change)])

    async def _hold_ready(self) -> None:
        """Let the second release serve and then the first: both are held from then on."""
        async with _publishing(self._settings) as publisher:
            for version in (self._versions[1], self._versions[0]):
                await self.say(publisher, "promote", version)
                await asyncio.to_thread(self.wait, version)

    async def _go_to_and_fro(self, every: float, enough: threading.Event) -> None:
        first, second, *_ = self._versions
        due = time.monotonic()
        async with _publishing(self._settings) as publisher:
            while not enough.is_set():
                due += every
                await self.say(publisher, "promote", second)
                first, second = second, first
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.to_thread(self.wait, first)

    async def _go_round(self, every: float, enough: threading.Event) -> None:
        number, due = 0, time.monotonic()
        async with _publishing(self._settings) as publisher:
            while not enough.is_set():
                due += every
                number += 1
                version = self._versions[number % len(self._versions)]
                shutil.rmtree(self._fetched / version, ignore_errors=True)
                await self.say(publisher, "promote", version)
                await asyncio.to_thread(self.wait, version)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def rollbacks(self, n: int) -> list[float]:
        """Return the seconds from a rollback's record to the first slate of the release before, n times."""
        took: list[float] = []
        first, second, *_ = self._versions
        async with _publishing(self._settings) as publisher, SlateClient(self._settings) as client:

            async def until(version: str) -> None:
                deadline = time.monotonic() + SERVES_S
                while time.monotonic() < deadline:
                    request = Request(f"b{time.time_ns()}", "u0", int(1000 * time.time()))
                    if (await client.ask(request)).recommendation.model_version == version:
                        return
                raise SlatestreamError(f"{version} does not serve after {SERVES_S:.0f} s")

            for version in (first, second):
                await self.say(publisher, "promote", version)
                await until(version)
            for _ in range(n):
                await self.say(publisher, "rollback", first)
                began = time.perf_counter()
                await until(first)
                took.append(time.perf_counter() - began)
                await self.say(publisher, "promote", second)
                await until(second)
        return took

    def wait(self, version: str) -> None:
        """Return once a release serves, by the worker's log: to be asked would cost it time."""
        deadline = time.monotonic() + SERVES_S
        while time.monotonic() < deadline:
            if SERVES.findall(self._log.read_text(errors="replace"))[-1:] == [version]:
                return
            time.sleep(LOOK_S)
        raise SlatestreamError(f"{version} does not serve after {SERVES_S:.0f} s")

    def _swaps(self) -> int:
        deadline = time.monotonic() + SERVES_S
        while (reading := self._worker.metrics()) is None:
            if time.monotonic() > deadline:
                raise SlatestreamError(f"the worker's /metrics has not answered for {SERVES_S:.0f} s")
        return int(reading.total("release_swaps_total"))


@contextmanager
def _worker(items: int, users: int, given: dict[str, Any], out: Path, say: Say) -> Iterator[World]:
    """Give a warm worker that follows a store of three releases of the same size, and serves the first."""
    say("Making three releases of random weights (the first is kept for the next time) ...")
    store = out / "swap-store"
    versions = _stored(random_release(out / "random-release"), store)
    log = out / "swap-worker.log"
    log.unlink(missing_ok=True)
    cache = out / "swap-cache"  # what is fetched need not lie in the user's own
    try:
        with cluster(lambda _: None, "swap", partitions=4) as settings:
            publish_all(settings, "item-state", catalogue_rows(items, settings.partitions))
            publish_all(settings, "clicks", history_rows(users, items))
            ours = {"release_store": str(store.resolve()), "attribution_window_ms": REWARDED_MS}
            values = same_topics(settings, **ours | given)
            variables = {"XDG_CACHE_HOME": str(cache.resolve())}
            with WorkerProcess(values, log=log, variables=variables) as worker:
                worker.wait_ready(READY_S)
                bench = Bench(settings, worker, users, lambda _: None)
                world = World(
                    settings, worker, bench, versions, log=log, fetched=cache / "slatestream" / "releases"
                )
                for version in (*versions, versions[0]):
                    asyncio.run(_promote(world, settings, version))
                    world.wait(version)
                say(f"  ready with {items:,} items")
                world.measure(Phase(NONE), 30.0, WARM_UP_S, nullcontext())
                yield world
    finally:
        for folder in (store, cache):
            shutil.rmtree(folder, ignore_errors=True)


async def _promote(world: World, settings: Settings, version: str) -> None:
    async with _publishing(settings) as publisher:
        await world.say(publisher, "promote", version)


@asynccontextmanager
async def _publishing(settings: Settings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


def _stored(base: Path, store: Path) -> list[str]:
    """Put a release and two like it, told apart by what a like counts, into a store: their versions."""
    versions = []
    for number in range(3):
        made = store.with_name(f"{store.name}-{number}")
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(base, made, copy_function=os.link)
        manifest = json.loads((made / MANIFEST).read_text())
        (made / MANIFEST).unlink()  # a name of the same file as the first release's
        manifest["actions"]["like"] += number
        sign_manifest(made, manifest)
        versions.append(ReleaseStore(str(store)).put(made).version)
        shutil.rmtree(made)
    return versions
