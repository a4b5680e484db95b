"""The report of chaos runs: `build/chaos.md` has a line of each as soon as it has ended."""

import os
import re
from pathlib import Path

import pytest

REPORT = Path("build/chaos.md")
RUN = re.compile(r"::test_after_faults_by_a_seed_\w+\[(?P<seed>\d+)\]$")
COLUMNS = ("seed", "faults, each with its seconds", "settings", "first slates after kill -9, s", "outcome")


class Report:
    """Writes a table in Markdown, a line a seed.

    Parameters
    ----------
    file : the lines are appended to it
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            self._append(COLUMNS)
            self._append("---" for _ in COLUMNS)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the line of a run that has ended, could not begin, or took its process with it."""
        run = RUN.search(report.nodeid)
        if run is None or not (report.when == "call" or report.failed):
            return
        said = run.groupdict() | dict(report.user_properties)
        outcome = f"{report.outcome} after {report.duration:.0f} s"
        if report.failed:
            outcome += f": {_one_line(report)}"
        if report.failed and "evidence" in said:
            outcome += f"; see {said['evidence']}"
        self._append([*(str(said.get(name, "")) for name in COLUMNS[:-1]), outcome])

    def _append(self, cells: object) -> None:
        with self._file.open("a") as file:
            file.write(f"| {' | '.join(cells)} |\n")  # type: ignore[arg-type]


def _one_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else crash.message
    return text.partition("\n")[0].replace("|", "/")[:300]


def pytest_configure(config: pytest.Config) -> None:
    """Report from the process that hears of every run."""
    if os.environ.get("CHAOS_RUNS") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Report(config.rootpath / REPORT))
