"""What happens to the topics under a running worker: made anew, more partitions, their beginning deleted."""

import json
import urllib.error
import urllib.request
from collections import defaultdict
from typing import Any

from kafka import TopicPartition
from kafka.admin import NewPartitions

from model_core.signals.config import SignalConfig
from streams.durability.digest import fold
from streams.events import Click, decode_click
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import topic_name
from streams.settings import Settings
from streams.worker.process import WorkerProcess
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_recovery import folded_digest, live_digest

Logs = dict[int, list[tuple[int, Click]]]


def readiness(worker: WorkerProcess) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{worker.url}/readyz", timeout=30) as answer:
            return dict(json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.loads(error.read()))


def clicks(client: Client, begin: int, end: int) -> None:
    for n in range(begin, end):
        client.click(f"u{n % 23}", f"i{n * 3 % 20}")
    client.flush()


def log_of(client: Client, n: int) -> Logs:
    wait_until(lambda: len(client.records("clicks")) == n, f"{n} clicks are read")
    logs: Logs = defaultdict(list)
    for record in client.records("clicks"):
        logs[record.partition].append((record.offset, decode_click(record.value)))
    return logs


def fold_of(settings: Settings, *logs: Logs) -> str:
    """Digest of logs that follow each other, each behind the newest offset of the one before."""
    joined: Logs = {p: [] for p in range(settings.partitions)}
    for log in logs:
        for partition, events in log.items():
            base = joined[partition][-1][0] + 1 if joined[partition] else 0
            joined[partition] += [(base + offset, click) for offset, click in events]
    return fold(
        joined,
        actions=tuple(settings.actions),
        positive=settings.positive_actions,
        history_limit=settings.history_limit,
        neighbours=settings.covisit_neighbours,
        pairing=SignalConfig().pairing,
    ).digest()


def made_anew(settings: Settings, name: str) -> None:
    """Delete a topic and make it again."""
    topic = topic_name(settings, name)
    with admin_client(settings) as admin:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics(), "the topic is gone")
    wait_until(lambda: topic in create_topics(settings), "the topic is made")


def test_clicks_made_anew_are_folded_behind_the_former_ones_by_the_same_worker_and_the_next(
    client: Client, start_worker: StartWorker
) -> None:
    settings = client.settings
    worker = start_worker()
    clicks(client, 0, 400)
    old = log_of(client, 400)
    wait_until(lambda: live_digest(worker) == fold_of(settings, old), "all is folded")
    # Of the second log more is there at once than of the first: where that ended lies in its middle.
    made_anew(settings, "clicks")
    with Client(settings) as again:
        clicks(again, 1_000, 1_800)
        expected = fold_of(settings, old, log_of(again, 800))
        wait_until(lambda: live_digest(worker) == expected, "the new clicks are folded")
        wait_until(worker.is_ready, "it is ready again")
        reading = worker.metrics()
        assert reading is not None
        assert reading.total("logs_replaced_total") >= 1
        assert "was deleted and made anew" in worker.log_tail(2_000)
        assert worker.stop() == 0
        restarted = start_worker()
        wait_until(lambda: live_digest(restarted) == expected, "what is restored is the same")
        # And while nobody runs.
        assert restarted.stop() == 0
        new = log_of(again, 800)
    made_anew(settings, "clicks")
    with Client(settings) as third:
        clicks(third, 3_000, 3_100)
        expected = fold_of(settings, old, new, log_of(third, 100))
        last = start_worker()
        wait_until(lambda: live_digest(last) == expected, "the third log is folded, too")


def test_of_two_workers_both_notice_that_clicks_were_made_anew(
    client: Client, start_worker: StartWorker
) -> None:
    settings = client.settings
    workers = [start_worker(session_timeout_ms=6_000) for _ in range(2)]
    wait_until(lambda: all(readiness(worker)["partitions"] for worker in workers), "each has partitions")
    clicks(client, 0, 400)
    old = log_of(client, 400)
    wait_until(lambda: committed(settings) == lengths(old), "all is folded and saved")
    made_anew(settings, "clicks")
    with Client(settings) as again:
        clicks(again, 1_000, 1_800)
        new = log_of(again, 800)
        expected = fold_of(settings, old, new)
        wait_until(lambda: committed(settings) == lengths(new), "the new clicks are folded and saved")
        assert [worker.stop() for worker in workers] == [0, 0]
        alone = start_worker()
        wait_until(lambda: live_digest(alone) == expected, "what both have saved is the fold of both logs")


def committed(settings: Settings) -> dict[int, int]:
    """How many clicks of each partition the group has committed."""
    with admin_client(settings) as admin:
        offsets = admin.list_group_offsets([settings.group_id])[settings.group_id]
    topic = topic_name(settings, "clicks")
    return {place.partition: one.offset for place, one in offsets.items() if place.topic == topic}


def lengths(log: Logs) -> dict[int, int]:
    return {partition: len(events) for partition, events in log.items()}


def test_a_worker_whose_topics_get_more_partitions_is_not_ready_says_so_and_loses_nothing_of_the_others(
    client: Client, start_worker: StartWorker
) -> None:
    settings = client.settings
    worker = start_worker()
    clicks(client, 0, 100)
    with admin_client(settings) as admin:
        admin.create_partitions({topic_name(settings, "clicks"): NewPartitions(2 * settings.partitions)})
    wait_until(lambda: readiness(worker)["topics_as_wanted"] is False, "it notices")
    assert not worker.is_ready()
    wanted = f"partitions is {2 * settings.partitions}, wanted {settings.partitions}"
    assert wanted in worker.log_tail(200)
    reading = worker.metrics()
    assert reading is not None
    assert reading.total("topic_faults") == 1
    for n in range(100, 200):  # a producer that has not heard of it yet
        client.send("clicks", f"u{n % 23}", _click(n), partition=n % settings.partitions)
    client.flush()
    wait_until(lambda: len(client.records("clicks")) == 200, "the log is read")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(worker) == expected, "what it owns goes on")


def test_clicks_that_are_deleted_before_they_are_read_are_counted_and_said(
    client: Client, start_worker: StartWorker
) -> None:
    settings = client.settings
    worker = start_worker()
    clicks(client, 0, 100)
    wait_until(lambda: len(client.records("clicks")) == 100, "the log is read")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(worker) == expected, "all is folded")
    assert worker.stop() == 0
    clicks(client, 100, 500)
    wait_until(lambda: len(client.records("clicks")) == 500, "the log is read")
    ends = {p: 0 for p in range(settings.partitions)}
    for record in client.records("clicks"):
        ends[record.partition] = record.offset + 1
    topic = topic_name(settings, "clicks")
    with admin_client(settings) as admin:
        admin.delete_records({TopicPartition(topic, p): end - 10 for p, end in ends.items()})
    restarted = start_worker()
    reading = restarted.metrics()
    assert reading is not None
    assert reading.total("records_trimmed_total", topic="clicks") == 400 - 10 * settings.partitions
    assert "deleted before this worker had read them" in restarted.log_tail(500)


def _click(n: int) -> Click:
    return Click(f"late{n}", f"u{n % 23}", f"i{n % 20}", "like", 1_700_000_000_000 + n)
