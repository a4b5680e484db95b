import asyncio
import json
import re

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from typer.testing import CliRunner

from streams.broker.embedded import EmbeddedBroker
from streams.errors import TopicError
from streams.kafka.ends import EndOffsets
from streams.kafka.options import kafka_client_options
from streams.kafka.topic_admin import admin_client, create_topics, describe_topics, topics_app
from streams.kafka.topic_settings import TopicSettings
from streams.kafka.topics import (
    TOPICS,
    UNTOLD,
    TopicDifference,
    settings_differences,
    topic_name,
    topic_partitions,
)
from streams.settings import Settings, load_settings
from tests.conftest import SettingsFactory

USER_KEYED = ("clicks", "users", "requests", "recommendations", "feedback", "user-state")


def use_environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("SLATESTREAM_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("SLATESTREAM_PARTITIONS", str(settings.partitions))


def test_created_topics_are_as_wanted(make_settings: SettingsFactory) -> None:
    settings = make_settings(partitions=3)
    created = create_topics(settings)
    assert created == [settings.topic_prefix + name for name in TOPICS]
    assert describe_topics(settings) == []


def test_creating_again_changes_nothing(kafka_settings: Settings) -> None:
    assert create_topics(kafka_settings) == []
    assert describe_topics(kafka_settings) == []


def test_only_missing_topics_are_created(make_settings: SettingsFactory) -> None:
    settings = make_settings()
    clicks = topic_name(settings, "clicks")
    with admin_client(settings) as admin:
        options = {"num_partitions": 7, "replication_factor": 1}
        admin.create_topics({clicks: options}, wait_for_metadata=True)
    created = create_topics(settings)
    assert created == [topic_name(settings, name) for name in TOPICS if name != "clicks"]
    assert {difference.topic for difference in describe_topics(settings)} == {clicks}


def test_each_difference_is_named_with_both_values(make_settings: SettingsFactory) -> None:
    settings = make_settings(partitions=2)
    existing = topic_name(settings, "user-state")
    ours = {"cleanup.policy": "delete", "delete.retention.ms": "5"}
    theirs = {"min.cleanable.dirty.ratio": "0.5", "max.message.bytes": "9000000"}
    configs = TOPICS["user-state"].config(settings) | ours | theirs
    with admin_client(settings) as admin:
        admin.create_topics(
            {existing: {"num_partitions": 5, "replication_factor": 1, "configs": configs}},
            wait_for_metadata=True,
        )
    missing = {topic_name(settings, name) for name in TOPICS} - {existing}
    harmless = {
        TopicDifference(existing, "min.cleanable.dirty.ratio", "0.2", "0.5"),
        TopicDifference(existing, "max.message.bytes", "2097152", "9000000"),
    }
    found = set(describe_topics(settings))
    assert {one for one in found if one.harmless} == harmless
    assert found - harmless == {
        TopicDifference(existing, "partitions", "2", "5"),
        TopicDifference(existing, "cleanup.policy", "compact", "delete"),
        TopicDifference(existing, "delete.retention.ms", "86400000", "5"),
        *(TopicDifference(topic, "topic", "exists", None) for topic in missing),
    }
    told = asyncio.run(told_to_a_worker(settings, [existing, *missing]))
    assert told.keys() == {existing}
    assert set(settings_differences(settings, told)) == {one for one in found if one.setting in configs}


async def told_to_a_worker(settings: Settings, topics: list[str]) -> TopicSettings:
    ends = EndOffsets(settings)
    await ends.start()
    try:
        return await ends.settings(topics)
    finally:
        await ends.stop()


def test_what_is_smaller_than_wanted_or_missing_does_harm_and_what_no_broker_tells_does_not() -> None:
    for setting, actual, harmless in (
        ("max.message.bytes", "1000", False), ("replication factor", "1", False), ("topic", None, False),
        ("retention.ms", "99999999999", False), ("min.insync.replicas", UNTOLD, True),
        ("segment.ms", "1", True),
    ):  # fmt: skip
        assert TopicDifference("t", setting, "2000", actual).harmless is harmless


def test_a_worker_tells_of_what_loses_records_alone() -> None:
    for setting, actual, loses in (
        ("cleanup.policy", "delete", True), ("retention.ms", "1999", True), ("retention.ms", "2001", False),
        ("retention.ms", "-1", False), ("retention.ms", UNTOLD, False), ("max.message.bytes", "1000", True),
        ("max.message.bytes", "3000", False), ("message.timestamp.type", "CreateTime", True),
        ("min.insync.replicas", "1", True), ("segment.ms", "1", False), ("delete.retention.ms", "1", False),
    ):  # fmt: skip
        assert TopicDifference("t", setting, "2000", actual).loses is loses


def test_more_replicas_than_brokers_is_refused_with_the_broker_s_reason(
    make_settings: SettingsFactory,
) -> None:
    with pytest.raises(TopicError, match=r"cannot be created: .*replication factor.*3.*replication_factor=3"):
        create_topics(make_settings(replication_factor=3))


def test_old_events_are_stamped_on_arrival_so_that_retention_keeps_them(kafka_settings: Settings) -> None:
    options = kafka_client_options(kafka_settings)
    clicks = topic_name(kafka_settings, "clicks")
    long_ago_ms = 886_000_000_000
    producer = KafkaProducer(**options)
    producer.send(clicks, b"{}", partition=0, timestamp_ms=long_ago_ms).get(timeout=120)
    producer.close()
    consumer = KafkaConsumer(auto_offset_reset="earliest", **options)
    consumer.assign([TopicPartition(clicks, 0)])
    (records,) = consumer.poll(timeout_ms=10_000).values()
    consumer.close()
    assert records[0].timestamp > long_ago_ms + 20 * 365 * 86_400_000


def test_unreachable_brokers_are_named_with_the_reason() -> None:
    settings = load_settings(bootstrap_servers="127.0.0.1:1, [::1]:1")
    with pytest.raises(TopicError, match=r"127\.0\.0\.1:1: Connection refused; \[::1\]:1: "):
        create_topics(settings)


def test_one_reachable_broker_is_enough(make_settings: SettingsFactory, broker: EmbeddedBroker) -> None:
    settings = make_settings(bootstrap_servers=f"127.0.0.1:1,{broker.bootstrap_servers}")
    assert {difference.actual for difference in describe_topics(settings)} == {None}


@pytest.mark.parametrize("servers", ["kafka", "kafka:", ":9092", "kafka:9092,other", "kafka:x"])
def test_brokers_without_host_and_port_are_refused(servers: str) -> None:
    with pytest.raises(TopicError, match=re.escape(f"must be host:port,host:port..., got {servers!r}")):
        create_topics(load_settings(bootstrap_servers=servers))


def test_topics_keyed_by_user_are_co_partitioned() -> None:
    settings = load_settings(partitions=11)
    assert {topic_partitions(settings, name) for name in USER_KEYED} == {11}


def test_a_majority_must_hold_a_record_once_there_are_three_replicas() -> None:
    spec = TOPICS["clicks"]
    wanted = [spec.config(load_settings(replication_factor=n))["min.insync.replicas"] for n in (1, 2, 3, 5)]
    assert wanted == ["1", "1", "2", "2"]


def test_the_prefix_goes_before_the_name() -> None:
    assert topic_name(load_settings(topic_prefix="shop."), "clicks") == "shop.clicks"


def test_an_unknown_topic_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("name must be one of clicks, content,")):
        topic_name(load_settings(), "click")


def test_the_create_command_makes_and_the_describe_command_agrees(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    use_environment(monkeypatch, settings)
    before = CliRunner().invoke(topics_app, ["describe"])
    assert before.exit_code == 1
    assert before.output.count("missing: run `slatestream topics create`") == len(TOPICS)
    made = CliRunner().invoke(topics_app, ["create"])
    assert made.exit_code == 0, made.output
    assert made.output.count("created") == len(TOPICS)
    after = CliRunner().invoke(topics_app, ["describe"])
    assert after.exit_code == 0, after.output
    assert after.output.count("as wanted") == len(TOPICS)


def test_the_describe_command_says_what_differs(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, kafka_settings.model_copy(update={"partitions": 6}))
    shown = CliRunner().invoke(topics_app, ["describe"])
    assert shown.exit_code == 1
    by_setting = [spec for spec in TOPICS.values() if spec.partitions is None]
    assert shown.output.count("partitions is 4, wanted 6") == len(by_setting)
    plain = CliRunner().invoke(topics_app, ["describe", "--json"])
    assert plain.exit_code == 1
    rows = {row["topic"]: row for row in json.loads(plain.stdout)["topics"]}
    assert len(rows) == len(TOPICS)
    clicks = topic_name(kafka_settings, "clicks")
    assert rows[clicks]["differences"] == [
        {
            "topic": clicks,
            "setting": "partitions",
            "wanted": "6",
            "actual": "4",
            "foreign": False,
            "harmless": False,
        }
    ]
