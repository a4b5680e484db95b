"""Shows a command's progress and its remaining time, on stderr: stdout is for the answer."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_S = 5.0

Tell = Callable[[str, int], object]
"""Called with what is being read and how many records have been passed since the last call."""


@contextmanager
def reading(total: int, *, quiet: bool = False) -> Iterator[Tell]:
    """Give a bar with the time left on a terminal, and a line now and then elsewhere or where it is `quiet`.

    Parameters
    ----------
    total : records there are; 0 where that is not known
    """
    console = Console(stderr=True)
    if console.is_terminal and not quiet:
        columns = (
            TextColumn("{task.fields[where]}"), BarColumn(bar_width=24), TaskProgressColumn(),
            TextColumn("{task.completed:,.0f} records, left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=total or None, where="")
            yield lambda where, n: bar.update(task, advance=n, where=where)
        return
    began = said = time.monotonic()
    done = 0

    def tell(where: str, n: int) -> None:
        nonlocal done, said
        done += n
        now = time.monotonic()
        if now - said >= LINE_S:
            said = now
            left = f", {(now - began) * (total - done) / max(done, 1):,.0f} s left" if total > done else ""
            print(f"{where}: {done:,} records{left}", file=sys.stderr)

    yield tell
