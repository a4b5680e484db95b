import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownError

from streams.errors import BrokerError, BrokersUnreachable, OwnershipLost
from streams.kafka import state_writers
from streams.kafka.log import KafkaLog
from streams.kafka.reader import read_partition
from streams.kafka.state_writers import StateWriters
from streams.kafka.topics import topic_name
from streams.settings import Settings

TOPICS = {"recommendations": "recommendations"}


class Waking:
    """A log whose cluster names no broker at the first two starts of a writer, as aiokafka says it."""

    def __init__(self) -> None:
        self.starts = 0

    def publisher(self, **_: Any) -> "Waking":
        return self

    async def start(self) -> None:
        self.starts += 1
        assert self.starts > 2, "Did we not perform bootstrap?"

    async def fence(self, topic: str, partition: int) -> None:
        """Do nothing."""


async def test_a_cluster_that_names_no_broker_yet_is_asked_again() -> None:
    log = Waking()
    writers = StateWriters(Settings(), log, TOPICS, failed=lambda topic: None)  # type: ignore[arg-type]

    await writers.open(0)

    assert log.starts == 3


class Silent:
    """A log whose cluster lets nobody write for so many tries."""

    def __init__(self, tries: int) -> None:
        self.tries = tries

    def publisher(self, **_: Any) -> "Silent":
        return self

    async def start(self) -> None:
        self.tries -= 1
        if self.tries >= 0:
            await asyncio.Event().wait()

    async def fence(self, topic: str, partition: int) -> None:
        """Do nothing."""


async def test_brokers_that_do_not_answer_are_waited_for_and_those_that_do_are_not() -> None:
    checks = 0

    async def nobody(settings: Settings) -> None:
        nonlocal checks
        checks += 1
        raise BrokersUnreachable("silent")

    async def somebody(settings: Settings) -> None:
        """Answer."""

    async def opened(tries: int, check: Any) -> None:
        writers = StateWriters(Settings(), Silent(tries), TOPICS, check_brokers=check, timeout_s=0.01)  # type: ignore[arg-type]
        await writers.open(0)

    await opened(5, nobody)
    assert checks == 5
    await opened(1, somebody)
    with pytest.raises(BrokerError, match="partition 0 within"):
        await opened(2, somebody)


class Stuck(Silent):
    """A log whose writers wait for a broker when they fence and when they stop."""

    async def fence(self, topic: str, partition: int) -> None:
        if self.tries >= 0:
            await asyncio.Event().wait()

    async def start(self) -> None:
        self.tries -= 1

    async def stop(self) -> None:
        await asyncio.Event().wait()


async def test_a_writer_that_cannot_stop_does_not_keep_the_next_from_being_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nobody(settings: Settings) -> None:
        raise BrokersUnreachable("nobody answers")

    monkeypatch.setattr(state_writers, "END_TIMEOUT_S", 0.01)
    log = Stuck(2)
    writers = StateWriters(Settings(), log, TOPICS, check_brokers=nobody, timeout_s=0.01)  # type: ignore[arg-type]
    async with asyncio.timeout(60):
        await writers.open(0)
    assert log.tries == -1


@pytest.mark.parametrize("fails", [False, True])
async def test_a_flush_whose_writer_is_closed_meanwhile_ends_and_has_written_nothing(
    kafka_settings: Settings, fails: bool
) -> None:
    topics = {name: topic_name(kafka_settings, name) for name in ("recommendations", "user-state")}
    writers = StateWriters(kafka_settings, KafkaLog(kafka_settings), topics)
    await writers.open(0)

    async def rows() -> AsyncIterator[tuple[str, list[tuple[bytes, bytes]]]]:
        yield "user-state", [(b"k", b"never")]
        await writers.close(0)
        if fails:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError if fails else OwnershipLost):
        async with asyncio.timeout(60):
            await writers.write(0, rows())
    await writers.open(0)  # it takes back what was begun
    await writers.close_all()
    assert [one async for one in read_partition(kafka_settings, topics["user-state"], 0)] == []


class Broken(Waking):
    """A log whose broker fails at the end of a transaction."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.starts = 2
        self.error = error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield
        raise KafkaError("Unexpected error during batch delivery") from self.error

    async def publish(self, topic: str, partition: int, rows: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("error", "expected"), [(UnknownError(), OwnershipLost), (TopicAuthorizationFailedError(), KafkaError)]
)
async def test_a_partition_is_restored_anew_where_nobody_knows_what_is_written(
    error: Exception, expected: type[Exception]
) -> None:
    """And not where a broker has refused it: the worker must not go on then."""
    writers = StateWriters(Settings(), Broken(error), TOPICS)  # type: ignore[arg-type]
    await writers.open(0)

    async def rows() -> AsyncIterator[tuple[str, list[tuple[bytes, bytes]]]]:
        yield "recommendations", [(b"k", b"v")]

    with pytest.raises(expected):
        await writers.write(0, rows())
