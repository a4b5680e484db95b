"""`slatestream import`: files of interactions, items and users to our topics."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TextIO

import typer
from rich.console import Console

from streams.errors import SlatestreamError
from streams.field_names import NAMES
from streams.importing.faults import FileError
from streams.importing.options import Choices
from streams.importing.prompts import Understood, asker, understand
from streams.importing.run import Options, Outcome, Source, import_files
from streams.importing.show import show_outcomes, show_sources, shown_progress
from streams.kafka.connected import run_connected
from streams.pseudonyms import pseudonyms_of
from streams.settings import Settings, load_settings

Files = Annotated[
    list[Path],
    typer.Argument(help="CSV, TSV, JSON lines, Parquet, RecBole (.inter .item .user) or MovieLens; .gz too."),
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", help="FIELD=COLUMN where a column is not found, or another one is; several times."),
]
As = Annotated[
    Literal["clicks", "content", "users"] | None, typer.Option("--as", help="What the files hold.")
]
Action = Annotated[str | None, typer.Option(help="Action of every interaction, such as purchase.")]
Actions = Annotated[
    list[str] | None,
    typer.Option(
        "--actions", help="THEIRS=OURS, what a file calls an action (none leaves it out); several times."
    ),
]
LikeFrom = Annotated[
    float | None, typer.Option(help="The lowest rating that is a like; four fifths of the scale without.")
]
Unit = Annotated[
    Literal["s", "ms", "us", "ns"] | None, typer.Option(help="What times are in; found when not said.")
]
TimeFormat = Annotated[
    str | None, typer.Option(help="How times are written, as strptime has it: '%d/%m/%Y %H:%M'.")
]
Separator = Annotated[str | None, typer.Option(help="Between columns; found when not said.")]
ListSeparator = Annotated[str | None, typer.Option(help="Between the parts of a value, as in Action|Drama.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(help="Columns' names of a file without a header: a,b,c; of several files FILE=a,b,c each."),
]
NoSort = Annotated[
    bool,
    typer.Option("--no-sort", help="Publish interactions as the file has them: in time order."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, publish nothing.")]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew where an import was interrupted.")]
Rejected = Annotated[Path | None, typer.Option(help="File for the rows that are rejected, as JSON lines.")]
Tolerate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of rows that may be rejected before the exit code is 1.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Say what became of the files as JSON, on stdout.")]


def import_command(
    files: Files,
    told: Map = None,
    kind: As = None,
    action: Action = None,
    actions: Actions = None,
    like_from: LikeFrom = None,
    time_unit: Unit = None,
    time_format: TimeFormat = None,
    separator: Separator = None,
    list_separator: ListSeparator = None,
    columns: Columns = None,
    no_sort: NoSort = False,
    dry_run: DryRun = False,
    restart: Restart = False,
    rejected: Rejected = None,
    tolerate: Tolerate = 0.0,
    as_json: AsJson = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Publish interactions, items and users that lie in files.

    What the columns mean is found by their names and values and shown; on a terminal it asks for what it
    does not find. --dry-run shows it and publishes nothing. Interactions are put in the order of their times.
    Interrupted, the same command goes on where it was: a file beside the one that is imported says where.
    What is published twice has the same event id.

    Exit code 0: done; 1: done, and rows were rejected; 2: not possible; 130: interrupted.

    slatestream import ratings.csv movies.csv --dry-run

    slatestream import sales.parquet --map user_id=buyer --map item_id=article --action purchase
    """
    settings = load_settings(config)
    choices, options = reading(
        settings, told=told, kind=kind, action=action, actions=actions, like_from=like_from,
        time_unit=time_unit, time_format=time_format, separator=separator, list_separator=list_separator,
        columns=columns,
    )  # fmt: skip
    options = replace(options, sort=not no_sort, restart=restart, dry_run=dry_run)
    console = Console(stderr=as_json, highlight=False)
    try:
        ask = asker(console, quiet=as_json)
        known = understand(files, choices, options, ask=ask, say=partial(console.print, markup=False))
        show_sources(console, known.sources)
        outcomes = _run(settings, known, console, rejected)
    except KeyboardInterrupt:
        console.print("Interrupted: the same command goes on from what was confirmed.")
        raise typer.Exit(130) from None
    show_outcomes(console, outcomes, dry_run=dry_run)
    if rejected is not None:
        console.print(f"Rejected rows are in {rejected}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps({"dry_run": dry_run, "files": [one.as_json() for one in outcomes]}, indent=2))
    check_usable(outcomes)
    if share_rejected(outcomes) > tolerate:
        raise typer.Exit(1)


def _run(settings: Settings, known: Understood, console: Console, rejected: Path | None) -> list[Outcome]:
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(rejected_rows(rejected, known.sources))
        progress = stack.enter_context(shown_progress(console))
        work = import_files(
            settings, known.sources, known.choices, known.options, progress=progress, rejected=sink
        )
        if known.options.dry_run:
            return asyncio.run(work)
        return run_connected(settings, "import", work)


@contextlib.contextmanager
def rejected_rows(path: Path | None, sources: Sequence[Source]) -> Iterator[TextIO | None]:
    """Open the file for the rows that are rejected; None without one.

    Raises
    ------
    FileError
        If it cannot be written to, or must not be; see `check_rejected`.
    """
    check_rejected(path, sources)
    if path is None:
        yield None
        return
    try:
        sink = path.open("w", encoding="utf-8")
    except OSError as error:
        raise FileError(f"--rejected {path}: {error.strerror}") from None
    with sink:
        yield sink


def check_rejected(path: Path | None, sources: Sequence[Source]) -> None:
    """Raise FileError if what is to take rejected rows is one of the files that are read, or a folder."""
    if path is None or not path.exists():
        return
    if any(path.samefile(source.path) for source in sources):
        raise FileError(f"--rejected {path} is one of the files that are imported: name another")
    if path.is_dir():
        raise FileError(f"--rejected {path} must be a file, and is a folder")


def reading(
    settings: Settings,
    *,
    told: Sequence[str] | None,
    kind: str | None,
    action: str | None,
    actions: Sequence[str] | None,
    like_from: float | None,
    time_unit: str | None,
    time_format: str | None,
    separator: str | None,
    list_separator: str | None,
    columns: Sequence[str] | None,
) -> tuple[Choices, Options]:
    """Return what the options of a command say of how files are read."""
    choices = Choices(
        known_actions=tuple(settings.actions), latest_ms=int(time.time() * 1000) + settings.max_future_ms,
        action=action, actions=dict(_pairs("--actions", actions)), like_from=like_from, time_unit=time_unit,
        time_format=time_format, separator=list_separator,
        pseudonyms=pseudonyms_of(settings.pseudonym_key_file),
    )  # fmt: skip
    options = Options(
        told=as_fields(told), kind=kind, separator=_unescaped(separator),
        columns=_columns(columns),
    )  # fmt: skip
    return choices, options


def _columns(given: Sequence[str] | None) -> dict[str, list[str]]:
    """Return columns' names by the file they are for, which is empty where none is named."""
    found: dict[str, list[str]] = {}
    for text in given or ():
        file, equals, names = text.partition("=")
        if not equals:
            file, names = "", text
        if file in found:
            raise SlatestreamError(f"--columns {text}: given twice for {file or 'the same file'}")
        found[file] = names.split(",")
    return found


def _pairs(option: str, given: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise SlatestreamError(f"{option} must be NAME=NAME, got {text!r}")
        pairs.append((name, value))
    return pairs


def as_fields(given: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return fields and columns from what --map says; another name is an attribute's, and must look like one.

    Raises
    ------
    SlatestreamError
        If one is not FIELD=COLUMN.
    """
    told = _pairs("--map", given)
    for name, _ in told:
        if name not in NAMES and not name.replace("_", "").isalnum():
            raise SlatestreamError(f"--map {name}=...: fields are {', '.join(NAMES)}, and attributes' names")
    return told


def _unescaped(separator: str | None) -> str | None:
    if separator is not None and separator not in ("\\t", "::") and len(separator) != 1:
        raise SlatestreamError(f"--separator must be one character, :: or \\t, got {separator!r}")
    return "\t" if separator == "\\t" else separator


def check_usable(outcomes: Sequence[Outcome]) -> None:
    """Raise FileError where nothing can be made of a file's rows."""
    for outcome in outcomes:
        if not outcome.records and not outcome.refused.left_out:
            examples = [one for reason in outcome.refused.examples.values() for one in reason]
            if not examples:
                raise FileError(f"{outcome.source.path} has no rows")
            reason = examples[0]
            raise FileError(
                f"no row of {outcome.source.path} can be used; line {reason['line']}: {reason['error']}"
            )


def share_rejected(outcomes: Sequence[Outcome]) -> float:
    """Return which share of the rows was rejected; rows that are left out count neither way."""
    bad = sum(one.refused.counts.total() for one in outcomes)
    return bad / max(bad + sum(one.records for one in outcomes), 1)
