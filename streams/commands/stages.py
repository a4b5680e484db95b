"""The stages of long work as bars; where nobody watches a terminal, as one line each."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

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


class Stages:
    """Bars by stage; `report` fits where `model_core` takes one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def report(self, stage: str, done: float) -> None:
        """Show how much of a stage is done, from 0 to 1."""
        if stage not in self._bars:
            name = NAMES.get(stage, stage)
            self._bars[stage] = self._progress.add_task(name, total=1.0)
            if not self._progress.console.is_terminal:
                self._progress.console.print(f"{name} ...", highlight=False)
        self._progress.update(self._bars[stage], completed=done)

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
        TimeElapsedColumn(), console=console, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        yield Stages(progress)
