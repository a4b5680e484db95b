"""A publisher goes on after whatever a broker does, and no row is there twice."""

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, ProducerFenced, UnknownError
from kafka.admin import NewTopic

from streams.broker.embedded import EmbeddedBroker
from streams.errors import Fenced, OwnershipLost
from streams.kafka.producer_patches import NUMBERS
from streams.kafka.publisher import Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import topic_name
from streams.settings import Settings, load_settings
from tests.frozen import frozen
from tests.unheard import nothing_unheard

TIMEOUT_S = 1.0  # of one try


async def values(settings: Settings, topic: str) -> list[bytes | None]:
    found = read_partition(settings, topic, 0)
    return [record.value async for records in found for record in records]


async def test_rows_after_a_refused_one_are_taken(kafka_settings: Settings) -> None:
    topic = f"{kafka_settings.topic_prefix}small"
    with admin_client(kafka_settings) as admin:
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "10000"})])
    failed: list[str] = []
    publisher = Publisher(kafka_settings, failed=failed.append)
    await publisher.start()
    await publisher.publish(topic, 0, [(b"k", b"before")])
    failed.clear()  # a new topic may take its time
    for _ in range(2):
        with pytest.raises(MessageSizeTooLargeError, match=topic):
            await publisher.publish(topic, 0, [(b"k", bytes(20_000))])
        await publisher.publish(topic, 0, [(b"k", b"after")])
    await publisher.stop()
    assert await values(kafka_settings, topic) == [b"before", b"after", b"after"]
    assert failed == [topic, topic]


async def test_sequence_numbers_begin_anew_after_the_last_one(kafka_settings: Settings) -> None:
    topic = topic_name(kafka_settings, "clicks")
    publisher = Publisher(kafka_settings)
    await publisher.start()
    publisher.producer._txn_manager._sequence_numbers[TopicPartition(topic, 0)] = NUMBERS - 3
    for number in range(3):
        await publisher.publish(topic, 0, [(b"k", b"%d" % number), (b"k", b"and")])
    await publisher.stop()
    assert await values(kafka_settings, topic) == [b"0", b"and", b"1", b"and", b"2", b"and"]


@pytest.fixture(scope="module")
def freezable() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def frozen_settings(freezable: EmbeddedBroker, request: pytest.FixtureRequest) -> Settings:
    """Settings of a broker that may be frozen."""
    settings = load_settings(
        bootstrap_servers=freezable.bootstrap_servers, topic_prefix=f"{request.node.name}.", partitions=1
    )
    create_topics(settings)
    return settings


async def test_rows_outlast_a_silent_broker_and_are_there_once(
    freezable: EmbeddedBroker, frozen_settings: Settings
) -> None:
    topic, failed = topic_name(frozen_settings, "clicks"), list[str]()
    publisher = Publisher(frozen_settings, failed=failed.append, timeout_s=TIMEOUT_S)
    await publisher.start()
    await publisher.publish(topic, 0, [(b"k", b"before")])
    failed.clear()  # a new topic may take its time
    with frozen(freezable.pid):
        # The first is on its way, the second waits for its place, the third for the second's.
        publishing = [
            asyncio.create_task(publisher.publish(topic, 0, [(b"k", b"%d" % number)])) for number in range(3)
        ]
        async with asyncio.timeout(120):
            while len(failed) < 3:  # tried again, and refused a place for longer than one try
                await asyncio.sleep(0.05)
    await asyncio.gather(*publishing)
    await publisher.publish(topic, 0, [(b"k", b"after")])
    await publisher.stop()
    assert await values(frozen_settings, topic) == [b"before", b"0", b"1", b"2", b"after"]


async def test_a_topic_that_brokers_do_not_know_yet_is_waited_for(kafka_settings: Settings) -> None:
    topic, failed = f"{kafka_settings.topic_prefix}late", list[str]()
    publisher = Publisher(kafka_settings, failed=failed.append, timeout_s=0.2)
    await publisher.start()
    publishing = asyncio.create_task(publisher.publish(topic, 0, [(b"k", b"v")]))
    async with asyncio.timeout(120):
        while len(failed) < 2 and not publishing.done():
            await asyncio.sleep(0.02)
    with admin_client(kafka_settings) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)])
    await publishing
    await publisher.stop()
    assert await values(kafka_settings, topic) == [b"v"]


async def test_what_may_not_be_sent_waits_if_it_was_sent_before_and_fails_if_it_was_not(
    freezable: EmbeddedBroker, frozen_settings: Settings
) -> None:
    topic, failed = topic_name(frozen_settings, "clicks"), list[str]()
    allowed = True
    writer = Publisher(frozen_settings, transactional_id="somebody")
    await writer.start()
    publisher = Publisher(
        frozen_settings,
        identity=lambda _: writer.identity if allowed else None,
        failed=failed.append,
        timeout_s=TIMEOUT_S,
    )
    await publisher.start()
    await publisher.publish(topic, 0, [(b"k", b"before")])
    failed.clear()  # a new topic may take its time
    with frozen(freezable.pid):
        sent = asyncio.create_task(publisher.publish(topic, 0, [(b"k", b"sent")]))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(publisher.publish(topic, 0, [(b"k", b"never")]))
        async with asyncio.timeout(120):
            while not failed:
                await asyncio.sleep(0.05)
        allowed = False
        with pytest.raises(OwnershipLost, match="has not answered"):
            await waiting
        assert not sent.done()
    with pytest.raises(OwnershipLost, match="has not answered"):
        await publisher.publish(topic, 0, [(b"k", b"nor this")])
    assert not sent.done()
    allowed = True
    await sent
    await publisher.publish(topic, 0, [(b"k", b"after")])
    await publisher.stop()
    await writer.stop()
    assert await values(frozen_settings, topic) == [b"before", b"sent", b"after"]


async def test_what_a_former_owner_still_sends_is_refused_from_the_fence_on(kafka_settings: Settings) -> None:
    topic, other, prefix = (f"{kafka_settings.topic_prefix}{n}" for n in ("slates", "other", ""))
    with admin_client(kafka_settings) as admin:
        admin.create_topics([NewTopic(topic, 2, 1), NewTopic(other, 1, 1)])
    failed: list[str] = []
    owners: list[tuple[Publisher, Publisher]] = []

    async def take_over(partition: int, *, fence: bool = True) -> tuple[Publisher, Publisher]:
        writer = Publisher(kafka_settings, transactional_id=f"{prefix}{partition}")
        await writer.start()
        if fence:
            await writer.fence(topic, partition)
        slates = Publisher(kafka_settings, identity=lambda _: writer.identity, failed=failed.append)
        await slates.start()
        owners.append((writer, slates))
        return writer, slates

    async def says(owner: tuple[Publisher, Publisher], value: bytes, partition: int = 0) -> int:
        return await owner[1].publish(topic, partition, [(b"k", value), (b"k", value)])

    first = await take_over(0)
    assert await says(first, b"1") == 3  # after the two marks
    async with first[0].transaction():  # the writer's own rows and the slates do not mind each other
        await first[0].publish(other, 0, [(b"k", b"state")])
        await says(first, b"2")
    unfenced = await take_over(0, fence=False)
    await says(first, b"late")  # what brokers do of themselves: only the writer's transactions are fenced
    elsewhere = await take_over(1)
    second = await take_over(0)
    failed.clear()
    for former in (first, unfenced, first):
        with pytest.raises(Fenced, match="another worker"):
            await says(former, b"never")
    assert failed == []  # it is no error of the broker's
    for number in b"345":
        await says(second, b"%c" % number)
    await says(elsewhere, b"6", partition=1)
    with pytest.raises(ProducerFenced):
        await first[0].fence(topic, 0)
    for writer, slates in owners:
        await slates.stop()
        await writer.stop()
    assert await values(kafka_settings, topic) == [
        value for value in (b"1", b"2", b"late", b"3", b"4", b"5") for _ in range(2)
    ]


async def test_a_transaction_that_is_fenced_leaves_nothing_unheard(kafka_settings: Settings) -> None:
    async def is_fenced() -> None:
        former, owner = (Publisher(kafka_settings, transactional_id="one") for _ in range(2))
        await former.start()
        await owner.start()
        with pytest.raises(ProducerFenced):
            async with former.transaction():
                await former.publish(topic_name(kafka_settings, "user-state"), 0, [(b"k", b"never")])
        await former.stop()
        await owner.stop()

    with nothing_unheard():
        await is_fenced()


async def test_what_a_former_owner_sends_after_a_row_of_the_next_is_refused(kafka_settings: Settings) -> None:
    topic = topic_name(kafka_settings, "item-state")
    owners = [Publisher(kafka_settings, transactional_id="one") for _ in range(2)]
    rows: list[Publisher] = []
    for owner in owners:
        await owner.start()
        identity = owner.identity
        rows.append(Publisher(kafka_settings, identity=lambda _, who=identity: who))
        await rows[-1].start()
        await rows[-1].publish(topic, 0, [(b"i", b"%d" % len(rows))])
    with pytest.raises(Fenced):
        await rows[0].publish(topic, 0, [(b"i", b"late")])
    for publisher in (*rows, *owners):
        await publisher.stop()
    assert await values(kafka_settings, topic) == [b"1", b"2"]


async def test_each_identity_has_numbers_of_its_own(kafka_settings: Settings) -> None:
    topic = topic_name(kafka_settings, "recommendations")
    writers = [Publisher(kafka_settings, transactional_id=f"{topic}-{n}") for n in range(2)]
    for writer in writers:
        await writer.start()
    now = writers[0]
    publisher = Publisher(kafka_settings, identity=lambda _: now.identity)
    await publisher.start()
    for number in range(6):  # a partition that comes back does so under a newer epoch
        now = writers[number % 2]
        if number > 1:
            await now.stop()
            await now.start()
            await now.fence(topic, 0)
        for _ in range(2):
            await publisher.publish(topic, 0, [(b"k", b"%d" % number)])
    for one in (publisher, *writers):
        await one.stop()
    assert await values(kafka_settings, topic) == [b"%d" % (n // 2) for n in range(12)]


async def test_a_fault_that_a_broker_cannot_name_costs_the_partition(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is not known then: whoever restores the partition reads it from the log."""
    topic = f"{kafka_settings.topic_prefix}faulty"
    with admin_client(kafka_settings) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)])
    failed: list[str] = []
    writer = Publisher(kafka_settings, transactional_id=topic)
    publisher = Publisher(kafka_settings, identity=lambda _: writer.identity, failed=failed.append)
    await writer.start()
    await publisher.start()

    async def faulty(*_: object, **__: object) -> "asyncio.Future[None]":
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_exception(UnknownError())
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(publisher.producer, "send_batch", faulty)
        with pytest.raises(Fenced, match="fault of the broker"):
            await publisher.publish(topic, 0, [(b"k", b"v")])
    assert failed == [topic]
    for one in (publisher, writer):
        await one.stop()
