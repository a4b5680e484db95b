"""`slatestream canary`: does a slate come, and has it seen the click before it, on every partition."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streams.canary.trips import Canary
from streams.client import SlateClient
from streams.commands.ask import check_url
from streams.errors import SlatestreamError
from streams.kafka.connected import run_connected
from streams.metrics.port import metrics_port
from streams.session.shutdown import clean_exit, race
from streams.settings import Settings, load_settings


def canary_command(
    url: Annotated[
        str | None, typer.Option(help="Ask this worker as well what it knows of the user.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds from one round to the next.")] = 5.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a click, a slate and an answer may each take.")
    ] = 10.0,
    once: Annotated[
        bool, typer.Option("--once", help="Make one round, and end: 1 if a trip failed.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address the metrics are served on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the metrics; 0 takes any.")] = 6069,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --once: print what became of the round as JSON.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Click and ask on every partition through the real topics, and check that the slate has seen the click.

    Its users are slatestream-canary-0 and so on, one a partition. Nothing that others get depends on them:
    the item they click on is described by nobody, and nothing is learned from their slates.

    Exit code 0: done; 1: with --once, a trip failed; 2: not possible; 3: no broker answers.

    slatestream canary --every 10

    slatestream canary --once --json
    """
    if url is not None:
        check_url(url)
    if as_json and not once:
        raise SlatestreamError("--json needs an end: give --once; without it, the round trips are metrics")
    settings, console = load_settings(config), Console()
    said: list[str] = []

    def say(text: str) -> None:
        if as_json:
            said.append(text)
            return
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    canary = Canary(settings, url=url, timeout_s=timeout, say=say)
    with clean_exit(console):
        if once:
            failed = run_connected(settings, "canary", _once(settings, canary))
            if as_json:
                print(json.dumps({"partitions": settings.partitions, "failed": failed, "why": said}))
            else:
                say(f"{settings.partitions - failed} of {settings.partitions} partitions are well")
            raise typer.Exit(int(failed > 0))
        with metrics_port(canary.registry, host=host, port=port) as address:
            say(f"metrics on {address}")
            run_connected(settings, "canary", _always(settings, canary, every))


async def _once(settings: Settings, canary: Canary) -> int:
    async with SlateClient(settings) as client:
        return await canary.round(client)


async def _always(settings: Settings, canary: Canary, every_s: float) -> None:
    async with SlateClient(settings) as client:
        await race(canary.keep_going(client, every_s=every_s), client.failed())
