"""`--data` of the commands that train and measure: reads a dataset and says what was understood of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from streams.errors import SlatestreamError
from streams.settings import Settings

if TYPE_CHECKING:
    from model_core.data.datasets import Dataset
    from streams.importing.dataset import Reading

PANEL = "How --data is read"

Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with a dataset: RecBole's files, or tables as `import` reads them (CSV, TSV, JSON "
        "lines, Parquet, MovieLens); or one table."
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", rich_help_panel=PANEL,
        help="FIELD=COLUMN where a column is not found, or another one is; several times.",
    ),
]  # fmt: skip
LikeFrom = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=PANEL, help="The lowest rating that is a like; four fifths of the scale without."
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", rich_help_panel=PANEL,
        help="Take RecBole's files alone, as that format has them, and refuse the first line that is not so.",
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class HowRead:
    """Options of how `--data` is read."""

    told: Sequence[str] = ()
    like_from: float | None = None
    strict: bool = False


def check_there(data: Path | None) -> None:
    """Raise SlatestreamError where a dataset is not there, before what takes seconds is loaded."""
    if data is not None and not data.exists():
        raise SlatestreamError(f"--data {data}: no such folder or file")


def read_data(data: Path, settings: Settings, how: HowRead, console: Console) -> "tuple[Dataset, list[str]]":
    """Read a dataset and say what was understood; return it and the action of each interaction.

    Raises
    ------
    SlatestreamError, ValueError
        If it cannot be read, or nothing can be learned from it.
    """
    if how.strict:
        if how.told:
            raise SlatestreamError("--map is for a dataset that is not read with --strict")
        from model_core.data.datasets import load_recbole
        from model_core.inputs.corpus import rating_actions

        dataset = load_recbole(data)
        rule = 4.0 if how.like_from is None else how.like_from
        actions = rating_actions(dataset.interactions, at_least=rule)
    else:
        reading = _read(data, settings, how)
        show_reading(console, reading)
        dataset, actions = reading.dataset, reading.actions
    found = sorted(set(actions))
    if not any(settings.actions.get(action, 0.0) >= 1.0 for action in found):
        raise SlatestreamError(
            f"--data {data}: an interaction must be positive for something to be learned, and all are "
            f"{', '.join(found)}: a rating of four fifths of the scale and more is a like; --like-from says "
            "another"
        )
    return dataset, actions


def _read(data: Path, settings: Settings, how: HowRead) -> "Reading":
    from streams.importing.command import as_fields
    from streams.importing.dataset import read_dataset
    from streams.importing.options import Choices

    latest = int(time.time() * 1000) + settings.max_future_ms
    choices = Choices(known_actions=tuple(settings.actions), latest_ms=latest, like_from=how.like_from)
    return read_dataset(data, choices, as_fields(how.told))


def show_reading(console: Console, reading: "Reading") -> None:
    """Say of each table how it was read, and what could not be used."""
    from streams.importing.show import show_faults, show_sources

    for source, refused, rows in zip(reading.sources, reading.refused, reading.rows, strict=True):
        show_sources(console, [source])
        console.print(
            f"  {rows:,} rows used, {refused.counts.total():,} rejected, "
            f"{refused.left_out.total():,} left out",
            highlight=False,
        )
        show_faults(console, refused)
    for remark in reading.remarks:
        console.print(f"[yellow]{escape(remark)}[/]", highlight=False, soft_wrap=True)
