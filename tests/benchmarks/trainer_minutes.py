"""From the last feedback to a promoted release that serves: how long it takes, and what it costs who asks.

python -m tests.benchmarks.trainer_minutes --data ~/.cache/slatestream/ml-100k

A worker serves a release of the first part of the log by time. Then the rest is published, and
`slatestream trainer --once` reads the topics, goes on from that release, teaches the policy, judges the new
release at the gates and promotes it; the clock stops when the worker serves it. Requests come all the time:
their latency while the trainer is at work is put beside that before it and after it.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from model_core.data.datasets import Dataset, load_recbole
from streams.bench.latency import Latencies
from streams.bench.loaded import Bench, Load, Over
from streams.client import SlateClient
from streams.demo.dataset import fetch
from streams.demo.publish import click_rows, content_rows
from streams.errors import SlatestreamError
from streams.events import Request
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.releases.changes import publish_change
from streams.releases.store import ReleaseStore
from streams.session.catching_up import caught_up
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.session.training import train
from streams.settings import Settings
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.benchmarks.inputs import DataFolder, faults_told

SERVES_S = 300.0
LOOK_S = 0.2

Rows = Iterable[tuple[str, bytes | None]]


class Asked:
    """The load, in pieces, and the latencies of all of them."""

    def __init__(self, bench: Bench, rate: float, seconds: float) -> None:
        self._bench = bench
        self._load = Load(Over.KAFKA, 0, rate, 0.0)
        self._seconds = seconds
        self.unanswered = 0

    def measure(self, latencies: Latencies, *, while_: threading.Event | None = None) -> None:
        """Ask for a piece, and for more of them until the event is set."""
        while True:
            one = self._bench.measure(self._load, self._seconds, 1)
            latencies.add_all(one.outcome.latencies)
            self.unanswered += one.outcome.unanswered
            if while_ is None or while_.is_set():
                return


class Trainer:
    """`slatestream trainer --once`, in a thread: what it said, when it ended, and what it used."""

    def __init__(self, variables: dict[str, str], folder: Path) -> None:
        self.verdict: dict[str, Any] = {}
        self.processor_s = self.seconds = 0.0
        self.ended = threading.Event()
        self._variables = variables
        self._folder = folder
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        command = [sys.executable, "-m", "streams.cli", "trainer", "--once", "--json"]
        try:
            process = subprocess.Popen(
                [*command, "--folder", str(self._folder)], stdout=subprocess.PIPE, text=True,
                env={**os.environ, **self._variables},
            )  # fmt: skip
            assert process.stdout is not None
            said = process.stdout.read()
            _, _, used = os.wait4(process.pid, 0)
            self.processor_s = used.ru_utime + used.ru_stime
            self.verdict = json.loads(said or "{}")
        finally:
            self.seconds = time.monotonic() - began
            self.ended.set()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()


def of_users(dataset: Dataset) -> Dataset:
    """Call the users of a log as a load generator does: u0, u1 and so on."""
    _, rows = np.unique(dataset.interactions.user_ids, return_inverse=True)
    named = replace(dataset.interactions, user_ids=np.char.add("u", rows.astype(str)))
    return replace(dataset, interactions=named, users=[])


async def publish(settings: Settings, rows: dict[str, Rows]) -> None:
    """Publish rows to topics, by the topic's name."""
    publisher = Publisher(settings)
    await publisher.start()
    try:
        for name, of_topic in rows.items():
            await publish_rows(settings, publisher, name, iter(of_topic))
    finally:
        await publisher.stop()


async def until_served(settings: Settings, version: str) -> None:
    """Ask until a slate is of a release."""
    deadline = time.monotonic() + SERVES_S
    async with SlateClient(settings) as client:
        while time.monotonic() < deadline:
            request = Request(f"t{time.time_ns()}", "u0", int(1000 * time.time()))
            if (await client.ask(request)).recommendation.model_version == version:
                return
            await asyncio.sleep(LOOK_S)
    raise SlatestreamError(f"{version} does not serve after {SERVES_S:.0f} s")


def main(
    data: DataFolder = None,
    release: Annotated[Path | None, typer.Option(help="Of the first part; it is trained otherwise.")] = None,
    until: Annotated[float, typer.Option(min=0.1, max=0.99, help="The first part.")] = 0.8,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=2, help="Of a piece of the load.")] = 10.0,
    nice: Annotated[int, typer.Option(min=0, max=19, help="The trainer's `trainer_nice`.")] = 15,
    out: Annotated[Path, typer.Option(help="Folder of the store, the training and logs.")] = Path(
        "build/bench/trainer"
    ),
) -> None:
    """Measure a training by the trainer, from the topics to the first slate."""
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    folder = fetch(data, say=say)
    if release is None:
        say(f"Training on the first {until:.0%} of the interactions ...")
        release = train(folder, out / "first", until=until, seed=0)
    dataset = of_users(load_recbole(folder))
    known, store, training = int(until * len(dataset.interactions)), out / "store", out / "training"
    for old in (store, training):
        shutil.rmtree(old, ignore_errors=True)
    first = ReleaseStore(str(store)).put(release).version
    rows: Iterator[tuple[str, bytes | None]] = iter(click_rows(dataset.interactions))
    with clean_exit(console), cluster(lambda _: None, "trainer", partitions=4) as settings:
        given = same_topics(settings, release_store=str(store.resolve()), trainer_nice=nice)
        asyncio.run(publish(settings, {"content": content_rows(dataset), "clicks": islice(rows, known)}))
        asyncio.run(publish_change(settings, "promote", first, by="bench"))
        with WorkerProcess(given, log=out / "worker.log") as worker:
            worker.wait_ready()
            n_items = len(dataset.items)
            wanted = {"content": n_items, "item-state": n_items, "clicks": known}
            asyncio.run(caught_up(worker, wanted, say))
            asked = Asked(Bench(settings, worker, 900, lambda _: None), rate, seconds)
            asked.measure(Latencies())
            say(f"{first} serves; {len(dataset.interactions) - known:,} events are published ...")
            alone, beside = Latencies(), Latencies()
            for _ in range(3):
                asked.measure(alone)
            asyncio.run(publish(settings, {"clicks": rows}))
            began = time.monotonic()
            trainer = Trainer(environment(given), training)
            asked.measure(beside, while_=trainer.ended)
            trainer.join()
            if not trainer.verdict.get("passed"):
                raise SlatestreamError(f"nothing was promoted: {trainer.verdict.get('gates')}")
            asyncio.run(until_served(settings, trainer.verdict["version"]))
            served_s = time.monotonic() - began
            for _ in range(3):
                asked.measure(alone)
    stages = ", ".join(f"{name} {took:.0f}" for name, took in trainer.verdict["seconds"].items())
    say(f"seconds by stage, by the clock: {stages}; the trainer in all {trainer.seconds:.0f},")
    say(f"  of which processor {trainer.processor_s:.0f}; last event to first slate {served_s:.0f}")
    for name, found in (("without the trainer", alone), ("beside it", beside)):
        figures = found.summary()
        say(
            f"requests {name}: p50 {figures['p50_ms']:.1f}, p99 {figures['p99_ms']:.1f} ms of {found.count:,}"
        )
    ratio = beside.summary()["p99_ms"] / alone.summary()["p99_ms"]
    say(f"p99 {ratio:.2f} of that without; {asked.unanswered} unanswered; {rate:g} requests/s, nice {nice}")
    for gate in trainer.verdict["gates"]:
        say(f"  {gate['name']}: {gate['reason'] or 'passed'}")
    say(f"machine: {machine()}")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
