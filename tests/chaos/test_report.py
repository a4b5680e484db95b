"""The report of chaos runs has a line of each, also of one that could not begin."""

from pathlib import Path
from typing import Any, Literal

import pytest

from tests.chaos import test_chaos
from tests.chaos.conftest import Report

NAME = test_chaos.test_after_faults_by_a_seed_nothing_is_lost_doubled_or_unanswered.__name__


def ended(
    seed: int, outcome: Literal["passed", "failed"], when: str, said: str = "", **properties: Any
) -> pytest.TestReport:
    place = "tests/chaos/test_chaos.py"
    return pytest.TestReport(
        f"{place}::{NAME}[{seed}]", (place, 1, NAME), {}, outcome, said or None, when,  # type: ignore[arg-type]
        user_properties=list(properties.items()), duration=61.4,
    )  # fmt: skip


def test_each_run_has_a_line_whatever_became_of_it(tmp_path: Path) -> None:
    report = Report(tmp_path / "build" / "chaos.md")
    report.pytest_runtest_logreport(ended(1, "passed", "setup"))
    report.pytest_runtest_logreport(ended(1, "passed", "call", settings="policy greedy", evidence="/e"))
    report.pytest_runtest_logreport(ended(1, "passed", "teardown"))
    report.pytest_runtest_logreport(ended(2, "failed", "call", "lost | u1\nat line 3", evidence="/e"))
    report.pytest_runtest_logreport(ended(3, "failed", "setup", "no broker"))
    report.pytest_runtest_logreport(ended(4, "failed", "???", "worker 'gw0' crashed"))
    lines = (tmp_path / "build" / "chaos.md").read_text().splitlines()
    assert lines[2:] == [
        "| 1 |  | policy greedy |  | passed after 61 s |",
        "| 2 |  |  |  | failed after 61 s: lost / u1; see /e |",
        "| 3 |  |  |  | failed after 61 s: no broker |",
        "| 4 |  |  |  | failed after 61 s: worker 'gw0' crashed |",
    ]
