"""A cluster for a session: an embedded broker, or the configured one, with topics of its own."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from kafka.errors import KafkaError

from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import TOPICS, topic_name
from streams.settings import Settings, load_settings


@contextlib.contextmanager
def cluster(say: Callable[[str], None], kind: str, **overrides: Any) -> Iterator[Settings]:
    """Give settings of an embedded broker, or of the configured cluster, with fresh topics of our own.

    `kind` begins their names. On a cluster that is not ours they are deleted at the end, the group too.
    """
    unique = f"{kind}-{uuid.uuid4().hex[:8]}"
    mine: dict[str, Any] = {"topic_prefix": f"{unique}-", "group_id": unique, **overrides}
    if any(os.environ.get(name) for name in ("KAFKA_BOOTSTRAP_SERVERS", "SLATESTREAM_BOOTSTRAP_SERVERS")):
        settings = load_settings(**mine)
        say(f"Using the Kafka cluster at {settings.bootstrap_servers}; topics {settings.topic_prefix}*")
        create_topics(settings)
        try:
            yield settings
        finally:
            with admin_client(settings) as admin:
                admin.delete_topics([topic_name(settings, name) for name in TOPICS])
                with contextlib.suppress(KafkaError):  # one that is left behind expires by itself
                    admin.delete_groups([settings.group_id])
        return
    say("Starting a Kafka broker (the first time its jars are fetched with Maven) ...")
    with EmbeddedBroker() as broker:
        say(f"Kafka listens on {broker.bootstrap_servers}.")
        settings = load_settings(bootstrap_servers=broker.bootstrap_servers, **mine)
        create_topics(settings)
        yield settings
