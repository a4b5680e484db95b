"""`slatestream bench sizing`: from what was measured here to what a large deployment needs."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from streams.bench.report import Say, cell, speaker
from streams.errors import ConfigurationError
from streams.session.machine import machine_facts

BEGIN, END = "<!-- begin: written by `slatestream bench sizing` -->", "<!-- end -->"
BUSY = 0.6
"""Share of a worker that its load may take: the rest is for bursts and for taking over from one that died."""
HISTORY, EDGES, SLATES_PER_EVENT = 50, 5, 0.01


class Constants(msgspec.Struct, frozen=True, kw_only=True):
    """Measured rates and sizes of one worker.

    Work is in processor time, which other processes on the machine change little.
    """

    event_cpu_us: float
    slate_cpu_ms: float
    items_when_served: int
    score_ms_per_million_items: float
    idle_bytes: float
    user_bytes: float
    interaction_bytes: float
    item_bytes: float
    edge_bytes: float
    restore_rows_per_second: float
    policy_rows_per_event: float
    machine: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A load."""

    events_per_second: float
    users: int
    items: int


@dataclass(frozen=True, slots=True)
class Size:
    """Resources for a load; read_rows a second are the others' item statistics that each worker reads."""

    workers: int
    for_events: int
    for_slates: int
    users_gib: float
    catalogue_gib: float
    worker_gib: float
    score_ms: float
    read_rows: float
    restore_s: float


TARGETS = {
    "here": Target(20_000, 100_000, 20_000),
    "large": Target(100_000, 10_000_000, 1_000_000),
    "very large": Target(1_000_000, 100_000_000, 10_000_000),
}


def size(constants: Constants, target: Target) -> Size:
    """Work out what a load needs: workers by processor time, memory by state, both with room to spare."""
    slates = target.events_per_second * SLATES_PER_EVENT
    score_ms = constants.score_ms_per_million_items * target.items / 1e6
    served_ms = constants.score_ms_per_million_items * constants.items_when_served / 1e6
    slate_ms = max(0.0, constants.slate_cpu_ms - served_ms) + score_ms
    for_events = math.ceil(target.events_per_second * constants.event_cpu_us / 1e6 / BUSY)
    for_slates = math.ceil(slates * slate_ms / 1000 / BUSY)
    workers = for_events + for_slates
    user = constants.user_bytes + HISTORY * constants.interaction_bytes
    catalogue = target.items * (constants.item_bytes + EDGES * constants.edge_bytes)
    users_gib, catalogue_gib = target.users * user / 2**30, catalogue / 2**30
    rows = target.users * math.ceil(HISTORY / 16) / workers  # a row holds 16 events of a user
    return Size(
        workers,
        for_events,
        for_slates,
        users_gib,
        catalogue_gib,
        constants.idle_bytes / 2**30 + catalogue_gib + users_gib / workers,
        score_ms,
        target.events_per_second * constants.policy_rows_per_event,
        rows / constants.restore_rows_per_second,
    )


def collect(folder: Path) -> Constants:
    """Read the constants from the reports of the other benchmarks.

    Raises
    ------
    ConfigurationError
        Naming the benchmark that has to be run before.
    """
    ingest, serve, score, memory, restore = (
        _report(folder, name) for name in ("ingest", "serve", "score", "memory", "restore")
    )
    loads = [one for one in serve["loads"] if one["clicks"] == 0]
    served = max(loads, key=lambda one: one["answered_per_second"])
    scored = [one for one in score["scored"] if one["precision"] == "fp32"]
    largest = max(scored, key=lambda one: (one["items"], one["batch"]))
    restored = restore["restored"][-1]
    weight = {one["what"]: one["bytes_each"] for one in memory["weights"]}
    return Constants(
        event_cpu_us=ingest["cpu_us_per_event"],
        slate_cpu_ms=served["cpu_ms_per_slate"],
        items_when_served=served["items"],
        score_ms_per_million_items=largest["cpu_ms"] / largest["batch"] / largest["items"] * 1e6,
        idle_bytes=memory["idle_bytes"],
        user_bytes=max(0.0, weight["a user with one interaction"] - weight["an interaction"]),
        interaction_bytes=weight["an interaction"],
        item_bytes=weight["an item with a text vector"],
        edge_bytes=max(0.0, weight["an edge"]),
        restore_rows_per_second=restored["rows_per_second"],
        policy_rows_per_event=restored["policy_rows"] / restored["events"],
        machine=machine_facts(),
    )


def _report(folder: Path, name: str) -> Any:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise ConfigurationError(f"{path} is missing: run `slatestream bench {name}` before")
    return json.loads(path.read_text())


def tables(constants: Constants) -> str:
    """Write the constants and what each target needs as two tables of Markdown."""
    named = {
        "processor time of an event, us": constants.event_cpu_us,
        f"processor time of a slate from {constants.items_when_served:,} items, ms": constants.slate_cpu_ms,
        "processor time of scoring a request, ms a million items": constants.score_ms_per_million_items,
        "an idle worker, MiB": constants.idle_bytes / 2**20,
        "a user without interactions, bytes": constants.user_bytes,
        "an interaction, bytes": constants.interaction_bytes,
        "an item with a text vector, bytes": constants.item_bytes,
        "an edge of an item, bytes": constants.edge_bytes,
        "restore, rows a second": constants.restore_rows_per_second,
        "rows of item statistics written an event": constants.policy_rows_per_event,
    }
    facts = constants.machine
    lines = [
        f"Measured on {facts['cores']} cores, {facts['cpu']}, load {facts['load_1_min']}, broker beside.",
        "",
        "| constant | value |",
        "|---|---|",
        *(f"| {name} | {cell(float(value))} |" for name, value in named.items()),
        "",
    ]
    sized = {name: (target, size(constants, target)) for name, target in TARGETS.items()}
    wanted: dict[str, list[Any]] = {
        "events a second": [target.events_per_second for target, _ in sized.values()],
        "users": [target.users for target, _ in sized.values()],
        "items": [target.items for target, _ in sized.values()],
        "workers": [s.workers for _, s in sized.values()],
        "of them for events": [s.for_events for _, s in sized.values()],
        "of them for slates": [s.for_slates for _, s in sized.values()],
        "all users' state, GiB": [s.users_gib for _, s in sized.values()],
        "the catalogue, in every worker, GiB": [s.catalogue_gib for _, s in sized.values()],
        "memory of a worker, GiB": [s.worker_gib for _, s in sized.values()],
        "scoring a request exactly, ms": [s.score_ms for _, s in sized.values()],
        "others' item statistics read by every worker, rows/s": [s.read_rows for _, s in sized.values()],
        "restore of a worker, s": [s.restore_s for _, s in sized.values()],
    }  # fmt: skip
    lines += [f"| | {' | '.join(sized)} |", "|---|" + "---|" * len(sized)]
    lines += [f"| {name} | {' | '.join(map(cell, values))} |" for name, values in wanted.items()]
    return "\n".join(lines)


def filled(document: str, text: str) -> str:
    """Put text between the marks of a document.

    Raises
    ------
    ConfigurationError
        If it has no marks.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigurationError(f"the document must have the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def sizing_command(
    reports: Annotated[Path, typer.Option(help="Folder with the benchmarks' reports.")] = Path("build/bench"),
    constants: Annotated[
        Path, typer.Option(help="JSON file of the constants, written from the reports with --collect.")
    ] = Path("deploy/scaling.json"),
    document: Annotated[
        Path | None, typer.Option(help="Markdown file whose tables are written anew.")
    ] = None,
    collect_: Annotated[
        bool, typer.Option("--collect", help="Take the constants from the reports first.")
    ] = False,
) -> None:
    """Work out from measured constants what a load needs.

    Run `ingest`, `serve`, `memory`, `restore` and `score` first, then this with --collect and --document
    deploy/scaling.md.

    slatestream bench sizing
    """
    say: Say = speaker(Console())
    if collect_:
        constants.write_text(json.dumps(msgspec.to_builtins(collect(reports)), indent=2) + "\n")
        say(f"Constants in {constants}")
    try:
        found = msgspec.json.decode(constants.read_bytes(), type=Constants)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"{constants} must hold the constants: {error}") from None
    text = tables(found)
    say(text)
    if document is not None:
        document.write_text(filled(document.read_text(), text))
        say(f"Tables in {document}")
