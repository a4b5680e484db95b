"""Checks at the start of a worker that brokers answer, the topics are there, and may be used."""

import logging
from collections.abc import AsyncIterator

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TransactionalIdAuthorizationFailed,
)

from streams.errors import TopicError
from streams.kafka.broker_check import wait_for_brokers
from streams.kafka.layout import ask_layout
from streams.kafka.options import aiokafka_client_options
from streams.kafka.rights import NO_RIGHT, missing_rights, no_right_to_write, used_topics, writer_id
from streams.kafka.topics import layout_differences, refuse_unusable
from streams.settings import Settings

log = logging.getLogger(__name__)


async def check_cluster(settings: Settings) -> None:
    """Check that every topic exists, with the wanted partitions, and ask who coordinates.

    On a new cluster that question makes the topics of committed offsets and of transactions, for which the
    group and the first writer would wait.

    Raises
    ------
    TopicError
        If the brokers cannot be reached, the topics are not as a worker needs them, or it has not the rights.
    """
    await wait_for_brokers(settings)
    admin = AIOKafkaAdminClient(client_id="slatestream-worker", **aiokafka_client_options(settings))
    try:
        await admin.start()
        lacking = [one async for one in _unknown_to_coordinators(admin, settings)]
        found = {row["topic"]: len(row["partitions"]) for row in await admin.describe_topics()}
        layout = await ask_layout(admin._client, used_topics(settings), operations=True) or {}
    except KafkaError as error:
        raise TopicError(f"Kafka at {settings.bootstrap_servers} does not answer: {error}") from error
    finally:
        await admin.close()
    refuse_unusable(layout_differences(settings, found))
    if lacking := [*missing_rights(settings, layout), *lacking]:
        raise TopicError("\n  ".join(["the topics are not as a worker needs them:", *lacking]))


async def _unknown_to_coordinators(admin: AIOKafkaAdminClient, settings: Settings) -> AsyncIterator[str]:
    """Ask who coordinates the group and the writers; say where the worker's user may not even do that."""
    asked = {
        (CoordinationType.GROUP, settings.group_id): f"group {settings.group_id}: {NO_RIGHT} Read",
        (CoordinationType.TRANSACTION, writer_id(settings, 0)): no_right_to_write(writer_id(settings, 0)),
    }
    for (kind, key), lacks in asked.items():
        try:
            await admin.find_coordinator(key, kind)
        except (GroupAuthorizationFailedError, TransactionalIdAuthorizationFailed):
            yield lacks
        except KafkaError as error:  # not yet: whoever needs it asks until there is one
            log.debug("no coordinator of %s yet: %s", key, error)
