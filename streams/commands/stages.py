"""The stages of long work as bars with the time left; where nobody watches a terminal, as lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_S = 10.0

NAMES = {
    "replay": "Replaying the log",
    "embed": "Embedding the knowledge graph",
    "train": "Training",
    "balance": "Weighing the parts of the score",
    "finish": "Last epoch, with the latest events",
    "export": "Exporting and checking",
    "evaluate": "Measuring on what follows",
}
"""What `model_core` calls its stages, in a user's words."""


class _TimeLeft(ProgressColumn):
    """The time left of a stage that says how far it is; nothing of one that does not, or is over."""

    def __init__(self) -> None:
        super().__init__()
        self._remaining = TimeRemainingColumn(compact=True)

    def render(self, task: Task) -> Text:
        if task.finished or not task.completed or task.time_remaining is None:
            return Text("")
        return Text.assemble(self._remaining.render(task), " left")


class Stages:
    """Bars by stage; `report` fits where `model_core` takes one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._first: dict[
            str, tuple[float, float]
        ] = {}  # when a stage first said how far it was, and how far
        self._told = time.monotonic()

    def report(self, stage: str, done: float) -> None:
        """Show how much of a stage is done, from 0 to 1."""
        name = NAMES.get(stage, stage)
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(name, total=1.0)
            self._told = time.monotonic()
            self._say(f"{name} ...")
        elif 0.0 < done < 1.0:
            self._tell(stage, name, done, time.monotonic())
        self._progress.update(self._bars[stage], completed=done)

    def _tell(self, stage: str, name: str, done: float, now: float) -> None:
        """Say how much is done, every `LINE_S`, and what is left at the pace since the first time.

        Before that it gets started, such as by loading compiled code, and nothing is known of the pace.
        """
        at, before = self._first.setdefault(stage, (now, done))
        if now - self._told < LINE_S:
            return
        self._told = now
        left = f", {(now - at) * (1.0 - done) / (done - before):,.0f} s left" if done > before else ""
        self._say(f"{name}: {done:.0%}{left}")

    def _say(self, line: str) -> None:
        if not self._progress.console.is_terminal:
            self._progress.console.print(line, highlight=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a stage that says nothing in between."""
        self.report(name, 0.0)
        yield
        self.report(name, 1.0)


@contextmanager
def show_stages(console: Console) -> Iterator[Stages]:
    """Draw the stages of what is done inside."""
    with Progress(
        TextColumn("{task.description:<36}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), _TimeLeft(), console=console, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        yield Stages(progress)
