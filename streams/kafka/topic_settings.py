"""Settings of topics, as a broker tells them to a worker."""

from collections.abc import Collection
from typing import Any

from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.admin import DescribeConfigsRequest

TopicSettings = dict[str, dict[str, str]]


async def ask_settings(client: Any, topics: Collection[str]) -> TopicSettings:
    """Ask any broker for the settings of some topics, by full name.

    Topics that do not exist are left out, and those of which the client may not know.

    Parameters
    ----------
    client : a connected `aiokafka.client.AIOKafkaClient`

    Raises
    ------
    aiokafka.errors.KafkaError
        If it does not answer.
    """
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    asked = [(ConfigResourceType.TOPIC, topic, None) for topic in topics]
    answer = await client.send(node, DescribeConfigsRequest(asked))
    return {
        topic: {name: value for name, value, *_ in entries if value is not None}
        for error, _, _, topic, entries in answer.resources
        if not error
    }
