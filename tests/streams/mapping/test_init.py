"""`slatestream init`: what it proposes for records of several shapes, and what it asks."""

import gzip
import json
import shlex
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from streams.cli import main
from streams.kafka.options import kafka_client_options
from streams.kafka.partitioner import partition_of
from streams.kafka.topic_admin import admin_client
from streams.mapping.map_command import outcomes_of
from streams.mapping.sample import sample_file
from streams.settings import Settings
from streams.settings.sources import FieldSource, Source, load_sources
from tests.conftest import SettingsFactory

SHOP = [
    {"id": f"e{k}", "type": ("product_seen", "product_bought", "heartbeat")[k % 3], "sentAt": 1764000000 + k,
     "customer": {"id": 100 + k % 4, "plan": "free"}, "product": {"sku": f"s{k % 7}", "price": 9.5}}
    for k in range(30)
]  # fmt: skip
IMPRESSIONS = [
    {"impression": k, "reader": {"number": k % 4}, "at": f"2025-11-24T16:00:{k:02d}Z",
     "shown": [{"article": f"a{j}", "clicked": j == k % 3} for j in range(3)]}
    for k in range(20)
]  # fmt: skip
FILMS = [
    {"id": k, "name": f"Film {k}", "description": f"What happens in film {k}",
     "genres": ["Drama", "Comedy"][k % 2],
     "tags": "old|long" if k % 2 else "old|short", "cast": [f"actor {k % 5}"], "released": f"20{k:02d}-01-01"}
    for k in range(10, 30)
]  # fmt: skip
CHANGES = [
    {"before": None, "after": {"sku": f"s{k}", "title": f"Item {k}", "brand": f"b{k % 3}"}, "op": "c",
     "ts_ms": 1764000000000}
    for k in range(12)
]  # fmt: skip
EVENTS = [
    {"specversion": "1.0", "id": f"e{k}", "source": "/s", "type": "item.viewed",
     "time": "2025-11-24T16:00:00Z", "data": {"user_id": f"u{k}", "item_id": "i"}}
    for k in range(5)
]  # fmt: skip
PEOPLE = [{"user_id": f"u{k}", "age": 30 + k, "country": "PT"} for k in range(5)]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slatestream", "init", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def write(path: Path, values: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


def made(source: Source, path: str) -> list[dict[str, Any]]:
    """Our events of a file's records, without nulls; every record must be mapped or left out."""
    outcomes = outcomes_of(Settings(), source, sample_file(Path(path), source.topic, 1000).records)
    assert [outcome.why for outcome in outcomes if outcome.why] == []
    events = [json.loads(event.value) for outcome in outcomes for event in outcome.events if event.value]
    return [{name: value for name, value in event.items() if value is not None} for event in events]


def proposed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: Sequence[Any], *arguments: str
) -> tuple[Source, list[dict[str, Any]]]:
    file, out = write(tmp_path / "shop.jsonl", values), tmp_path / "m.toml"
    assert run(monkeypatch, file, "--out", str(out), "--yes", *arguments) == 0
    (source,) = load_sources(out)
    return source, made(source, file)


def test_nested_events_with_numbers_for_ids_and_words_for_actions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, events = proposed(monkeypatch, tmp_path, SHOP)
    assert (source.topic, source.feeds, source.repartition) == ("shop", "clicks", False)
    assert len(events) == 20  # heartbeats are left out
    assert events[1] == {
        "event_id": "e1", "user_id": "101", "item_id": "s1", "action": "purchase",
        "timestamp_ms": 1764000001000,
    }  # fmt: skip
    assert "Left out: heartbeat." in (tmp_path / "m.toml").read_text()


def test_names_of_other_languages_are_known_and_what_leaves_all_records_out_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = [
        {"hændelse": kind, "bruger": {"nr": n}, "varenr": f"V{n}", "tidspunkt": f"2025-11-24T08:00:0{n}Z"}
        for n, kind in enumerate(("købt", "vist", "vist"))
    ]
    _, events = proposed(monkeypatch, tmp_path, values)
    assert [(one["user_id"], one["item_id"], one["action"]) for one in events] == [
        ("0", "V0", "purchase"), ("1", "V1", "view"), ("2", "V2", "view"),
    ]  # fmt: skip
    assert events[2]["timestamp_ms"] == 1_763_971_202_000
    strange = [value | {"hændelse": "qwx"} for value in values]
    file = write(tmp_path / "strange.jsonl", strange)
    assert run(monkeypatch, file, "--out", str(tmp_path / "n.toml"), "--yes") == 0
    assert "all of them are left out" in capsys.readouterr().out


def test_what_was_proposed_is_said_as_json_with_the_command_that_shows_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, out = write(tmp_path / "my shop.jsonl", SHOP), tmp_path / "m.toml"
    assert run(monkeypatch, file, "--out", str(out), "--topic", "shop", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {name: said[name] for name in ("mapping", "topic", "feeds", "records", "events", "failed")} == {
        "mapping": str(out), "topic": "shop", "feeds": "clicks", "records": 30, "events": 20, "failed": 0,
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", shlex.split(said["next"]))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "7 events, 3 left out, 0 failed" in capsys.readouterr().out


def test_impressions_with_a_list_of_clicked_items(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, events = proposed(monkeypatch, tmp_path, IMPRESSIONS)
    assert (source.each, source.repartition) == ("shown", True)
    assert len(events) == 20
    assert events[4] == {
        "event_id": "shop-0-5-1", "user_id": "0", "item_id": "a1", "action": "click",
        "timestamp_ms": 1764000004000, "position": 1,
    }  # fmt: skip


def test_ids_are_found_however_deep_and_by_their_short_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = [f"2025-11-24T16:00:{n:02d}+00:00" for n in range(20)]
    values = [
        {
            "meta": {"v": 2, "source": "web"},
            "visit": {"reader": {"uid": f"U{n}"}, "seen_at": at},
            "teasers": [{"article_ref": f"a{k}", "tapped": k == 1} for k in range(3)],
        }
        for n, at in enumerate(times)
    ]
    _, events = proposed(monkeypatch, tmp_path, values, "--feeds", "clicks")
    assert [(one["user_id"], one["item_id"]) for one in events] == [(f"U{n}", "a1") for n in range(20)]
    (tmp_path / "m.toml").unlink()
    articles = [{"doc": {"ref": f"a{n}", "headline": f"About {n}"}} for n in range(20)]
    _, items = proposed(monkeypatch, tmp_path, articles, "--feeds", "content")
    assert (items[3]["item_id"], items[3]["title"]) == ("a3", "About 3")


def test_items_with_lists_texts_and_separators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, items = proposed(monkeypatch, tmp_path, FILMS)
    assert source.feeds == "content"
    assert items[1]["item_id"] == "11"
    assert (items[1]["title"], items[1]["text"]) == ("Film 11", "What happens in film 11")
    assert items[1]["attributes"] == {"genres": ["Comedy"], "tags": ["old", "long"], "cast": ["actor 1"]}
    assert items[1]["published_ms"] == 1293840000000


def test_an_attribute_is_called_what_it_is_of_and_what_is_always_the_same_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    songs = [
        {"track": {"code": f"t{k}", "name": f"Song {k}", "by": {"name": f"Band {k % 5}"}}, "op": "upsert"}
        for k in range(30)
    ]
    _, items = proposed(monkeypatch, tmp_path, songs)
    assert items[7]["attributes"] == {"by": ["Band 2"]}


def test_thumbs_up_and_down_are_actions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    votes = [{"user": "u", "item": f"i{k}", "ts": 1764000000 + k, "vote": (1, -1)[k % 2]} for k in range(4)]
    _, events = proposed(monkeypatch, tmp_path, votes)
    assert [one["action"] for one in events] == ["like", "dislike", "like", "dislike"]


def test_a_packed_file_is_read_and_one_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = "".join(json.dumps(value) + "\n" for value in SHOP).encode()
    packed = tmp_path / "shop.jsonl.gz"
    packed.write_bytes(gzip.compress(lines))
    assert run(monkeypatch, str(packed), "--out", str(tmp_path / "m.toml"), "--yes") == 0
    assert "of 30 records: 20 events, 0 failed" in capsys.readouterr().out
    for data, words in (
        (gzip.compress(lines)[:80], "ended before the end-of-stream marker"),
        (lines.decode().encode("utf-16"), "is UTF-16: convert it, as `iconv -f UTF-16 -t UTF-8"),
    ):
        packed.write_bytes(data)
        assert run(monkeypatch, str(packed), "--out", str(tmp_path / "n.toml"), "--yes") == 2
        assert words in capsys.readouterr().err


def test_envelopes_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, items = proposed(monkeypatch, tmp_path, CHANGES)
    assert (source.envelope, source.feeds) == ("debezium", "content")
    assert items[4]["attributes"] == {"brand": ["b1"]}
    (tmp_path / "m.toml").unlink()
    source, events = proposed(monkeypatch, tmp_path, EVENTS, "--topic", "other")
    assert (source.topic, source.envelope) == ("other", "cloudevents")
    assert events[0] == {
        "event_id": "e0", "user_id": "u0", "item_id": "i", "action": "view", "timestamp_ms": 1764000000000,
    }  # fmt: skip


def test_people_with_what_is_known_of_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, people = proposed(monkeypatch, tmp_path, PEOPLE)
    assert source.feeds == "users"
    assert people[0] == {
        "user_id": "u0", "attributes": {"age": "30", "country": "PT"}, "preferences": [], "blocked_items": [],
        "friends": [],
    }  # fmt: skip


def test_what_it_cannot_know_is_asked_for_and_answers_are_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = [{"a": f"x{k}", "b": f"y{k % 3}", "c": k} for k in range(9)]
    file, out = write(tmp_path / "t.jsonl", values), str(tmp_path / "m.toml")
    assert run(monkeypatch, file, "--out", out, "--yes") == 2
    assert "Say it with --answer feeds=VALUE; there is clicks, content" in capsys.readouterr().err
    assert run(monkeypatch, file, "--out", out, "--feeds", "clicks") == 2
    assert (
        "Where is the id of the user? Say it with --answer user_id=VALUE; there is a, b, c"
        in capsys.readouterr().err
    )
    answers = tmp_path / "answers.toml"
    answers.write_text('user_id = "a"\nitem_id = "b"\naction = "like"\n')
    assert run(monkeypatch, file, "--out", out, "--feeds", "clicks", "--answers", str(answers)) == 0
    (source,) = load_sources(Path(out))
    action = source.fields["action"]
    assert isinstance(action, FieldSource)
    assert action.constant == "like"
    assert made(source, file)[2]["user_id"] == "x2"
    assert run(monkeypatch, file, "--out", out, "--feeds", "clicks", "--answer", "user=a", "--answer",
               "user_id=a", "--answer", "item_id=b") == 2  # fmt: skip
    assert "nobody asked user; the questions were action, item_id, user_id" in capsys.readouterr().err
    assert run(monkeypatch, str(tmp_path / "none.jsonl")) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err
    assert run(monkeypatch, write(tmp_path / "no.jsonl", [1, 2]), "--yes", "--out", out) == 2
    assert "none of the 2 records sampled is a JSON object; files of rows" in capsys.readouterr().err
    assert run(monkeypatch, write(tmp_path / "none.csv", []), "--yes", "--out", out) == 2
    assert "none holds no record to look at" in capsys.readouterr().err


def test_a_second_source_is_added_to_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = str(tmp_path / "m.toml")
    assert run(monkeypatch, write(tmp_path / "shop.jsonl", SHOP), "--out", out, "--yes") == 0
    assert run(monkeypatch, write(tmp_path / "films.jsonl", FILMS), "--out", out, "--yes") == 0
    assert [source.topic for source in load_sources(Path(out))] == ["shop", "films"]


@pytest.mark.parametrize(
    ("partitions", "place", "said"),
    [
        (4, lambda user, k: partition_of(user, 4), None),
        (4, lambda user, k: zlib.crc32(user.encode()) % 4, "by CRC32 (librdkafka's default)"),
        (4, lambda user, k: k % 4, "do not lie where murmur2 of the id puts them"),
        (3, lambda user, k: partition_of(user, 3), "it has 3 partitions, ours have 4"),
    ],
)
def test_a_topic_of_another_partitioner_is_to_be_repartitioned(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_settings: SettingsFactory,
    tmp_path: Path,
    partitions: int,
    place: Any,
    said: str | None,
) -> None:
    settings = make_settings()
    topic, out = f"{settings.topic_prefix}shop", tmp_path / "m.toml"
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    with admin_client(settings) as admin:
        admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})
        admin.wait_for_topics([topic])
    try:
        producer = KafkaProducer(**kafka_client_options(settings), acks="all")
        for k in range(40):
            user = f"user-{k % 13}"
            value = {"user_id": user, "item_id": f"i{k}", "action": "view", "ts": 1764000000000 + k}
            producer.send(topic, json.dumps(value).encode(), user.encode(), partition=place(user, k))
        producer.close()
        assert run(monkeypatch, topic, "--yes", "--out", str(out)) == 0
        (source,) = load_sources(out)
        assert source.repartition == (said is not None)
        assert said is None or said.lower() in capsys.readouterr().out.lower()
    finally:
        with admin_client(settings) as admin:
            admin.delete_topics([topic])
