"""Topics of another shape through the real broker: mapped, folded, and slates come back."""

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from streams.kafka.options import kafka_client_options
from streams.kafka.topic_admin import admin_client
from streams.settings import Settings
from streams.worker.process import WorkerError
from tests.e2e.client import Client, item_ids, wait_until
from tests.e2e.conftest import StartWorker

NEMIG = Path(os.environ.get("NEMIG_EN", "../shared/data/nemig-en"))
IMPRESSIONS, USERS = 300, 20
NEWS = """
[[source]]
topic = "{prefix}site.impressions"
feeds = "clicks"
repartition = true
each = "shown"
where = [{{ path = "@.opened", is = true }}]
[source.fields]
user_id = {{ path = "reader.number", as = "text" }}
item_id = "@.article"
action = {{ constant = "click" }}
timestamp_ms = {{ path = "at", unit = "iso" }}
position = "$index"

[[source]]
topic = "{prefix}site.articles"
feeds = "content"
repartition = true
[source.fields]
item_id = "article"
title = "headline"
text = "teaser"
attributes.topic = {{ path = "topic", as = "texts" }}
"""


@contextmanager
def topics(settings: Settings, partitions: int, *names: str) -> Iterator[list[str]]:
    """Topics of others, for as long as it is open."""
    full = [settings.topic_prefix + name for name in names]
    with admin_client(settings) as admin:
        admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1} for name in full})
        admin.wait_for_topics(full)
    try:
        yield full
    finally:
        with admin_client(settings) as admin:
            admin.delete_topics(full)


def send(settings: Settings, topic: str, values: Any) -> None:
    """Write records without a key, in turn to each partition."""
    producer = KafkaProducer(**kafka_client_options(settings), acks="all", linger_ms=20)
    for value in values:
        producer.send(topic, json.dumps(value).encode())
    producer.close()


def _lines(name: str) -> list[list[str]]:
    with gzip.open(NEMIG / name, "rt", encoding="utf-8") as file:
        return list(csv.reader(io.StringIO(file.read()), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.skipif(not NEMIG.is_dir(), reason="the data set nemig-en is not here (its folder: NEMIG_EN)")
def test_impressions_of_a_news_site_are_served_from(
    kafka_settings: Settings, client: Client, start_worker: StartWorker, tmp_path: Path
) -> None:
    impressions = []
    for number, (_, user, _, shown) in enumerate(_lines("behaviors.tsv.gz")[:IMPRESSIONS]):
        articles = [one.rpartition("-") for one in shown.split(" ")]
        impressions.append({
            "reader": {"number": int(user[1:]) % USERS},
            "at": f"2025-11-24T16:{number // 60 % 60:02d}:{number % 60:02d}Z",
            "shown": [{"article": name, "opened": clicked == "1"} for name, _, clicked in articles],
        })  # fmt: skip
    known = {one["article"] for event in impressions for one in event["shown"]}
    articles = [
        {"article": row[0], "headline": row[4], "teaser": row[5] or None, "topic": row[2]}
        for row in _lines("news.tsv.gz")[1:]
        if row[0] in known
    ]
    clicks = [one for event in impressions for one in event["shown"] if one["opened"]]
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(NEWS.format(prefix=kafka_settings.topic_prefix))
    with topics(kafka_settings, 3, "site.impressions", "site.articles") as (events, items):
        send(kafka_settings, items, articles)
        send(kafka_settings, events, impressions)
        send(kafka_settings, events, [{"reader": {}, "shown": [{"article": "x", "opened": True}]}])
        worker = start_worker(mapping=str(mapping))
        counted = worker.metrics()
        assert counted is not None
        assert counted.total("events_total", topic="clicks", outcome="accepted") == len(clicks)
        assert counted.total("state_rows", kind="items") == len(articles)
        assert counted.total("wrong_partition_total") == 0
        (letter,) = wait_until(client.dead_letters, "the impression without a reader is a dead letter")
        assert letter.topic == events
        assert "user_id: nothing at `reader.number`: reader has nothing" in letter.error
        user = str(impressions[0]["reader"]["number"])
        opened = {
            one["article"]
            for event in impressions
            if str(event["reader"]["number"]) == user
            for one in event["shown"]
            if one["opened"]
        }
        slate = item_ids(client.ask(user, k=10))
        assert len(slate) == 10
        assert set(slate) <= {article["article"] for article in articles} - opened
        assert worker.stop() == 0  # before its topics go


SHOP = """
[[source]]
topic = "{prefix}shop.events"
feeds = "clicks"
envelope = "cloudevents"
repartition = true
[source.fields]
event_id = "$event.id"
user_id = "customer.id"
item_id = "sku"
action = {{ path = "$event.type", values = {{ "shop.seen" = "view", "shop.bought" = "purchase" }} }}
timestamp_ms = {{ path = "$event.time", unit = "iso" }}

[[source]]
topic = "{prefix}shop.items"
feeds = "content"
envelope = "debezium"
key = "$key.sku"
[source.fields]
item_id = "sku"
title = "name"
attributes.genre = {{ path = "tags", split = "," }}
"""


def test_cloudevents_of_another_partitioner_and_a_database_s_changes_are_served_from(
    kafka_settings: Settings, client: Client, start_worker: StartWorker, tmp_path: Path
) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(SHOP.format(prefix=kafka_settings.topic_prefix))
    count = kafka_settings.partitions
    with topics(kafka_settings, count, "shop.events", "shop.items") as (events, items):
        producer = KafkaProducer(**kafka_client_options(kafka_settings), acks="all")

        def change(sku: str, op: str) -> None:
            row = {"sku": sku, "name": f"Item {sku}", "tags": "a, b"}
            body = {"op": op, "before": row if op == "d" else None, "after": None if op == "d" else row}
            key = json.dumps({"schema": {}, "payload": {"sku": sku}}).encode()
            producer.send(items, json.dumps({"schema": {}, "payload": body}).encode(), key)
            if op == "d":
                producer.send(items, None, key)

        def event(number: int, user: str, sku: str, kind: str) -> None:
            attributes = {"id": f"e{number}", "source": "/shop", "specversion": "1.0", "type": kind,
                          "time": "2025-11-24T16:00:00Z"}  # fmt: skip
            headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
            value = json.dumps({"customer": {"id": user}, "sku": sku}).encode()
            # By turns: a partitioner that has never heard of the user.
            producer.send(events, value, user.encode(), partition=number % count, headers=headers)

        for sku in ("i1", "i2", "i3", "i4", "i5"):
            change(sku, "c")
        change("i5", "d")
        for number in range(12):
            event(number, f"u{number % 3}", f"i{number % 3 + 1}", "shop.bought")
        event(12, "u0", "i2", "shop.lost")
        producer.flush()
        worker = start_worker(mapping=str(mapping))
        reading = wait_until(
            lambda: (
                (now := worker.metrics()) is not None
                and now.total("events_total", topic="clicks", outcome="accepted") == 12
                and now.total("state_rows", kind="items") == 4
                and now
            ),
            "every event and item is there",
        )
        assert reading.total("wrong_partition_total") == 0
        assert sorted(item_ids(client.ask("u0", k=5))) == ["i2", "i3", "i4"]
        (letter,) = wait_until(client.dead_letters, "the unknown action is a dead letter")
        assert (letter.topic, letter.partition, letter.reason) == (events, 12 % count, "unknown_action")
        producer.close()
        assert worker.stop() == 0  # before its topics go


def test_a_topic_that_cannot_be_read_as_it_is_says_what_to_do(
    kafka_settings: Settings, start_worker: StartWorker, tmp_path: Path
) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(SHOP.format(prefix=kafka_settings.topic_prefix))
    with (
        topics(kafka_settings, 3, "shop.items"),
        pytest.raises(WorkerError) as refused,
    ):
        start_worker(mapping=str(mapping))
    said = " ".join(str(refused.value).split())
    assert "shop.events: missing: the mapping reads it" in said
    assert "shop.items: partitions is 3, wanted 4: set `partitions`" in said
