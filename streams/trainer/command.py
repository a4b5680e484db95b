"""`slatestream trainer`: train on what is new, let it serve if it passes the gates, and go on."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from streams.cache import cache_folder, writable_folder
from streams.clock import SYSTEM_CLOCK
from streams.errors import ConfigurationError, SlatestreamError
from streams.kafka.log import KafkaLog
from streams.kafka.topic_admin import check_topics
from streams.metrics.port import metrics_port
from streams.releases.changes import read_changes
from streams.releases.options import ConfigFile, StoreUrl, open_store
from streams.session.shutdown import clean_exit, race
from streams.settings import load_settings
from streams.trainer.drift_follower import DriftFollower
from streams.trainer.leader_election import Seat
from streams.trainer.loop import Loop, run_step
from streams.trainer.metrics import Told
from streams.trainer.plan import Verdict
from streams.trainer.training_run import recipe_of


def trainer_command(
    once: Annotated[
        bool, typer.Option("--once", help="Train on all there is, and end: 1 if it was not promoted.")
    ] = False,
    judge: Annotated[
        Path | None, typer.Option(help="Pass this release folder through the gates instead, and end.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where a training is kept while it goes on; below the cache folder otherwise."),
    ] = None,
    store: StoreUrl = None,
    host: Annotated[str, typer.Option(help="Address the metrics are served on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the metrics; 0 takes any.")] = 6071,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --once or --judge: print the verdict as JSON.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Train on what is new in the topics, again and again, and promote what passes the gates.

    It goes on from the release that serves. A new one has to pass, in this order: its files and graphs; the
    latest hours, beside the live release; calibration; coverage; popularity and exposure of what it lists;
    latency; size. What was checked, and the reason, is a record on `model-releases`.

    Of several trainers one leads, and another takes over when it ends. Killed, a training goes on where it
    was. Settings: trainer_every_events, trainer_every_minutes, trainer_nice and others.

    Exit code 0: promoted, or ended by Ctrl-C; 1: with --once or --judge, not promoted; 2: not possible;
    3: no broker answers.

    slatestream trainer --store /srv/releases

    slatestream trainer --once --json
    """
    if as_json and not (once or judge):
        raise SlatestreamError("--json needs an end: give --once or --judge; without it, there are metrics")
    settings, console = load_settings(config), Console(stderr=as_json)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    try:
        recipe_of(settings, None, None)
    except ValueError as error:
        raise ConfigurationError(f"trainer_recipe: {error}") from None
    found = open_store(settings, store)
    check_topics(settings)
    there = folder or writable_folder(cache_folder() / "trainer") / settings.group_id
    if judge is not None:
        there = there.with_name(f"{there.name}-judged")  # a training that goes on there stays as it is
    told, seat = Told(), Seat(settings)
    step = partial(run_step, config=config, threads=settings.trainer_threads)
    drift = DriftFollower(
        settings, KafkaLog(settings), changes=partial(read_changes, settings), clock=SYSTEM_CLOCK
    )
    loop = Loop(settings, seat, found, there, drift=drift, step=step, told=told, say=say)
    with clean_exit(console):
        try:
            if once or judge:
                verdict = asyncio.run(_once(seat, loop, judge))
                if as_json:
                    print(_as_json(verdict))
                raise typer.Exit(int(verdict is None or not verdict.passed))
            with metrics_port(told.registry, host=host, port=port) as address:
                say(f"metrics on {address}")
                asyncio.run(_always(seat, loop))
        except KafkaError as error:
            raise SlatestreamError(f"trainer: {settings.bootstrap_servers}: {error}") from None


async def _once(seat: Seat, loop: Loop, candidate: Path | None) -> Verdict | None:
    await seat.start()
    try:
        return await loop.once(candidate)
    finally:
        await seat.stop()


async def _always(seat: Seat, loop: Loop) -> None:
    await seat.start()
    try:
        await race(loop.run(), seat.task)
    finally:
        await seat.stop()


def _as_json(verdict: Verdict | None) -> str:
    said = {"passed": False} if verdict is None else msgspec.to_builtins(verdict) | {"passed": verdict.passed}
    return json.dumps(said)
