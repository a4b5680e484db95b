"""`slatestream map`: before and after, and exit codes."""

import json
import sys
from pathlib import Path

import pytest
from kafka import KafkaProducer

from streams.cli import main
from streams.kafka.options import kafka_client_options
from streams.kafka.topic_admin import admin_client
from streams.mapping.sample import LONGEST_LINE, sample_file
from streams.settings import Settings
from tests.conftest import SettingsFactory

MAPPING = """
[[source]]
topic = "{topic}"
feeds = "clicks"
where = [{{ path = "bot", is_not = true }}]
[source.fields]
user_id = "user.id"
item_id = "item"
action = {{ path = "type", values = {{ seen = "view" }} }}
timestamp_ms = {{ path = "at", unit = "s" }}
event_id = "$header.trace"
"""
EVENT = {"user": {"id": "u1"}, "item": "i1", "type": "seen", "at": 1764000000}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slatestream", "map", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING.format(topic="shop").replace('event_id = "$header.trace"\n', ""))
    return path


def test_a_sound_mapping_is_shown_and_a_bad_one_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mapping: Path
) -> None:
    assert run(monkeypatch, str(mapping), "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["topic"], row["feeds"], row["read"]) == ("shop", "clicks", "directly")
    assert run(monkeypatch, str(mapping), "--topic", "other") == 2
    assert "has no source 'other'" in capsys.readouterr().err
    mapping.write_text("[[source]]\n")
    assert run(monkeypatch, str(mapping)) == 2
    assert "source 1 (without a topic): topic: is missing" in capsys.readouterr().err
    assert run(monkeypatch) == 2
    assert "name a mapping file, or set SLATESTREAM_MAPPING" in capsys.readouterr().err


def test_records_of_a_file_are_shown_before_and_after_with_what_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mapping: Path, tmp_path: Path
) -> None:
    events = [EVENT, {**EVENT, "bot": True}, {**EVENT, "item": 7}, {**EVENT, "user": {}}]
    file = tmp_path / "events.jsonl"
    file.write_text("\ufeff" + "\r\n".join(json.dumps(event) for event in events))
    assert run(monkeypatch, str(mapping), "--sample", "--file", str(file), "--json") == 1
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert shown[0]["after"][0]["value"] == {
        "event_id": "shop-0-1", "user_id": "u1", "item_id": "i1", "action": "view",
        "timestamp_ms": 1764000000000,
    }  # fmt: skip
    assert [len(one["after"]) for one in shown] == [1, 0, 0, 0]
    assert [one["error"] for one in shown[:2]] == [None, None]
    assert "at `$.item_id` (it comes from `item`)" in shown[2]["error"]
    assert "nothing at `user.id`: user has nothing" in shown[3]["error"]
    assert run(monkeypatch, str(mapping), "--sample", "--file", str(file)) == 1
    assert "4 records: 1 events, 1 left out, 2 failed" in capsys.readouterr().out
    assert run(monkeypatch, str(mapping), "--sample", "--file", str(file), "--records", "2") == 0
    assert run(monkeypatch, str(mapping), "--sample", "--file", str(tmp_path / "none")) == 2
    assert "none: No such file" in capsys.readouterr().err


def test_what_a_worker_would_refuse_of_a_mapped_record_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mapping: Path, tmp_path: Path
) -> None:
    mapping.write_text(mapping.read_text().replace('{ path = "type", values = { seen = "view" } }', '"type"'))
    (tmp_path / "e.jsonl").write_text(json.dumps(EVENT))
    assert run(monkeypatch, str(mapping), "--sample", "--file", str(tmp_path / "e.jsonl"), "--json") == 1
    assert "unknown_action: unknown action 'seen'" in json.loads(capsys.readouterr().out)["error"]


def test_a_line_too_long_for_a_record_is_named_and_passed_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a": 1}\n')
        file.seek(3 * LONGEST_LINE)  # a hole in the file: as good as a gigabyte
        file.write(b'\n{"a": 2}\n')
    sample = sample_file(path, "shop", 10)
    assert [one.record.value for one in sample.records] == [b'{"a": 1}', b'{"a": 2}']
    assert sample.faults == [f"{path} line 2: longer than {LONGEST_LINE:,} bytes, left out"]


def test_the_newest_records_of_a_topic_are_shown_with_their_headers(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_settings: SettingsFactory,
    tmp_path: Path,
) -> None:
    settings: Settings = make_settings()
    topic = f"{settings.topic_prefix}shop"
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING.format(topic=topic))
    assert run(monkeypatch, str(path), "--sample") == 2
    assert f"there is no topic '{topic}'" in capsys.readouterr().err
    with admin_client(settings) as admin:
        admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1}})
        admin.wait_for_topics([topic])
    try:
        assert run(monkeypatch, str(path), "--sample") == 0
        assert "0 records: 0 events" in capsys.readouterr().out
        producer = KafkaProducer(**kafka_client_options(settings), acks="all")
        for number in range(40):
            value = json.dumps({**EVENT, "item": f"i{number}"}).encode()
            headers = [("other", b"x"), ("trace", f"t{number}".encode())]
            producer.send(topic, value, partition=number % 3, headers=headers)
        producer.close()
        assert run(monkeypatch, str(path), "--sample", "--json") == 0
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(shown) == 10
        assert {one["partition"] for one in shown} == {0, 1, 2}
        for one in shown:
            (event,) = one["after"]
            assert event["value"]["event_id"] == "t" + event["value"]["item_id"][1:]
    finally:
        with admin_client(settings) as admin:
            admin.delete_topics([topic])
