"""Clicks in Avro through the real broker, read by the schemas of a registry that is away for a while."""

from datetime import UTC, datetime
from pathlib import Path

from kafka import KafkaProducer

from streams.kafka.options import kafka_client_options
from streams.settings import Settings
from tests.e2e.client import Client, film, item_ids, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_mapping import topics
from tests.registry_server import avro, head, registry_server

MAPPING = """
registry = "{registry}"

[[source]]
topic = "{prefix}web.clicks"
feeds = "clicks"
format = "avro"
[source.fields]
user_id = "$key"
item_id = "sku"
action = {{ path = "kind", values = {{ SEEN = "view", BOUGHT = "purchase" }} }}
timestamp_ms = "at"
"""
SCHEMA = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "sku", "type": "string"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["SEEN", "BOUGHT"]}},
    ],
}


def test_avro_clicks_wait_for_the_registry_are_folded_and_an_unknown_schema_is_a_dead_letter(
    kafka_settings: Settings, client: Client, start_worker: StartWorker, tmp_path: Path
) -> None:
    mapping, at = tmp_path / "mapping.toml", datetime(2025, 11, 24, 16, tzinfo=UTC)
    with (
        registry_server() as registry,
        topics(kafka_settings, kafka_settings.partitions, "web.clicks") as (name,),
    ):
        mapping.write_text(MAPPING.format(prefix=kafka_settings.topic_prefix, registry=registry.url))
        registry.register(7, SCHEMA)
        registry.status = 503
        worker = start_worker(mapping=str(mapping))
        producer = KafkaProducer(**kafka_client_options(kafka_settings), acks="all")
        for number in range(9):
            click = {"at": at, "sku": f"i{number % 3 + 1}", "kind": "BOUGHT"}
            producer.send(name, avro(7, SCHEMA, click), f"u{number % 3}".encode())
        producer.send(name, head(8) + b"\2u", b"u0")
        producer.flush()
        client.content(*(film(f"i{number}", f"Item {number}") for number in range(1, 5)))
        client.flush()
        wait_until(lambda: "answers 503" in worker.log_tail(), "the worker says that the registry is away")
        assert worker.metrics() is not None
        registry.status = None
        wait_until(
            lambda: (
                (now := worker.metrics()) is not None
                and now.total("events_total", topic="clicks", outcome="accepted") == 9
                and now.total("state_rows", kind="items") == 4
            ),
            "every click and item is there",
        )
        (letter,) = wait_until(client.dead_letters, "the unknown schema is a dead letter")
        assert (letter.topic, letter.reason) == (name, "mapping")
        assert f"names the schema 8, which {registry.url} does not know" in letter.error
        assert sorted(item_ids(client.ask("u0", k=5))) == ["i2", "i3", "i4"]
        registry.status = 503
        producer.send(name, head(9) + b"\2u", b"u0")
        producer.close()
        wait_until(lambda: "/schemas/ids/9" in worker.log_tail(), "the registry is away once more")
        assert worker.stop() == 0, worker.log_tail()
