"""`slatestream demo`: the whole loop, watched from outside."""

import asyncio
import contextlib
import json
import math
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from model_core.data.datasets import Dataset, load_recbole
from streams.client import SlateClient
from streams.demo.dataset import fetch
from streams.demo.off_policy import ATTRIBUTION_WINDOW_MS, CANDIDATES, evaluate_log
from streams.demo.plot import click_through_svg
from streams.demo.publish import click_rows, content_rows, read_past, user_rows
from streams.demo.summary import checks, print_summary, summarise
from streams.demo.table import show
from streams.demo.taste import population
from streams.demo.users import Simulation, Traffic
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.releases.options import check_release
from streams.session.catching_up import caught_up
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit, keep_checking, race
from streams.session.training import train
from streams.settings import Settings
from streams.worker.process import WorkerProcess, environment, same_topics

UNTIL = 0.6
SUMMARY = "summary.json"
EPOCHS = 3
"""Half of what a training has by default, so that a demo is over in four minutes."""
WATCHED_RATE = 2.0
"""Visits a second while it only serves."""

Data = Annotated[Path | None, typer.Option(help="Folder in RecBole's format instead of ML-100K.")]
Seconds = Annotated[float, typer.Option(min=1, help="How long users keep coming.")]
Users = Annotated[
    int, typer.Option(min=1, help="Simulated users (at most those with enough held-out likes).")
]
Rate = Annotated[float, typer.Option(min=0.1, help="Visits a second.")]
Slate = Annotated[int, typer.Option("--k", min=1, max=100, help="Items a slate.")]
Seed = Annotated[int, typer.Option(min=0, help="Of users, arrivals and clicks.")]
Out = Annotated[Path, typer.Option(help="Folder for summary.json, logs and the release.")]


def demo_command(
    data: Data = None,
    seconds: Seconds = 60.0,
    users: Users = 400,
    rate: Rate = 40.0,
    k: Slate = 10,
    seed: Seed = 0,
    out: Out = Path("build/demo"),
    release: Annotated[
        Path | None,
        typer.Option(help="Release folder to serve instead of training one."),
    ] = None,
    serve: Annotated[bool, typer.Option(help="Keep broker and worker running until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON, on stdout; all else on stderr.")
    ] = False,
) -> None:
    """Show the whole loop: a real broker, a trained model, a worker, and users who click.

    Uses the cluster of KAFKA_BOOTSTRAP_SERVERS, with topics of its own that it deletes, when that is set.

    Exit code 0: all that it checks holds; 1: something does not; 2: not possible; 130: interrupted.

    slatestream demo --serve
    """
    check_release(release)
    console = Console(stderr=as_json)
    traffic = Traffic(seconds=seconds, rate=rate, k=k, seed=seed)
    with clean_exit(console):
        ok = _Demo(console, out, traffic, n_users=users, as_json=as_json).run(data, release, serve=serve)
        raise typer.Exit(0 if ok else 1)


class _Demo:
    """One run of the demo: its steps in order, each with what it needs from those before."""

    def __init__(
        self, console: Console, out: Path, traffic: Traffic, *, n_users: int, as_json: bool = False
    ) -> None:
        self._console = console
        self._out = out
        self._traffic = traffic
        self._n_users = n_users
        self._as_json = as_json
        self._began = time.perf_counter()
        self._step_seconds: dict[str, float] = {}

    def run(self, data: Path | None, release: Path | None, *, serve: bool) -> bool:
        """Run every step; return whether the demo kept its promises."""
        self._out.mkdir(parents=True, exist_ok=True)
        folder = fetch(data, say=self._say)
        dataset = load_recbole(folder)
        with contextlib.ExitStack() as stack:
            with self._step("broker"):
                settings = stack.enter_context(cluster(self._say, "demo"))
            with self._step("train"):
                if release is None:
                    self._say(f"Training on the first {UNTIL:.0%} of the interactions ...")
                    seed = self._traffic.seed
                    release = train(folder, self._out / "release", until=UNTIL, seed=seed, epochs=EPOCHS)
            overrides = same_topics(
                settings,
                release=str(release.absolute()),
                attribution_window_ms=ATTRIBUTION_WINDOW_MS,
                candidate_policies=CANDIDATES,
                **({"console_port": 0} if serve else {}),
            )
            with self._step("worker"):
                self._say("Starting the worker ...")
                log = self._out / "worker.log"
                log.unlink(missing_ok=True)
                worker = stack.enter_context(WorkerProcess(overrides, log=log))
                worker.wait_ready()
            with self._step("replay"):
                asyncio.run(self._replay(settings, dataset, worker))
            with self._step("simulate"):
                simulation = asyncio.run(self._visits(settings, dataset, worker))
            with self._step("off_policy"):
                log_says = asyncio.run(evaluate_log(settings, simulation.visits, seed=self._traffic.seed))
            seconds = self._step_seconds | {"total": time.perf_counter() - self._began}
            ok = _report(self._console, simulation, self._out, seconds=seconds, off_policy=log_says)
            if self._as_json:
                print(json.dumps(json.loads((self._out / SUMMARY).read_text(encoding="utf-8"))), flush=True)
            if serve:
                self._serve(settings, dataset, worker, log)
            return ok

    async def _replay(self, settings: Settings, dataset: Dataset, worker: WorkerProcess) -> None:
        """Publish the catalogue, the users and the past, and wait until the worker has them."""
        past = dataset.interactions.first(UNTIL)
        self._say(
            f"Publishing {len(dataset.items):,} items, {len(dataset.users):,} users and the first "
            f"{UNTIL:.0%} of the interactions ({len(past):,} events) ..."
        )
        publisher = Publisher(settings)
        await publisher.start()
        try:
            await publish_rows(settings, publisher, "content", content_rows(dataset))
            await publish_rows(settings, publisher, "users", user_rows(dataset))
            began = time.perf_counter()
            await publish_rows(settings, publisher, "clicks", click_rows(past))
        finally:
            await publisher.stop()
        wanted = {"content": len(dataset.items), "users": len(dataset.users), "clicks": len(past)}
        wanted["item-state"] = len(dataset.items)
        await caught_up(worker, wanted, self._say)
        self._say(f"The worker has caught up ({time.perf_counter() - began:.1f} s after the first click).")

    async def _visits(self, settings: Settings, dataset: Dataset, worker: WorkerProcess) -> Simulation:
        self._say(
            f"{self._n_users} simulated users come by, {self._traffic.rate:.0f} visits a second for "
            f"{self._traffic.seconds:.0f} s; each judges the policy's slate, a random and a popular one ..."
        )
        return await _simulate(
            self._console,
            settings,
            dataset,
            self._traffic,
            n_users=self._n_users,
            until=UNTIL,
            check=worker.check,
        )

    def _serve(self, settings: Settings, dataset: Dataset, worker: WorkerProcess, log: Path) -> None:
        """Keep broker and worker, and let users come by at a pace one can watch, until Ctrl-C."""
        variables = environment(
            {"bootstrap_servers": settings.bootstrap_servers, "topic_prefix": settings.topic_prefix}
        )
        if (shown := re.search(r"console on (http://\S+)", log.read_text(errors="replace"))) is not None:
            self._say(f"Console: {shown[1]}")
        self._say(f"Serving on {worker.url} (try {worker.url}/v1/recommendations/1?k=5). More users:")
        given = " ".join(f"{name}={value}" for name, value in variables.items())
        self._say(f"  {given} slatestream simulate --topics")
        self._say(f"{WATCHED_RATE:g} users a second keep coming. Ctrl-C stops broker and worker.")
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self._keep_visiting(settings, dataset, worker))
        self._say("Stopping the worker and the broker ...")

    async def _keep_visiting(self, settings: Settings, dataset: Dataset, worker: WorkerProcess) -> None:
        traffic = replace(self._traffic, seconds=math.inf, rate=WATCHED_RATE, seed=self._traffic.seed + 1)
        users = population(dataset, until=UNTIL, n_users=self._n_users, seed=traffic.seed)
        async with SlateClient(settings) as client:
            past = await read_past(settings)
            simulation = Simulation(client, users, past, traffic, run_id=uuid.uuid4().hex[:8])
            await race(simulation.run(), keep_checking(worker.check))

    def _say(self, text: str) -> None:
        self._console.print(
            f"[{time.perf_counter() - self._began:5.1f} s] {text}", markup=False, soft_wrap=True
        )

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._step_seconds[name] = time.perf_counter() - began


async def _simulate(
    console: Console,
    settings: Settings,
    dataset: Dataset,
    traffic: Traffic,
    *,
    n_users: int,
    until: float,
    check: Callable[[], None] = lambda: None,
) -> Simulation:
    """Let users come by and return what happened; `check` raises when it makes no sense to go on."""
    users = population(dataset, until=until, n_users=n_users, seed=traffic.seed)
    past = await read_past(settings)
    async with SlateClient(settings) as client:
        run_id = uuid.uuid4().hex[:8]
        simulation = Simulation(client, users, past, traffic, run_id=run_id)
        await race(
            simulation.run(),
            show(simulation, console, seconds=traffic.seconds),
            keep_checking(check),
        )
    return simulation


def _report(console: Console, simulation: Simulation, out: Path, **more: Any) -> bool:
    """Print the summary, write it down with `more`, and return whether every check passed."""
    summary = summarise(simulation) | {"machine": machine(), **more}
    results = checks(summary)
    out.mkdir(parents=True, exist_ok=True)
    path, picture = out / SUMMARY, out / "click-through.svg"
    path.write_text(json.dumps(summary | {"checks": [asdict(check) for check in results]}, indent=2) + "\n")
    picture.write_text(click_through_svg(simulation.visits))
    print_summary(console, summary)
    console.print(f"Summary in {path}, picture in {picture}", soft_wrap=True)
    return all(check.passed for check in results)
