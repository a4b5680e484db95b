"""What aiokafka's producer does of itself, and what it does mended."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.producer.sender import Sender

from streams.kafka.producer_mends import look_up_again


def cut_off_twice() -> Any:
    """A client whose connection breaks twice while it asks who coordinates."""
    answers: list[Any] = [KafkaConnectionError("closed"), KafkaConnectionError("closed"), 7]

    async def lookup(*_: object) -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    async def ready(*_: object, **__: object) -> bool:
        return True

    return SimpleNamespace(coordinator_lookup=lookup, ready=ready, force_metadata_update=ready)


async def coordinator(client: Any) -> Any:
    manager: Any = SimpleNamespace(transactional_id="t")
    sender = Sender(
        client, acks=-1, txn_manager=manager, message_accumulator=None, retry_backoff_ms=1,
        request_timeout_ms=1_000,
    )  # fmt: skip
    return await sender._find_coordinator(CoordinationType.TRANSACTION, "t")


async def test_a_connection_that_breaks_at_the_wrong_moment_ends_no_producer() -> None:
    with pytest.raises(KafkaError, match="closed"):
        await coordinator(cut_off_twice())
    producer: Any = SimpleNamespace(client=cut_off_twice())
    look_up_again(producer)
    assert await coordinator(producer.client) == 7
