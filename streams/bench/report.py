"""Reports of benchmarks: a table, a JSON file and a picture."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from streams.session.machine import machine_facts

Say = Callable[[str], None]

PIPED_WIDTH = 180


def speaker(console: Console) -> Say:
    """Return a function that prints one line as it is."""

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    return say


def print_table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers stand to the right, and None is a dash."""
    table = Table(title=title, title_justify="left")
    for column in range(len(columns)):
        texts = all(isinstance(row[column], str) for row in rows)
        table.add_column(columns[column], justify="left" if texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(cell, row))
    # Piped output is as wide as it needs to be: a table folded at 80 columns is hard to read.
    wide = console if console.is_terminal else Console(file=console.file, width=PIPED_WIDTH)
    wide.print(table, markup=False, highlight=False)


def cell(value: Any) -> str:
    """Write a figure with as many digits as it is good for.

    >>> [cell(value) for value in (None, 12345, 12345.6, 23.45, 0.0567, "p50")]
    ['-', '12,345', '12,346', '23.4', '0.057', 'p50']
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def write_report(path: Path, figures: Mapping[str, Any], say: Say) -> None:
    """Write figures, the machine and the moment as JSON, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {**figures, "machine": machine_facts(), "taken": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    path.write_text(json.dumps(described, indent=2) + "\n")
    say(f"Figures in {path}")


def plot_curves(
    path: Path,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str,
    y: str,
    title: str,
    say: Say,
) -> None:
    """Draw named curves of (x, y) points on logarithmic axes; without matplotlib, say what is left out."""
    if util.find_spec("matplotlib") is None:
        say(f"{path.name} is left out: it needs matplotlib")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set(xlabel=x, ylabel=y, title=title, xscale="log", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    say(f"Picture in {path}")
