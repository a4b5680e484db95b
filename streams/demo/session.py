"""A session of a demo or a benchmark: a cluster, child processes, and a clean way out."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from kafka.errors import KafkaError
from rich.console import Console

from streams.broker.embedded import EmbeddedBroker
from streams.errors import SlatestreamError
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import TOPICS, topic_name
from streams.settings import Settings, load_settings
from streams.worker.process import DIE_WITH_PARENT, MetricsReading, WorkerProcess

CATCH_UP_TIMEOUT_S = 120.0
TRAIN_TIMEOUT_S = 600.0
POLL_S = 0.1


async def race(main: Awaitable[None], *others: Awaitable[None]) -> None:
    """Run `main` beside others that run for ever; the first error of any of them ends all."""
    tasks = [asyncio.ensure_future(work) for work in (main, *others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseExceptionGroup):
            raise result.exceptions[0]
        if isinstance(result, Exception):
            raise result


async def keep_checking(check: Callable[[], None]) -> None:
    """Call `check` now and then, for ever; it raises when something has ended."""
    while True:
        await asyncio.sleep(1.0)
        check()


async def caught_up(worker: WorkerProcess, wanted: dict[str, int], say: Callable[[str], None]) -> None:
    """Wait until the worker has taken so many records of each topic and is ready again.

    Raises
    ------
    SlatestreamError
        If it has not in time; the message says what is missing.
    """
    began = told = time.monotonic()
    while True:
        reading = await asyncio.to_thread(worker.metrics)
        taken = {name: 0 if reading is None else _taken(reading, name) for name in wanted}
        if all(taken[name] >= n for name, n in wanted.items()) and await asyncio.to_thread(worker.is_ready):
            return
        state = ", ".join(f"{name} {taken[name]:,} of {n:,}" for name, n in wanted.items())
        if time.monotonic() - began > CATCH_UP_TIMEOUT_S:
            raise SlatestreamError(f"the worker has not caught up in {CATCH_UP_TIMEOUT_S:.0f} s: {state}")
        if time.monotonic() - told > 5.0:
            told = time.monotonic()
            say(f"  the worker has taken {state}")
        await asyncio.sleep(POLL_S)


def _taken(reading: MetricsReading, name: str) -> int:
    """Count the records of an input topic that were read, whatever became of them."""
    return int(reading.total("events_total", topic=name))


@contextlib.contextmanager
def cluster(say: Callable[[str], None], kind: str, **overrides: Any) -> Iterator[Settings]:
    """Give settings of an embedded broker, or of the configured cluster, with fresh topics of our own.

    `kind` begins their names. On a cluster that is not ours they are deleted at the end, the group too.
    """
    unique = f"{kind}-{uuid.uuid4().hex[:8]}"
    mine: dict[str, Any] = {"topic_prefix": f"{unique}-", "group_id": unique, **overrides}
    if any(os.environ.get(name) for name in ("KAFKA_BOOTSTRAP_SERVERS", "SLATESTREAM_BOOTSTRAP_SERVERS")):
        settings = load_settings(**mine)
        say(f"Using the Kafka cluster at {settings.bootstrap_servers}; topics {settings.topic_prefix}*")
        create_topics(settings)
        try:
            yield settings
        finally:
            with admin_client(settings) as admin:
                admin.delete_topics([topic_name(settings, name) for name in TOPICS])
                with contextlib.suppress(KafkaError):  # one that is left behind expires by itself
                    admin.delete_groups([settings.group_id])
        return
    say("Starting a Kafka broker (the first time its jars are fetched with Maven) ...")
    with EmbeddedBroker() as broker:
        say(f"Kafka listens on {broker.bootstrap_servers}.")
        settings = load_settings(bootstrap_servers=broker.bootstrap_servers, **mine)
        create_topics(settings)
        yield settings


def train(data: Path, out: Path, *, until: float, seed: int, epochs: int | None = None) -> Path:
    """Train a release on the first part of a dataset, in a process of its own; return its folder.

    `epochs` is that of `slatestream train`.
    """
    shutil.rmtree(out, ignore_errors=True)
    arguments = ["--data", str(data), "--until", str(until), "--seed", str(seed), "--out", str(out)]
    arguments += [] if epochs is None else ["--epochs", str(epochs)]
    code = run_train(arguments, timeout_s=TRAIN_TIMEOUT_S)
    if code:
        raise SlatestreamError(f"`slatestream train {' '.join(arguments)}` ended with code {code}")
    return out


def run_train(
    arguments: Sequence[str], *, variables: Mapping[str, str] | None = None, timeout_s: float | None = None
) -> int:
    """Run `slatestream train` in a process of its own; return its exit code.

    Its memory and threads end with it, and it ends with us. Ctrl-C reaches it through us alone.
    """
    command = [*DIE_WITH_PARENT, sys.executable, "-m", "streams.cli", "train", *arguments]
    environment = {**os.environ, **(variables or {})}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
    ) as process:
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise SlatestreamError(f"training took longer than {timeout_s:.0f} s") from None
        finally:
            process.kill()


@contextlib.contextmanager
def clean_exit(console: Console) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end everything in order, with a word instead of a traceback.

    aiokafka's warnings about what it then does again by itself, such as finding the leader of a topic
    made a moment ago, are kept off the screen.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    def interrupt(_signal: int, frame: FrameType | None) -> None:
        # As Ctrl-C: raised here, it would come out of whatever task runs, and leave the others half ended.
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
