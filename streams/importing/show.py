"""Display of an import: how each file is read, its progress, and what became of the rows."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from streams.importing.columns import ColumnPlan
from streams.importing.faults import Refused
from streams.importing.run import Outcome, Progress, Source

LINE_S = 5.0
WORDS = {
    "columns": "another number of values than the header",
    "quotes": "quotation mark not closed",
    "too_long": "line too long",
    "encoding": "not readable as text",
    "json": "no JSON object",
    "no_id": "id missing",
    "long_id": "id too long",
    "many_friends": "too many friends",
    "odd_id": "id with a NUL in it",
    "time": "time not readable",
    "future": "time ahead of now",
    "number": "no number",
    "unknown_action": "action not known",
    "repeat": "repeats an event",
    "label_0": "label is 0",
    "no_action": "action is none",
}


def show_sources(console: Console, sources: Iterable[Source]) -> None:
    """Show for each file what its columns become."""
    for source in sources:
        plan = source.plan
        console.print(
            f"[bold]{escape(str(source.path))}[/] ({plan.table.about}) becomes [bold]{plan.kind}[/]",
            soft_wrap=True,
        )
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(overflow="fold")
        for name, column, how in _lines(plan, source.told):
            table.add_row(f"  {name}", f"from {escape(column)}" if column else "", escape(how), style="")
        console.print(table)
        if plan.unread:
            console.print(f"  [yellow]not read[/]: {escape(', '.join(plan.unread))}", soft_wrap=True)


def _lines(plan: ColumnPlan, told: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for name, column in plan.fields.items():
        yield name, column, "; ".join(one for one in (plan.why.get(name), told.get(name)) if one)
    for name, how in told.items():
        if name not in plan.fields:
            yield name, "", how
    for name, column in plan.attributes.items():
        yield name, column, "attribute"
    if plan.flags:
        yield "genre", f"{plan.flags[0]} .. {plan.flags[-1]}", "columns of 0 and 1"


@contextmanager
def shown_progress(console: Console) -> Iterator[Progress]:
    """Give a bar with the time left on a terminal, and a line now and then elsewhere."""
    if not console.is_terminal:
        yield _told(console)
        return
    columns = (
        TextColumn("{task.fields[file]}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[step]} {task.fields[records]:,}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        tasks: dict[Path, object] = {}

        def tell(file: Path, step: str, share: float, records: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task("", total=1.0, file=file.name[-30:], step=step, records=records)
            task: object = tasks[file]
            bar.update(task, completed=share, step=step, records=records)  # type: ignore[arg-type]

        yield tell


def _told(console: Console) -> Progress:
    began = last = time.monotonic()
    current: Path | None = None

    def tell(file: Path, step: str, share: float, records: int) -> None:
        nonlocal began, last, current
        now = time.monotonic()
        if file != current:
            began, current = now, file
        if now - last >= LINE_S:
            last = now
            left = (now - began) * (1 - share) / max(share, 1e-6)
            console.print(
                f"{file.name}: {step}, {records:,} records, {share:.0%}, {left:,.0f} s left",
                markup=False, soft_wrap=True,
            )  # fmt: skip

    return tell


def show_outcomes(console: Console, outcomes: Sequence[Outcome], *, dry_run: bool) -> None:
    """Show what became of each file's rows, with the first of those that were refused."""
    for outcome in outcomes:
        refused = outcome.refused
        if dry_run:
            done = f"{outcome.records:,} records would be published"
        else:
            rate = outcome.published / max(outcome.seconds, 1e-9)
            done = f"{outcome.published:,} records published in {outcome.seconds:.1f} s ({rate:,.0f}/s)"
            done += f", {outcome.before:,} before" if outcome.before else ""
        console.print(
            f"[bold]{escape(str(outcome.source.path))}[/] → {outcome.source.plan.kind}: {done}; "
            f"{refused.counts.total():,} rows rejected, {refused.left_out.total():,} left out",
            soft_wrap=True,
        )
        show_faults(console, refused)


def show_faults(console: Console, refused: Refused) -> None:
    """Show how many rows could not be used, by reason, with the first of each."""
    for counts, style in ((refused.counts, "red"), (refused.left_out, "yellow")):
        for reason, n in counts.most_common():
            console.print(f"  [{style}]{n:,}[/] {WORDS.get(reason, reason)}", soft_wrap=True)
            for one in refused.examples[reason]:
                console.print(f"      line {one['line']:,}: {escape(one['error'])}", soft_wrap=True)
