import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streams.errors import SlatestreamError
from streams.importing.options import Choices
from streams.importing.run import Options, plan_files
from streams.quickstart.counts import Met
from streams.quickstart.serve import keeps_users, taken_by
from streams.quickstart.steps import look
from streams.settings import Settings
from streams.worker.process import MetricsReading

LATEST = 1_764_000_000_000


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def met(files: list[Path], settings: Settings, *, tolerate: float = 0.0, **choices: Any) -> Met:
    chosen = Choices(known_actions=tuple(settings.actions), latest_ms=LATEST, **choices)
    options = Options()
    console = Console(quiet=True)
    sources = plan_files(files, chosen, options)
    return look(console, settings, sources, chosen, options, tolerate=tolerate, rejected=None)


def events(path: Path, n: int = 300, item: str = "i") -> Path:
    rows = [f"u{n % 9},{item}{n % 7},purchase,{1_700_000_000 + n}" for n in range(n)]
    return write(path, "user,item,event,time", rows)


def test_what_is_read_is_told_in_numbers(tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", "item,title", ["i0,Alien", "i1,Aliens", "i9,Heat"])
    found = met([events(tmp_path / "events.csv"), items], Settings())
    assert found.summary() == "300 events of 9 users with 7 items; 3 items are described"
    assert [line.split(":")[0] for line in found.warnings()] == [
        "5 of 7 items of events are in no file of items"
    ]
    assert list(found.content()) == []


def test_items_that_no_file_describes_are_described_by_their_ids(tmp_path: Path) -> None:
    found = met([events(tmp_path / "events.csv")], Settings())
    rows = list(found.content())
    assert [key for key, _ in rows] == [f"i{n}" for n in range(7)]
    assert {json.loads(value)["title"] for _, value in rows} == {f"i{n}" for n in range(7)}
    assert found.warnings() == []


def test_ids_of_two_files_that_never_meet_are_a_warning(tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", "item,title", ["sku-1,Alien", "sku-2,Aliens"])
    (line,) = met([events(tmp_path / "events.csv"), items], Settings()).warnings()
    assert "their ids differ, such as 'i0' and 'sku-1'" in line


def test_events_that_speak_for_nothing_or_are_few_are_a_warning(tmp_path: Path) -> None:
    path = events(tmp_path / "events.csv")
    (line,) = met([path], Settings(), action="view").warnings()
    assert line.startswith("No event speaks for an item")
    (line,) = met([events(path, 20)], Settings()).warnings()
    assert line.startswith("Only 20 events speak for an item")


def test_users_of_files_that_go_far_back_are_not_forgotten(tmp_path: Path) -> None:
    rows = [f"u{n},i{n % 3},view,{1_000_000_000 + n * 86_400 * 10}" for n in range(60)]
    found = met([write(tmp_path / "events.csv", "user,item,event,time", rows)], Settings())
    assert found.first_ms == 1_000_000_000_000
    now_ms, said = found.first_ms + 590 * 86_400_000, list[str]()
    assert keeps_users(Settings(), found.first_ms, now_ms, said.append) == {"user_ttl_days": 955.0}
    assert "590 days old" in said[0]
    assert keeps_users(Settings(), now_ms, now_ms, said.append) == {}
    assert keeps_users(Settings(user_ttl_days=None), found.first_ms, now_ms, said.append) == {}


def test_the_example_is_a_user_with_a_history_and_not_the_busiest(tmp_path: Path) -> None:
    rows = [f"robot,i{n % 7},view,{1_700_000_000 + n}" for n in range(100)]
    rows += [f"u{u},i{n},view,{1_700_000_000 + n}" for u in range(19) for n in range(30 - u)]
    found = met([write(tmp_path / "events.csv", "user,item,event,time", rows)], Settings())
    assert found.example() == "u1"


def test_more_rejected_rows_than_are_tolerated_end_it_before_anything_is_published(tmp_path: Path) -> None:
    path = events(tmp_path / "events.csv", 8)
    path.write_text(path.read_text() + "u1,i1,sold,1700000100\nu1,i1,sold,1700000101\n")
    with pytest.raises(SlatestreamError, match="20% of the rows were rejected, more than 10%"):
        met([path], Settings(), tolerate=0.1)
    assert met([path], Settings(), tolerate=0.2).events == 8
    assert met([path], Settings(), actions={"sold": "purchase"}).events == 10


def test_rows_that_are_all_left_out_are_no_events(tmp_path: Path) -> None:
    rows = [f"u{n},i{n},0" for n in range(30)]
    with pytest.raises(SlatestreamError, match="no row is an interaction"):
        met([write(tmp_path / "events.csv", "user,item,clicked", rows)], Settings())


def test_how_far_a_worker_is_is_read_from_its_metrics() -> None:
    lines = [f'slatestream_lag_records{{topic="clicks",partition="{one}"}} {one}' for one in (1, 2)]
    lines += ['slatestream_lag_records{topic="content",partition="0"} 5']
    lines += ["# TYPE slatestream_state_rows gauge", 'slatestream_state_rows{kind="vectors"} 7']
    reading = MetricsReading("\n".join(["# TYPE slatestream_lag_records gauge", *lines, ""]))
    taken = taken_by(reading)
    assert taken == (8, 7)
    assert taken is not None
    assert taken.in_words() == "8 records left, and 7 items encoded"
    assert taken_by(None) is None
