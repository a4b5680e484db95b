import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streams.bench import report


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (12345, "12,345"),
        (12345.6, "12,346"),
        (23.45, "23.4"),
        (2.346, "2.35"),
        (0.0567, "0.057"),
        ("p50", "p50"),
    ],
)
def test_a_figure_has_as_many_digits_as_it_is_good_for(value: Any, text: str):
    assert report.cell(value) == text


def test_a_report_is_json_with_the_machine_and_the_moment(tmp_path: Path):
    said: list[str] = []
    path = tmp_path / "deep" / "x.json"
    report.write_report(path, {"ratio": 0.5}, said.append)
    written = json.loads(path.read_text())
    assert written["ratio"] == 0.5
    assert written["machine"]["cores"] >= 1
    assert written["taken"]
    assert said == [f"Figures in {path}"]


def test_a_table_is_not_folded_when_it_is_piped():
    out = io.StringIO()
    columns = [f"column {n}" for n in range(10)]
    report.print_table(Console(file=out), "Title", columns, [["a", *range(9)], ["b", *[None] * 9]])
    shown = out.getvalue()
    assert "column 9" in shown
    assert shown.splitlines()[0].startswith("Title")
    assert shown.count(" - ") == 9


def test_a_picture_without_matplotlib_is_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(report.util, "find_spec", lambda name: None)
    report.plot_curves(tmp_path / "a.png", {"one": [(1, 2)]}, x="x", y="y", title="t", say=said.append)
    assert said == ["a.png is left out: it needs matplotlib"]
    assert not (tmp_path / "a.png").exists()


def test_a_picture_is_drawn(tmp_path: Path):
    said: list[str] = []
    path = tmp_path / "curves" / "a.png"
    report.plot_curves(path, {"one": [(10, 2), (1, 3)]}, x="x", y="y", title="t", say=said.append)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert said == [f"Picture in {path}"]
