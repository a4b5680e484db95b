"""What repartitioning does when the broker does not take what it copies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    NewTopic,
    ResourcePattern,
    ResourceType,
)

from streams.broker.embedded import EmbeddedBroker
from streams.decoding.dead_letters import DeadLetters
from streams.events import decode_dead_letter, decode_user
from streams.kafka.options import kafka_client_options
from streams.kafka.publisher import Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import TOPICS, topic_name
from streams.mapping.repartition import Repartitioner
from streams.metrics import Metrics
from streams.settings import Settings, load_settings
from tests.e2e.client import wait_until

MAPPING = """
[[source]]
topic = "people"
feeds = "users"
repartition = true
[source.fields]
user_id = "who"
preferences = "likes"
"""


@pytest.fixture(scope="module")
def guarded_broker() -> Iterator[EmbeddedBroker]:
    """A broker that knows who may do what."""
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    properties = {"authorizer.class.name": authorizer, "allow.everyone.if.no.acl.found": "true"}
    with EmbeddedBroker(properties=properties) as running:
        yield running


@pytest.fixture
def settings(guarded_broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Settings]:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    settings = load_settings(
        bootstrap_servers=guarded_broker.bootstrap_servers, mapping=tmp_path / "mapping.toml", partitions=1
    )
    create_topics(settings)
    with admin_client(settings) as admin:
        admin.create_topics([NewTopic("people", 1, 1)])
        yield settings
        admin.delete_topics(["people", *(topic_name(settings, name) for name in TOPICS)])


def made_anew(settings: Settings) -> None:
    with admin_client(settings) as admin:
        admin.delete_topics(["people"])
        wait_until(lambda: "people" not in admin.list_topics(), "the topic is gone")
        admin.create_topics([NewTopic("people", 1, 1)])


def say(settings: Settings, *values: str) -> None:
    producer = KafkaProducer(**kafka_client_options(settings), acks="all")
    for value in values:
        producer.send("people", value.encode())
    producer.close()


@asynccontextmanager
async def repartitioning(settings: Settings, metrics: Metrics) -> AsyncIterator[Repartitioner]:
    crashed: list[BaseException] = []
    publisher = Publisher(settings, failed=metrics.count_produce_error)
    await publisher.start()
    letters = DeadLetters(publisher, topic_name(settings, "dead-letters"), metrics)
    repartitioner = Repartitioner(
        settings, publisher=publisher, dead_letters=letters, metrics=metrics, retry_s=0.1
    )
    await repartitioner.start(crashed.append)
    try:
        yield repartitioner
    finally:
        await repartitioner.stop()
        await publisher.stop()
    assert crashed == []


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


async def values(settings: Settings, topic: str) -> list[bytes]:
    found = read_partition(settings, topic_name(settings, topic), 0)
    return [record.value async for records in found for record in records]


def number(metrics: Metrics, series: str) -> float:
    lines = metrics.render()[0].decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(series + " ")), -1.0)


async def test_what_the_broker_does_not_take_is_tried_until_it_does_and_is_not_committed(
    settings: Settings,
) -> None:
    metrics, users = Metrics(process=False), ResourcePattern(ResourceType.TOPIC, "users")
    refused = 'slatestream_produce_errors_total{topic="users"}'
    lag = 'slatestream_mapping_lag_records{topic="users"}'
    with admin_client(settings) as admin:
        denied = ACL("User:ANONYMOUS", "*", ACLOperation.WRITE, ACLPermissionType.DENY, users)
        admin.create_acls([denied])
        say(settings, '{"who": "u1"}', '{"who": "u2"}', "{")
        async with repartitioning(settings, metrics) as repartitioner:
            ready = asyncio.create_task(repartitioner.caught_up())
            await until(lambda: number(metrics, refused) >= 2, "it tries again")
            assert not ready.done()
            repartitioner.measure_lag()
            assert number(metrics, lag) == 3
            group = f"{settings.group_id}.mapping"
            assert TopicPartition("people", 0) not in admin.list_group_offsets([group])[group]
            admin.delete_acls(
                [ACLFilter("User:ANONYMOUS", "*", ACLOperation.ANY, ACLPermissionType.ANY, users)]
            )

            def copied() -> bool:
                repartitioner.measure_lag()
                return number(metrics, lag) == 0

            await until(copied, "all is copied")
            await until(ready.done, "whoever waits for it goes on")
        assert admin.list_group_offsets([group])[group][TopicPartition("people", 0)].offset == 3
    assert sorted(await values(settings, "users"))[0].startswith(b'{"user_id":"u1"')
    assert len(await values(settings, "users")) == 2
    (letter,) = [decode_dead_letter(value) for value in await values(settings, "dead-letters")]
    assert (letter.topic, letter.value) == ("people", b"{")


async def test_a_source_that_was_made_anew_is_copied_from_its_beginning(settings: Settings) -> None:
    metrics = Metrics(process=False)

    async def copied(n: int) -> None:
        async with asyncio.timeout(60):
            while len(await values(settings, "users")) < n:
                await asyncio.sleep(0.05)

    say(settings, '{"who": "u1"}', '{"who": "u2"}')
    async with repartitioning(settings, metrics):
        await copied(2)
    # Of the new topic there is more than of the former: where that was read to lies in its middle.
    await asyncio.to_thread(made_anew, settings)
    say(settings, *(f'{{"who": "v{n}"}}' for n in range(5)))
    async with repartitioning(settings, metrics):
        await copied(2 + 5)
        await asyncio.to_thread(made_anew, settings)  # and while it is read
        say(settings, *(f'{{"who": "w{n}"}}' for n in range(8)))
        await copied(2 + 5 + 8)
    users = {decode_user(value).user_id for value in await values(settings, "users")}
    assert users == {"u1", "u2", *(f"v{n}" for n in range(5)), *(f"w{n}" for n in range(8))}


async def test_a_start_waits_for_what_lay_there_and_for_nothing_that_comes_later(settings: Settings) -> None:
    options = kafka_client_options(settings)
    producer = KafkaProducer(**options, acks="all", transactional_id="people")
    producer.init_transactions()
    for taken_back in (False, True):  # what ends a transaction is a record that is never copied
        producer.begin_transaction()
        producer.send("people", b'{"who": "u1"}')
        producer.flush()
        if taken_back:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    producer.close()
    async with repartitioning(settings, Metrics(process=False)) as repartitioner:
        await asyncio.wait_for(repartitioner.caught_up(), 60)
        assert len(await values(settings, "users")) == 1
        say(settings, *(f'{{"who": "v{n}"}}' for n in range(5)))
        await asyncio.wait_for(repartitioner.caught_up(), 0.01)
    async with repartitioning(settings, Metrics(process=False)) as repartitioner:
        await asyncio.wait_for(repartitioner.caught_up(), 60)
        assert len(await values(settings, "users")) == 6
