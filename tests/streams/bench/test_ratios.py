import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.bench.quick import NAMES, changed, ratios_of
from streams.bench.ratios import compare, read_ratios, warnings_of
from streams.cli import app
from streams.errors import ConfigurationError


def test_a_ratio_that_fell_by_a_fifth_is_warned_of_and_no_other():
    compared = compare({"a": 0.8, "b": 0.81, "c": 2.0, "new": 1.0}, dict.fromkeys("abcd", 1.0))
    assert [one.name for one in compared] == ["a", "b", "c", "new"]
    assert warnings_of(compared) == ["WARNING: a fell by 20%, from 1.000 to 0.800"]
    assert [changed(one) for one in compared] == ["-20%", "-19%", "+100%", ""]


def test_a_ratio_without_a_committed_one_has_not_changed():
    (one,) = compare({"new": 0.1}, {})
    assert one.change is None
    assert not one.fell


def test_committed_ratios_are_read_and_only_one_that_is_to_be_written_may_be_missing(tmp_path: Path):
    path = tmp_path / "ratios.json"
    assert read_ratios(path, missing=True) == {}
    with pytest.raises(ConfigurationError, match="No such file"):
        read_ratios(path)
    path.write_text(json.dumps({"ratios": {"ingest": 0.5}, "machine": {}}))
    assert read_ratios(path) == {"ingest": 0.5}


@pytest.mark.parametrize("text", ["", "[]", '{"ratios": 1}', '{"ratios": {"a": "x"}}', "{}"])
def test_a_damaged_file_of_ratios_is_named(tmp_path: Path, text: str):
    path = tmp_path / "ratios.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="ratios.json must hold ratios by name in JSON"):
        read_ratios(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "none.json"], "none.json must hold ratios to compare with: No such file"),
        (["--save"], "--save needs --against FILE"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_measured(words: list[str], message: str):
    done = CliRunner().invoke(app, ["bench", "quick", *words])
    assert message in str(done.exception)


def test_every_ratio_rises_when_the_worker_becomes_faster():
    calibrations = ("bare_per_second", "bare_cpu_us", "graph_ms", "graph_cpu_ms", "imports_s")
    rates, costs = ("folded_per_second",), ("folded_cpu_us", "slate_p50_ms", "slate_cpu_ms", "ready_s")
    slow = dict.fromkeys((*calibrations, *rates, *costs), 10.0)
    fast = slow | dict.fromkeys(rates, 20.0) | dict.fromkeys(costs, 5.0)
    assert ratios_of(slow) == dict.fromkeys(NAMES, 1.0)
    assert ratios_of(fast) == dict.fromkeys(NAMES, 2.0)


def test_the_committed_ratios_are_those_that_are_measured():
    committed = read_ratios(Path(__file__).parents[2] / "benchmarks" / "ratios.json")
    assert committed.keys() == NAMES.keys()
    assert all(0 < ratio < 1 for ratio in committed.values())
