"""What replays and training make of mapped topics."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.dead_letters.replay import input_of, refusal
from streams.events import decode_click
from streams.kafka.columns import RecordColumns
from streams.kafka.topics import layout_differences, topics_of_worker
from streams.mapping.intake import as_ours
from streams.settings import Settings, load_settings
from tests.streams.mapping.conftest import NOW, record

MAPPING = """
[[source]]
topic = "shop"
feeds = "clicks"
[source.fields]
user_id = "$key"
item_id = "i"
action = { path = "a", values = { seen = "view" } }

[[source]]
topic = "people"
feeds = "users"
repartition = true
[source.fields]
user_id = "u"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "m.toml").write_text(MAPPING)
    return load_settings(mapping=tmp_path / "m.toml")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"i": "i1", "a": "seen"}, None),
        ({"i": "i1", "a": "lost"}, "unknown_action: action: 'lost' is not among `values` (seen)"),
        ({"a": "seen"}, "mapping: item_id: nothing at `i`: the value has a"),
    ],
)
def test_a_letter_of_a_mapped_topic_is_held_against_its_mapping(
    settings: Settings, value: Any, why: str | None
) -> None:
    assert refusal(settings, "shop", json.dumps(value).encode(), NOW, key=b"u1") == why


def test_a_letter_names_the_input_that_its_topic_feeds(settings: Settings) -> None:
    names = {topic: input_of(settings, topic) for topic in ("shop", "people", "clicks", "content", "other")}
    assert names == {
        "shop": "clicks",
        "people": "users",
        "clicks": "clicks",
        "content": "content",
        "other": None,
    }


def test_training_reads_mapped_records_as_ours(settings: Settings) -> None:
    records = RecordColumns.of([record(b'{"i": "a", "a": "seen"}'), record(b"{}", offset=1)])
    (made,) = as_ours(settings, "clicks", records)
    assert made.value is not None
    assert (decode_click(made.value).user_id, decode_click(made.value).item_id) == ("u1", "a")
    assert as_ours(settings, "content", records) is records


def test_a_worker_reads_direct_sources_in_the_place_of_ours_and_needs_their_partitions(
    settings: Settings,
) -> None:
    topics = topics_of_worker(settings)
    assert (topics["clicks"], topics["users"], topics["content"]) == ("shop", "users", "content")
    found = dict.fromkeys(topics.values(), 4) | {"dead-letters": 1, "model-releases": 1, "experiments": 1}
    assert [(one.topic, one.actual) for one in layout_differences(settings, found)] == [("people", None)]
    found |= {"people": 3, "shop": 5}
    (other,) = layout_differences(settings, found)
    assert (other.topic, other.setting, other.actual, other.foreign) == ("shop", "partitions", "5", True)
