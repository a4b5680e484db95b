"""Running a command's work against the cluster of the settings."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from streams.errors import SlatestreamError
from streams.kafka.topic_admin import check_topics
from streams.settings import Settings

T = TypeVar("T")


def run_connected(settings: Settings, command: str, work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work once the topics are as they should be; return what it returns.

    Raises
    ------
    SlatestreamError
        Naming the command and the brokers when these refuse; TopicError when the topics are not as wanted.
    """
    try:
        check_topics(settings)
        return asyncio.run(work)
    except KafkaError as error:
        raise SlatestreamError(f"{command}: {settings.bootstrap_servers}: {error}") from None
    finally:
        work.close()
