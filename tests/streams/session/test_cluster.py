import time

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError
from kafka.structs import OffsetAndMetadata

from streams.kafka.topic_admin import admin_client, describe_topics
from streams.kafka.topics import TOPICS, topic_name
from streams.session.cluster import cluster
from tests.e2e.client import wait_until


def commit(admin: KafkaAdminClient, group_id: str, tp: TopicPartition) -> bool:
    """Give a group an offset; False while the broker's coordinator is not there yet."""
    try:
        admin.alter_group_offsets(group_id, {tp: OffsetAndMetadata(0, "", -1)})
        return group_id in groups(admin)
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError):
        return False


def groups(admin: KafkaAdminClient) -> set[str]:
    return {group["group_id"] for group in admin.list_groups()}


def test_a_cluster_of_others_gets_topics_of_our_own_and_is_left_clean(broker, monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    said = []
    with cluster(said.append, "test", partitions=2) as settings:
        assert settings.bootstrap_servers == broker.bootstrap_servers
        assert settings.topic_prefix.startswith("test-")
        assert describe_topics(settings) == []
        clicks = TopicPartition(topic_name(settings, "clicks"), 0)
        with admin_client(settings) as admin:
            wait_until(lambda: commit(admin, settings.group_id, clicks), "the group has an offset")
    ours = {topic_name(settings, name) for name in TOPICS}
    deadline = time.monotonic() + 120
    with admin_client(settings) as admin:
        while left := ours & set(admin.list_topics()):
            assert time.monotonic() < deadline, left
        assert settings.group_id not in groups(admin)
    assert broker.bootstrap_servers in said[0]
