"""Patches of what aiokafka's clients have in common, so that none waits for ever for a task of its own.

A client asks for metadata, and a consumer fetches, in a task in the background. An error that aiokafka does
not expect ends such a task, and whoever waits for what it brings waits for ever.

- uvloop refuses to write to a connection that has been reset by an error of its own, until aiokafka knows.
- Of requests that time out together, the second finds a connection that is forgotten already.
- A cluster that has just woken may name no broker to be asked.
- Whatever else it is: metadata is asked for again, and who reads hears that nothing is fetched any more.

While a topic is missing that a client reads, it asks for metadata as fast as brokers answer; here it waits
between two tries.
"""

import asyncio
import logging
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError

log = logging.getLogger(__name__)

_write, _send, _look_up = AIOKafkaConnection.send, AIOKafkaClient.send, AIOKafkaClient.coordinator_lookup
_update = AIOKafkaClient._metadata_update
_synchronize, _fetched_records = AIOKafkaClient._md_synchronizer, Fetcher.fetched_records


def _write_or_close(connection: Any, *request: Any, **how: Any) -> Any:
    try:
        return _write(connection, *request, **how)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"{connection!r} has been reset: {error}") from error


async def _send_to_node(client: Any, *request: Any, **how: Any) -> Any:
    try:
        return await _send(client, *request, **how)
    except KeyError as error:
        if not isinstance(error.__context__, TimeoutError):
            raise
        raise RequestTimedOutError() from error


async def _look_up_where_known(client: Any, *what: Any) -> Any:
    if client.get_random_node() is None:
        raise NodeNotReadyError("no broker is known")
    return await _look_up(client, *what)


async def _synchronize_always(client: Any) -> None:
    while True:
        try:
            await _synchronize(client)
        except Exception:
            log.exception("metadata could not be asked for; it is asked for again")
            waited_for, client._md_update_fut = client._md_update_fut, None
            if waited_for is not None and not waited_for.done():
                waited_for.set_result(False)
            await asyncio.sleep(client._retry_backoff)


async def _update_now_and_then(client: Any, cluster: Any, topics: Any) -> Any:
    if not getattr(client, "_lacking", set()).isdisjoint(topics or ()):
        await asyncio.sleep(client._retry_backoff)
    updated = await _update(client, cluster, topics)
    client._lacking = {topic for topic in topics or () if cluster.partitions_for_topic(topic) is None}
    return updated


async def _fetched_records_or_error(fetcher: Any, *which: Any, **how: Any) -> Any:
    if fetcher._fetch_task.done() and not fetcher._closed:
        ended = None if fetcher._fetch_task.cancelled() else fetcher._fetch_task.exception()
        raise KafkaConnectionError("the consumer fetches nothing any more") from ended
    return await _fetched_records(fetcher, *which, **how)


AIOKafkaConnection.send = _write_or_close
AIOKafkaClient.send = _send_to_node
AIOKafkaClient.coordinator_lookup = _look_up_where_known
AIOKafkaClient._metadata_update = _update_now_and_then
AIOKafkaClient._md_synchronizer = _synchronize_always
Fetcher.fetched_records = _fetched_records_or_error
