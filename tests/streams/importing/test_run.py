import asyncio
import io
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.events import decode_click
from streams.importing.faults import FileError
from streams.importing.options import Choices
from streams.importing.resume import SUFFIX
from streams.importing.run import Options, Outcome, import_files, plan_files
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name
from streams.settings import Settings

ROWS = 12_000


def ratings(path: Path, rows: int = ROWS) -> Path:
    """Interactions whose times go up and down."""
    lines = [f"u{n % 97},i{n % 31},{1 + n % 5},{1_700_000_000 + n * 7919 % rows}" for n in range(rows)]
    path.write_text("user,item,rating,time\n" + "\n".join(lines) + "\n")
    return path


def run(
    settings: Settings, files: list[Path], progress: Any = lambda *_: None, **options: Any
) -> list[Outcome]:
    choices = Choices(known_actions=tuple(settings.actions), latest_ms=1_764_000_000_000)
    chosen = Options(**options)
    sources = plan_files(files, choices, chosen)
    return asyncio.run(import_files(settings, sources, choices, chosen, progress=progress))


def published(settings: Settings, name: str = "clicks") -> dict[int, list[Any]]:
    async def read() -> dict[int, list[Any]]:
        return {
            partition: [
                record
                async for records in read_partition(settings, topic_name(settings, name), partition)
                for record in records
            ]
            for partition in range(settings.partitions)
        }

    return asyncio.run(read())


def test_events_arrive_in_the_order_of_their_times_where_their_users_belong(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    (outcome,) = run(kafka_settings, [ratings(tmp_path / "ratings.csv")])
    assert (outcome.records, outcome.published) == (ROWS, ROWS)
    found = published(kafka_settings)
    for partition, records in found.items():
        values = [decode_click(record.value) for record in records]
        assert {partition_of(one.user_id, kafka_settings.partitions) for one in values} <= {partition}
        assert [one.user_id.encode() for one in values] == [record.key for record in records]
        times = [one.timestamp_ms for one in values]
        assert times == sorted(times)
    assert sum(map(len, found.values())) == ROWS
    assert not (tmp_path / f"ratings.csv{SUFFIX}").exists()


@pytest.mark.parametrize("sort", [True, False])
def test_an_import_that_was_interrupted_goes_on_where_it_was(
    kafka_settings: Settings, tmp_path: Path, sort: bool
) -> None:
    path = ratings(tmp_path / "ratings.csv")

    def interrupt(_file: Path, step: str, _share: float, _records: int) -> None:
        if step == "publishing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kafka_settings, [path], interrupt, sort=sort)
    (outcome,) = run(kafka_settings, [path], sort=sort)
    assert 0 < outcome.before < ROWS
    assert outcome.before + outcome.published == ROWS
    ids = Counter(
        decode_click(one.value).event_id for some in published(kafka_settings).values() for one in some
    )
    assert len(ids) == ROWS
    assert set(ids.values()) == {1}


def test_an_import_half_done_is_not_mistaken_for_another_one(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    path = ratings(tmp_path / "ratings.csv")
    kept = tmp_path / f"ratings.csv{SUFFIX}"

    def interrupt(_file: Path, step: str, _share: float, _records: int) -> None:
        if step == "publishing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kafka_settings, [path], interrupt)
    assert json.loads(kept.read_text())["published"] == 5_000
    with pytest.raises(FileError, match="interrupted after 5,000 records, with another order"):
        run(kafka_settings, [path], sort=False)
    (outcome,) = run(kafka_settings, [path], sort=False, restart=True)
    assert (outcome.before, outcome.published) == (0, ROWS)


def test_a_file_that_was_through_is_not_published_again_when_the_next_was_interrupted(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    clicks, items = ratings(tmp_path / "ratings.csv"), tmp_path / "movies.csv"
    items.write_text("item_id,title\n" + "".join(f"i{n},Film {n}\n" for n in range(31)))

    def interrupt(file: Path, step: str, _share: float, _records: int) -> None:
        if file == clicks and step == "publishing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kafka_settings, [clicks, items], interrupt)
    films, events = run(kafka_settings, [clicks, items])
    assert (films.before, films.published) == (31, 0)
    assert events.before + events.published == ROWS
    assert sum(map(len, published(kafka_settings, "content").values())) == 31
    assert not list(tmp_path.glob(f"*{SUFFIX}"))


def test_an_import_half_done_is_another_one_where_columns_are_in_another_order(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    path = ratings(tmp_path / "ratings.csv")
    path.write_text(path.read_text().partition("\n")[2])

    def interrupt(_file: Path, step: str, _share: float, _records: int) -> None:
        if step == "publishing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kafka_settings, [path], interrupt, columns={"": ["user", "item", "rating", "time"]})
    with pytest.raises(FileError, match="with another layout"):
        run(kafka_settings, [path], columns={"": ["item", "user", "rating", "time"]})


def test_items_and_users_go_before_clicks(kafka_settings: Settings, tmp_path: Path) -> None:
    clicks = ratings(tmp_path / "ratings.csv", 10)
    items, users = tmp_path / "movies.csv", tmp_path / "people.csv"
    items.write_text("item_id,title\ni1,Alien\ni1,Aliens\n")
    users.write_text("user_id,gender\nu1,F\nu2,M\n")
    outcomes = run(kafka_settings, [clicks, users, items])
    assert [one.source.plan.kind for one in outcomes] == ["content", "users", "clicks"]
    rows = [record for some in published(kafka_settings, "content").values() for record in some]
    assert [json.loads(row.value)["title"] for row in rows] == ["Alien", "Aliens"]  # the later one counts


def test_a_dry_run_needs_no_broker_and_writes_rejected_rows_down(make_settings: Any, tmp_path: Path) -> None:
    settings = make_settings(bootstrap_servers="127.0.0.1:1")
    path = ratings(tmp_path / "ratings.csv", 5)
    path.write_text(path.read_text() + "u1,i1,5,never\n")
    choices = Choices(known_actions=tuple(settings.actions), latest_ms=1_764_000_000_000, time_unit="s")
    options, sink = Options(dry_run=True), io.StringIO()
    sources = plan_files([path], choices, options)
    work = import_files(settings, sources, choices, options, progress=lambda *_: None, rejected=sink)
    (outcome,) = asyncio.run(work)
    assert (outcome.records, outcome.published) == (5, 0)
    (line,) = sink.getvalue().splitlines()
    assert json.loads(line) == {
        "file": str(path),
        "reason": "time",
        "line": 7,
        "error": "timestamp must be seconds since 1970, got 'never'",
        "row": {"user": "u1", "item": "i1", "rating": "5", "time": "never"},
    }


def test_a_column_that_no_file_has_is_named(make_settings: Any, tmp_path: Path) -> None:
    path = ratings(tmp_path / "ratings.csv", 5)
    with pytest.raises(FileError, match="--map user_id=buyer: no file has that column"):
        run(make_settings(), [path], told=(("user_id", "buyer"),), dry_run=True)


def command(settings: Settings, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "streams.cli", "import", *arguments]


def environment(settings: Settings) -> dict[str, str]:
    import os

    own = {"SLATESTREAM_BOOTSTRAP_SERVERS": settings.bootstrap_servers}
    return {**os.environ, **own, "SLATESTREAM_TOPIC_PREFIX": settings.topic_prefix, "COLUMNS": "100"}


def test_the_command_says_what_it_did_as_json(kafka_settings: Settings, tmp_path: Path) -> None:
    path = ratings(tmp_path / "ratings.csv", 50)
    path.write_text(path.read_text() + ",i1,5,1700000000\n")
    done = subprocess.run(
        command(kafka_settings, str(path), "--json"),
        capture_output=True, text=True, env=environment(kafka_settings), check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (file,) = json.loads(done.stdout)["files"]
    assert (file["topic"], file["published"], file["rejected"]) == ("clicks", 50, {"no_id": 1})
    assert "line 52: user_id is empty" in done.stderr


def test_ctrl_c_ends_an_import_with_a_word(kafka_settings: Settings, tmp_path: Path) -> None:
    path = ratings(tmp_path / "ratings.csv", 400_000)
    with subprocess.Popen(
        command(kafka_settings, str(path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(kafka_settings), bufsize=1,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    assert "Traceback" not in said


def test_rows_are_never_rejected_into_a_file_that_is_imported(make_settings: Any, tmp_path: Path) -> None:
    path = ratings(tmp_path / "ratings.csv", 5)
    before = path.read_text()
    done = CliRunner().invoke(app, ["import", str(path), "--rejected", str(path), "--dry-run"])
    assert "is one of the files that are imported" in str(done.exception)
    assert path.read_text() == before


def test_columns_are_named_for_each_file_without_a_header(make_settings: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first.dat", tmp_path / "second.dat"
    for path in (first, second):
        path.write_text("".join(f"u{n},i{n % 3},{1_700_000_000 + n}\n" for n in range(9)))
    films = tmp_path / "films.csv"
    films.write_text("item,title\n" + "".join(f"i{n},Film {n}\n" for n in range(3)))
    of_events = ["user", "item", "time"]
    for columns in ({"*.dat": of_events}, {"first.dat": of_events, str(second): of_events}):
        outcomes = run(make_settings(), [films, first, second], columns=columns, dry_run=True)
        assert [(one.records, one.refused.counts.total()) for one in outcomes] == [(3, 0), (9, 0), (9, 0)]
    assert run(make_settings(), [first], columns={"": of_events}, dry_run=True)[0].records == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a,b"], "--columns a,b: of which of 2 files? Say --columns FILE=a,b,c"),
        (["one.csv=a,b", "one.csv=a,c"], "--columns one.csv=a,c: given twice for one.csv"),
        (["other.csv=a,b"], "--columns other.csv=a,b: other.csv is none of one.csv, two.jsonl"),
        (["two.jsonl=a,b"], "two.jsonl names its columns itself"),
    ],
)
def test_columns_that_are_of_no_one_file_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "one.csv").write_text("user,item\nu,i\n")
    (tmp_path / "two.jsonl").write_text('{"user": "u", "item": "i"}\n')
    options = [option for one in words for option in ("--columns", one)]
    files = [str(tmp_path / name) for name in ("one.csv", "two.jsonl")]
    done = CliRunner().invoke(app, ["import", *files, "--dry-run", *options])
    assert message in str(done.exception)


@pytest.mark.parametrize("command", ["import", "quickstart"])
def test_a_folder_takes_no_rejected_rows(tmp_path: Path, command: str) -> None:
    path = ratings(tmp_path / "ratings.csv", 5)
    done = CliRunner().invoke(app, [command, str(path), "--rejected", str(tmp_path)])
    assert "must be a file, and is a folder" in str(done.exception)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"user_id": "u", "item_id": "i", "timestamp": 1e306}', "time"),
        ('{"user_id": "u", "item_id": "i", "timestamp": ' + "9" * 400 + "}", "time"),
        ('{"user_id": "u", "item_id": "i", "timestamp": ' + "[" * 3_000 + "]" * 3_000 + "}", "json"),
    ],
)
def test_whatever_a_row_holds_it_costs_itself_alone(
    make_settings: Any, tmp_path: Path, row: str, reason: str
) -> None:
    path = tmp_path / "clicks.jsonl"
    good = "".join(
        f'{{"user_id": "u{n}", "item_id": "i", "timestamp": {1_700_000_000 + n}}}\n' for n in range(30)
    )
    path.write_text(good + row + "\n" + good)
    done = CliRunner().invoke(app, ["import", str(path), "--dry-run", "--json"])
    (file,) = json.loads(done.stdout[done.stdout.index("{") :])["files"]
    assert file["rejected"] == {reason: 1}
