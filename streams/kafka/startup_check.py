"""Checks at the start of a worker that brokers answer, the topics are there, and may be used."""

import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.errors import TopicError
from streams.kafka.broker_check import wait_for_brokers
from streams.kafka.layout import ask_layout
from streams.kafka.options import aiokafka_client_options
from streams.kafka.rights import missing_rights, used_topics
from streams.kafka.topics import layout_differences, refuse_unusable
from streams.settings import Settings

log = logging.getLogger(__name__)


async def check_cluster(settings: Settings) -> None:
    """Check that every topic exists, with the wanted partitions, and ask for the group's coordinator.

    On a new cluster that question makes the topic of committed offsets, for which the group would wait.

    Raises
    ------
    TopicError
        If the brokers cannot be reached, the topics are not as a worker needs them, or it has not the rights.
    """
    await wait_for_brokers(settings)
    admin = AIOKafkaAdminClient(client_id="slatestream-worker", **aiokafka_client_options(settings))
    try:
        await admin.start()
        try:
            await admin.find_coordinator(settings.group_id)
        except KafkaError as error:  # not yet: the group asks until there is one
            log.debug("no coordinator of group %s yet: %s", settings.group_id, error)
        found = {row["topic"]: len(row["partitions"]) for row in await admin.describe_topics()}
        layout = await ask_layout(admin._client, used_topics(settings), operations=True) or {}
    except KafkaError as error:
        raise TopicError(f"Kafka at {settings.bootstrap_servers} does not answer: {error}") from error
    finally:
        await admin.close()
    refuse_unusable(layout_differences(settings, found))
    if lacking := list(missing_rights(settings, layout)):
        raise TopicError("\n  ".join(["the topics are not as a worker needs them:", *lacking]))
