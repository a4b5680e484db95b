import asyncio
import os
import signal
import time

import pytest
import typer
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError
from kafka.structs import OffsetAndMetadata
from rich.console import Console

from streams.demo.session import caught_up, clean_exit, cluster, keep_checking, race
from streams.errors import SlatestreamError
from streams.kafka.topic_admin import admin_client, describe_topics
from streams.kafka.topics import TOPICS, topic_name
from streams.metrics import Metrics
from streams.worker.process import MetricsReading, WorkerError
from tests.e2e.client import wait_until


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_race_ends_when_the_main_work_is_done():
    async with asyncio.timeout(120):
        await race(asyncio.sleep(0), forever(), forever())


async def test_the_error_of_anyone_ends_a_race():
    def broken() -> None:
        raise WorkerError("the worker ended with code 1")

    with pytest.raises(WorkerError, match="ended with code 1"):
        async with asyncio.timeout(120):
            await race(forever(), keep_checking(broken))


async def test_the_first_error_of_a_group_is_what_a_race_raises():
    async def group() -> None:
        raise ExceptionGroup("several", [SlatestreamError("the first")])

    with pytest.raises(SlatestreamError, match="the first"):
        await race(group(), forever())


class Worker:
    """Takes ten more clicks at each look."""

    def __init__(self, *, ready=True):
        self._metrics = Metrics(process=False)
        self._ready = ready

    def metrics(self):
        self._metrics.count_events("clicks", "accepted", 9)
        self._metrics.count_dead_letters("clicks", "invalid", 1)
        self._metrics.count_events("recommendations", "published", 1000)
        return MetricsReading(self._metrics.render()[0].decode())

    def is_ready(self):
        return self._ready


async def test_a_worker_has_caught_up_when_it_has_taken_every_record():
    worker = Worker()
    async with asyncio.timeout(120):
        await caught_up(worker, {"clicks": 25}, print)
    assert worker.metrics().total("events_total", topic="clicks", outcome="accepted") == 4 * 9


async def test_a_worker_that_does_not_catch_up_is_given_up(monkeypatch):
    monkeypatch.setattr("streams.demo.session.CATCH_UP_TIMEOUT_S", 0.2)
    with pytest.raises(SlatestreamError, match=r"not caught up in 0 s: clicks \d+ of 1,000"):
        await caught_up(Worker(), {"clicks": 1000}, print)
    with pytest.raises(SlatestreamError, match=r"clicks \d+ of 5"):
        await caught_up(Worker(ready=False), {"clicks": 5}, print)


def commit(admin: KafkaAdminClient, group_id: str, tp: TopicPartition) -> bool:
    """Give a group an offset; False while the broker's coordinator is not there yet."""
    try:
        admin.alter_group_offsets(group_id, {tp: OffsetAndMetadata(0, "", -1)})
        return group_id in groups(admin)
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError):
        return False


def groups(admin: KafkaAdminClient) -> set[str]:
    return {group["group_id"] for group in admin.list_groups()}


def test_a_cluster_of_others_gets_topics_of_our_own_and_is_left_clean(broker, monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    said = []
    with cluster(said.append, "test", partitions=2) as settings:
        assert settings.bootstrap_servers == broker.bootstrap_servers
        assert settings.topic_prefix.startswith("test-")
        assert describe_topics(settings) == []
        clicks = TopicPartition(topic_name(settings, "clicks"), 0)
        with admin_client(settings) as admin:
            wait_until(lambda: commit(admin, settings.group_id, clicks), "the group has an offset")
    ours = {topic_name(settings, name) for name in TOPICS}
    deadline = time.monotonic() + 120
    with admin_client(settings) as admin:
        while left := ours & set(admin.list_topics()):
            assert time.monotonic() < deadline, left
        assert settings.group_id not in groups(admin)
    assert broker.bootstrap_servers in said[0]


def interrupted(number: int, ended: list[bool]) -> None:
    with clean_exit(Console(quiet=True)):
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            ended.append(True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_order_with_a_code(number):
    previous = signal.getsignal(signal.SIGTERM)
    ended = []
    # A shell starts what it puts in the background deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(typer.Exit) as caught:
            interrupted(number, ended)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) == previous
    assert caught.value.exit_code == 130
    assert ended == [True]
