"""The benchmarks run: on a small load, against the real broker and a real worker."""

import json
from pathlib import Path

import pytest

from streams.bench.ready import ready_command
from streams.bench.restore import restore_command
from streams.bench.serve import serve_command
from streams.settings import Settings

PATIENT = ["text_encoder=none", "max_queue_ms=60000", "read_your_writes_ms=60000"]


@pytest.fixture(autouse=True)
def _on_the_broker_of_the_tests(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)


def test_serve_measures_both_ways_with_clicks_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    serve_command(
        rates="20",
        items="300",
        clicks="500",
        over="kafka,http",
        seconds=1.0,
        users=50,
        limit_ms=0.0,
        release=None,
        baseline=True,
        set_=PATIENT,
        seed=1,
        out=tmp_path,
    )
    report = json.loads((tmp_path / "serve.json").read_text())
    loads = report["loads"]
    assert [(load["over"], load["clicks"]) for load in loads] == [("kafka", 500.0), ("http", 500.0)]
    for load in loads:
        assert (load["sent"], load["unanswered"], load["refused"]) == (20, 0, 0)
        assert 0 < load["p50_ms"] <= load["p99_ms"] <= load["max_ms"]
        assert load["fallbacks"] == 20, "there is no release"
        assert {"score", "policy", "request_to_publish"} <= {stage["name"] for stage in load["stages"]}
    assert report["hop"]["p50_ms"] > 0
    shown = capsys.readouterr().out
    assert "machine: " in shown
    assert "Slates at a constant rate" in shown


def test_ready_measures_a_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ready_command(
        times=1, idle=0.0, kinds="none", release=None, cold=False, set_=["text_encoder=none"], out=tmp_path
    )
    report = json.loads((tmp_path / "ready.json").read_text())
    assert [row["what"] for row in report["medians"]] == ["without a release"]
    assert report["medians"][0]["ready_s"] > report["imports_s"] > 0
    assert report["medians"][0]["idle_mib"] > 50
    assert "importing the libraries alone" in capsys.readouterr().out


def test_restore_kills_a_worker_and_follows_it_back(tmp_path: Path):
    given = [
        *PATIENT, "session_timeout_ms=3000", "flush_interval_ms=100", "shared_flush_interval_ms=200",
    ]  # fmt: skip
    restore_command(
        users="300",
        each=2,
        set_=given,
        out=tmp_path,
    )
    (restored,) = json.loads((tmp_path / "restore.json").read_text())["restored"]
    assert restored["events"] == 600
    assert restored["rows"] > restored["policy_rows"] > 0
    assert restored["rows"] - restored["policy_rows"] >= 300, "a row of every user"
    assert 0 < restored["restore_s"] < restored["ready_s"]
    assert restored["rows_per_second"] > 0
    assert restored["bare_rows_per_second"] > 0
