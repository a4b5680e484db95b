import json
import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streams.cli import main
from streams.ope.command import duration_s
from streams.ope.estimates import Sampling
from streams.ope.live import Verdicts, line
from streams.ope.log import SlateLog
from streams.ope.report import Report, count, evaluate_columns, notes
from tests.streams.ope.logged import CANDIDATES, POSITIVE, World


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["slatestream", "ope", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def write(path: Path, *records: bytes) -> Path:
    path.write_bytes(b"\n".join(records) + b"\n")
    return path


def report_of(*records: bytes) -> Report:
    log = SlateLog(POSITIVE)
    for record in records:
        log.add(record)
    columns = log.columns()
    sampling = Sampling(resamples=100)
    return evaluate_columns(columns, count(log, columns), "responses", ["snrips"], sampling, None)


def test_a_file_is_evaluated_with_a_table_figures_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = World(600).records()
    log = write(tmp_path / "feedback.jsonl", b"{", *records, b"", records[0], b'{"request_id": "r"}')
    out, picture = tmp_path / "made" / "ope.json", tmp_path / "made" / "ope.png"
    arguments = ("--file", log, "--json", "--report", out, "--plot", picture, "--resamples", 100)
    assert run(monkeypatch, *arguments, "--estimator", "snrips", "--estimator", "sips") == 0
    told = capsys.readouterr()
    shown = told.err
    assert "live" in shown
    assert all(candidate in shown for candidate in CANDIDATES)
    assert "2 of 603 records left out (undecodable 2); first: Input data was truncated" in shown
    found = json.loads(out.read_text())
    assert json.loads(told.out) == found
    assert found["records"]["slates"] == 600
    assert found["records"]["repeated"] == 1
    assert found["unit"] == "responses a slate"
    assert {(one["policy"], one["estimator"]) for one in found["verdicts"]} == {
        (policy, estimator) for policy in ("live", *CANDIDATES) for estimator in ("snrips", "sips")
    }
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(monkeypatch, *arguments, "--positions", 1, "--reward", "weights") == 0
    first = json.loads(out.read_text())
    assert first["positions"] == 1
    assert first["measured"]["live"]["value"] < 2.0 * found["measured"]["live"]["value"]


def test_what_is_refused_is_said_with_what_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "ope.png"
    log = write(tmp_path / "feedback.jsonl", *World(300).records("greedy"))
    assert run(monkeypatch, "--file", log, "--resamples", 100, "--plot", picture) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "refused random by snrips: mean weight must be within 0.1 of 1" in shown
    assert "instead: more slates, a live policy that explores more" in shown
    assert picture.exists()
    assert run(monkeypatch, "--file", write(log, *World(300).records(candidates=()))) == 0
    assert "no candidate is in the log: set `candidate_policies`" in " ".join(capsys.readouterr().out.split())
    assert run(monkeypatch, "--file", write(log, b"nothing here")) == 2
    assert "no usable record of feedback in 1 lines; the first: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--file", "no-such-file"), "no-such-file: No such file or directory"),
        (("--file", "f", "--from-topics"), "at most one of --file and --from-topics or --last"),
        (("--last", "yesterday"), "--last must be a number and s, m, h or d, such as 1h, got 'yesterday'"),
        (("--file", "f", "--estimator", "magic"), "--estimator must be one of sips, .* or all, got 'magic'"),
        (("--file", "f", "--reward", "fame"), "--reward must be one of responses, weights, got 'fame'"),
        (("--plot", "out.png"), "--plot, --report and --json need an end"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert re.search(message, capsys.readouterr().err)


def test_durations_are_read() -> None:
    assert [duration_s(text) for text in ("90s", "1.5m", "2h", "1d")] == [90, 90, 7_200, 86_400]


def test_verdicts_are_metrics_and_what_is_refused_has_no_value() -> None:
    verdicts, registry = Verdicts(), CollectorRegistry()
    registry.register(verdicts)
    assert all(line.startswith("#") for line in generate_latest(registry).decode().splitlines())
    verdicts.report = report_of(b"{", *World(400).records("greedy"))
    text = generate_latest(registry).decode()
    labels = 'estimator="snrips",policy="random"'
    assert f"slatestream_ope_value{{{labels}}}" not in text
    assert 'slatestream_ope_refused{estimator="snrips",policy="random",reason="mean_weight"} 1.0' in text
    assert f"slatestream_ope_bearable_positions{{{labels}}} 0.0" in text
    assert 'slatestream_ope_malformed_total{reason="undecodable"} 1.0' in text
    assert "slatestream_ope_slates 400.0" in text
    for name in ("value", "low", "high", "effective_slates", "largest_weight"):
        assert f'slatestream_ope_{name}{{estimator="snrips",policy="greedy"}}' in text
    assert 'slatestream_ope_measured{policy="live"}' in text


def test_estimated_propensities_are_said_to_be_so() -> None:
    records = World(300).records()
    assert report_of(*records).counts.estimated == 0
    estimated = [record.replace(b'"exact"', b'"estimated"') for record in records]
    report = report_of(*records[:100], *estimated[100:])
    assert report.counts.estimated == 200
    assert any(
        note.startswith("200 slates were served with estimated propensities") for note in notes(report)
    )


def test_a_report_fits_in_a_line() -> None:
    text = line(report_of(*World(400).records("greedy")))
    assert text.startswith("400 slates  measured 1.")
    assert "random refused (mean_weight)" in text
    assert line(report_of()) == "0 slates  nothing measured  live refused (no_slates)"
