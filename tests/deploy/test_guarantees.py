"""Every fault of deploy/guarantees.md has a test that exists."""

import re
from pathlib import Path

from streams.worker.agents.side_by_side import LATER_S
from tests.chaos.faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (?P<fault>[^|]+) \| (?P<outcome>[^|]+) \| (?P<tests>[^|]+) \|$", re.MULTILINE)
NAMED = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[str, str]]:
    """Faults and what is said of their tests."""
    found = [
        (row["fault"], row["tests"]) for row in ROW.finditer((ROOT / "deploy/guarantees.md").read_text())
    ]
    return [(fault, tests) for fault, tests in found if tests not in ("test", "---")]


def test_each_row_names_files_of_tests_and_faults_of_the_chaos_suite_that_exist() -> None:
    assert len(rows()) > 20
    for fault, tests in rows():
        named = NAMED.findall(tests)
        assert named, f"{fault}: no test"
        for name in named:
            if name.startswith("tests/"):
                path = ROOT / name
                assert path.is_dir() or "def test_" in path.read_text(), f"{fault}: {name}"
            else:
                assert name in FAULTS, f"{fault}: {name} is no fault of the chaos suite"


def test_each_fault_of_the_chaos_suite_stands_in_a_row() -> None:
    named = {name for _, tests in rows() for name in NAMED.findall(tests)}
    assert FAULTS.keys() - named == set()


def test_the_readme_counts_the_faults() -> None:
    assert f"mixes {len(FAULTS)} kinds of faults" in (ROOT / "README.md").read_text()


def test_how_late_the_clicks_of_others_count_is_what_the_worker_has() -> None:
    assert f"count up to {1000 * LATER_S:.0f} ms later" in (ROOT / "deploy/guarantees.md").read_text()
