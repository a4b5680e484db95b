import json
from pathlib import Path

import msgspec
import pytest

from streams.bench.sizing import BEGIN, END, Constants, Target, collect, filled, size, sizing_command, tables
from streams.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
CONSTANTS = Constants(
    event_cpu_us=20.0,
    slate_cpu_ms=5.0,
    items_when_served=20_000,
    score_ms_per_million_items=100.0,
    idle_bytes=2.0**28,
    user_bytes=300.0,
    interaction_bytes=16.0,
    item_bytes=1_000.0,
    edge_bytes=50.0,
    restore_rows_per_second=100_000.0,
    policy_rows_per_event=0.1,
    machine={"cores": 2, "cpu": "a processor", "load_1_min": 0.5},
)


def test_workers_follow_from_processor_time_with_room_to_spare():
    needed = size(CONSTANTS, Target(300_000.0, 1_000_000, 1_000_000))
    assert needed.for_events == 10  # 300,000 * 20 us / .6
    assert needed.score_ms == 100.0
    assert needed.for_slates == 515  # 3,000 a second of 3 + 100 ms each, over .6
    assert needed.workers == 525
    assert needed.read_rows == 30_000.0


def test_users_are_divided_by_the_workers_and_items_are_not():
    one = size(CONSTANTS, Target(30_000.0, 1_000_000, 1_000))
    two = size(CONSTANTS, Target(60_000.0, 1_000_000, 1_000))
    assert two.workers == 2 * one.workers
    assert one.users_gib == two.users_gib == pytest.approx(1_000_000 * 1_100 / 2**30)
    assert one.catalogue_gib == two.catalogue_gib
    assert one.worker_gib - two.worker_gib == pytest.approx(one.users_gib / one.workers / 2)
    assert two.restore_s == pytest.approx(one.restore_s / 2)


def test_tables_stand_between_the_marks_and_nothing_else_changes():
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = filled(document, tables(CONSTANTS))
    assert once.startswith(f"before\n{BEGIN}\nMeasured on 2 cores, a processor")
    assert once.endswith(f"\n{END}\nafter\n")
    assert "old" not in once
    assert filled(once, tables(CONSTANTS)) == once


def test_a_document_without_marks_is_refused():
    with pytest.raises(ConfigurationError, match="must have the lines"):
        filled("nothing", "text")


def test_constants_come_from_the_reports_of_the_other_benchmarks(tmp_path: Path):
    reports = {
        "ingest": {"cpu_us_per_event": 25.0},
        "serve": {
            "loads": [
                {"clicks": 0, "answered_per_second": 10.0, "items": 5, "cpu_ms_per_slate": 1.0},
                {"clicks": 0, "answered_per_second": 50.0, "items": 20_000, "cpu_ms_per_slate": 7.0},
                {"clicks": 9, "answered_per_second": 90.0, "items": 5, "cpu_ms_per_slate": 2.0},
            ]
        },
        "score": {
            "scored": [
                {"precision": "fp32", "items": 1_000, "batch": 8, "cpu_ms": 1.0},
                {"precision": "fp32", "items": 100_000, "batch": 2, "cpu_ms": 40.0},
                {"precision": "int8", "items": 900_000, "batch": 2, "cpu_ms": 9.0},
            ]
        },
        "memory": {
            "idle_bytes": 100,
            "weights": [
                {"what": "a user with one interaction", "bytes_each": 420.0},
                {"what": "an interaction", "bytes_each": 20.0},
                {"what": "an item with a text vector", "bytes_each": 900.0},
                {"what": "an edge", "bytes_each": -1.0},
            ],
        },
        "restore": {"restored": [{"rows_per_second": 70_000.0, "policy_rows": 50, "events": 200}]},
    }
    for name, report in reports.items():
        with pytest.raises(ConfigurationError, match=f"{name}.json is missing: run"):
            collect(tmp_path)
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    found = collect(tmp_path)
    assert found.event_cpu_us == 25.0
    assert found.slate_cpu_ms == 7.0
    assert found.score_ms_per_million_items == pytest.approx(200.0)
    assert (found.user_bytes, found.edge_bytes, found.policy_rows_per_event) == (400.0, 0.0, 0.25)


def test_the_committed_tables_are_those_of_the_committed_constants(capsys: pytest.CaptureFixture[str]):
    document = (ROOT / "deploy" / "scaling.md").read_text()
    constants = msgspec.json.decode((ROOT / "deploy" / "scaling.json").read_bytes(), type=Constants)
    assert filled(document, tables(constants)) == document
    sizing_command(constants=ROOT / "deploy" / "scaling.json", document=None, collect_=False)
    assert "of them for slates" in capsys.readouterr().out


def test_damaged_constants_are_named(tmp_path: Path):
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="c.json must hold the constants"):
        sizing_command(constants=tmp_path / "c.json", document=None, collect_=False)
