"""Patches of aiokafka's consumer, which has no hooks for them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka.errors import UnknownTopicOrPartitionError

log = logging.getLogger(__name__)


def commit_without_deleted(consumer: Any) -> None:
    """Let a consumer's commits end that have offsets of deleted topics: aiokafka repeats them for ever.

    The group keeps the offsets of all other topics, and there is nothing to be kept of those.

    Parameters
    ----------
    consumer : a started `aiokafka.AIOKafkaConsumer` of a group
    """
    coordinator = consumer._coordinator
    commit = coordinator._do_commit_offsets

    async def committing(assignment: Any, offsets: Any) -> None:
        try:
            await commit(assignment, offsets)
        except UnknownTopicOrPartitionError:
            log.warning("a topic is gone that offsets were to be committed of")

    coordinator._do_commit_offsets = committing


def tell_when_coordination_ends(consumer: Any, tell: Callable[[BaseException], object]) -> None:
    """Tell of the error that ends the task which keeps a consumer in its group.

    aiokafka tells only who polls, which nobody does without partitions.

    Parameters
    ----------
    consumer : a started `aiokafka.AIOKafkaConsumer` of a group
    """

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            tell(error)

    consumer._coordinator._coordination_task.add_done_callback(ended)
