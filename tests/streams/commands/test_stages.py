"""What lines say of long work where nobody watches a terminal."""

import io

import pytest
from rich.console import Console

from streams.commands import stages
from streams.commands.stages import show_stages


def said(monkeypatch: pytest.MonkeyPatch, *reports: tuple[float, float]) -> list[str]:
    """The lines about a stage, of reports at some seconds of how much is done."""
    now = [0.0]
    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    written = io.StringIO()
    with show_stages(Console(file=written)) as shown:
        for now[0], done in reports:
            shown.report("train", done)
    return written.getvalue().splitlines()


def test_what_is_left_is_by_the_pace_since_a_stage_got_started(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said(monkeypatch, (0, 0.0), (100, 0.01), (110, 0.26), (115, 0.4), (120, 0.51), (140, 1.0))
    assert lines == ["Training ...", "Training: 1%", "Training: 26%, 30 s left", "Training: 51%, 20 s left"]


def test_a_stage_that_is_done_in_one_go_says_its_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, (0, 0.0), (60, 1.0)) == ["Training ..."]
