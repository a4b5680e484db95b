"""Every decoder bears odd inputs; `python -m tests.fuzz` gives each a million."""

import subprocess
import sys

import pytest

from tests.fuzz.__main__ import TARGETS
from tests.fuzz.command_line import fault
from tests.fuzz.engine import fuzz

QUICK = TARGETS.keys() - {"mapped-clicks", "mapped-clicks-iso", "user-rows"}
"""The others compile kernels of their own, or restore whole states: they are for the command."""


@pytest.mark.parametrize("name", sorted(QUICK))
def test_odd_inputs_are_refused_with_a_reason_or_read_as_plain_python_reads_them(name: str) -> None:
    outcome = fuzz(TARGETS[name](), inputs=500, seed=1)
    assert outcome.findings == []
    assert outcome.answers > 3


class Fragile:
    """Cannot bear a 7 that follows a quotation mark."""

    batch, seeds, words = 50, (b'{"a": 1}',), (b'"7"',)

    def check(self, inputs: list[bytes]) -> list[bool]:
        if any(b'"7' in value for value in inputs):
            raise KeyError("seven")
        return [b"1" in value for value in inputs]


def test_what_a_decoder_cannot_bear_is_found_and_made_small() -> None:
    ((value, words),) = fuzz(Fragile(), inputs=5_000, seed=1).findings  # type: ignore[arg-type]
    assert value == b'"7'
    assert words.startswith("KeyError")


def test_odd_arguments_end_every_command_with_a_message_and_a_documented_code() -> None:
    # Beside this process, which has threads that a fork would not.
    words = [
        "--runs",
        "25",
        "--seconds",
        "120",
        "--only",
        "import",
        "map",
        "init",
        "config",
        "release",
        "ope",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.command_line", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("25 command lines, 0 found")


def test_a_command_that_ends_in_a_traceback_is_found() -> None:
    assert fault(1, "Traceback (most recent call last)") == "a traceback"
    assert fault(70, "oops") == "exit code 70"
    assert fault(2, " ") == "exit code 2 without a word"
    assert fault(2, "slatestream: no such file") is None
    assert fault(None, "still at it") is None
