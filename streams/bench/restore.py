"""`slatestream bench restore`: how soon a worker is back after kill -9, and how fast it restores."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Partition
from rich.console import Console

from streams.bench.folding import bare_consumer, folding_of, follow
from streams.bench.load import librdkafka_options
from streams.bench.options import Set, settings_given, whole_numbers
from streams.bench.report import Say, print_table, speaker, write_report
from streams.bench.steps import Steps
from streams.bench.world import history_rows, publish_all
from streams.errors import SlatestreamError
from streams.kafka.topics import topic_name, topic_partitions
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import WorkerError, WorkerProcess, same_topics

ITEMS = 20_000
SESSION_MS = 6_000
COMMIT_S = 300.0
READY_S = 600.0
LOOK_S = 0.02
EXPECTED_RATE = 30_000
CHANGELOGS = ("user-state", "policy-state")


@dataclass(frozen=True, slots=True)
class Restored:
    """Restart of a worker; assigned_s and ready_s count from its start.

    Until it is assigned, the process starts and the broker waits for the dead member's session to end.
    """

    users: int
    events: int
    rows: int
    policy_rows: int
    restore_s: float
    rows_per_second: float
    assigned_s: float
    ready_s: float
    bare_rows_per_second: float
    resident_mib: float


def restore_command(
    users: Annotated[str, typer.Option(help="Users with state, comma-separated.")] = "99000,1000000",
    each: Annotated[int, typer.Option(min=1, help="Events of each user.")] = 2,
    set_: Set = None,
    out: Annotated[Path, typer.Option(help="Folder for restore.json and the worker's log.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure how a worker comes back after kill -9.

    A worker folds clicks until all is committed, is killed, and is started again at once. The broker holds
    the dead member's partitions until its session of 6 s is over: how long the worker waited for them is
    shown apart, as is the restore alone (the mean of the partitions, which restore side by side). The rows
    are those of the changelogs, several versions of one row included where compaction has not been. Beside
    it a bare consumer reads the users' changelog and decodes nothing.

    slatestream bench restore --users 99000
    """
    console = Console()
    say = speaker(console)
    sizes = whole_numbers(users)
    given = {"text_encoder": "none", "session_timeout_ms": SESSION_MS} | settings_given(set_ or [])
    steps = Steps([30.0 + size * each / EXPECTED_RATE for size in sizes], say)
    restored: list[Restored] = []
    with clean_exit(console):
        for size in sizes:
            steps.begin(f"{size:,} users")
            with cluster(lambda _: None, "restore", partitions=4) as settings:
                restored.append(
                    kill_and_restore(settings, given, size, each, out / "restore-worker.log", say)
                )
    columns = (
        "users", "rows", "restore s", "rows/s", "a bare consumer's rows/s", "start to assigned s",
        "start to ready s", "MiB",
    )  # fmt: skip
    print_table(console, "After kill -9", columns, [row(one) for one in restored])
    say(f"machine: {machine()}")
    write_report(out / "restore.json", {"restored": [asdict(one) for one in restored]}, say)


def row(one: Restored) -> list[Any]:
    """Return a line of the table."""
    return [
        one.users, one.rows, one.restore_s, one.rows_per_second, one.bare_rows_per_second, one.assigned_s,
        one.ready_s, one.resident_mib,
    ]  # fmt: skip


def kill_and_restore(
    settings: Settings, given: dict[str, Any], users: int, each: int, log: Path, say: Say
) -> Restored:
    """Let a worker fold and commit, kill it, start it again, and follow it until it is ready."""
    events = publish_all(settings, "clicks", history_rows(users, ITEMS, each=each))
    log.unlink(missing_ok=True)
    values = same_topics(settings, **given)
    worker = WorkerProcess(values, log=log)
    worker.start()
    try:
        folded = folding_of(follow(worker, events=events))
        say(f"  {events:,} clicks folded at {folded.per_second:,.0f} events/s")
        await_committed(settings, events)
    finally:
        worker.kill()
    bare = bare_rows_per_second(settings)
    began = time.monotonic()
    with WorkerProcess(values, log=log) as again:
        assigned_at: float | None = None
        while not again.is_ready():
            again.check()
            if assigned_at is None and (reading := again.metrics()) is not None:
                assigned_at = time.monotonic() if reading.total("assigned_partitions") else None
            if time.monotonic() - began > READY_S:
                raise WorkerError(f"the worker is not ready after {READY_S:.0f} s:\n{again.log_tail()}")
            time.sleep(LOOK_S)
        ready_s = time.monotonic() - began
        reading = again.metrics()
        if reading is None:
            raise SlatestreamError("the worker's /metrics does not answer")
        of_topic = [int(reading.total("restored_rows_total", topic=name)) for name in CHANGELOGS]
        rows = sum(of_topic)
        passes = reading.total("stage_seconds_count", stage="restore")
        restore_s = reading.total("stage_seconds_sum", stage="restore") / max(passes, 1)
        waited = (assigned_at or time.monotonic()) - began
        return Restored(
            users, events, rows, of_topic[1], restore_s, rows / max(restore_s, 1e-9), waited, ready_s, bare,
            again.resident_bytes() / 2**20,
        )  # fmt: skip


def await_committed(settings: Settings, events: int) -> None:
    """Wait until the group has committed all the clicks."""
    options = {**librdkafka_options(settings), "group.id": settings.group_id, "enable.auto.commit": "false"}
    consumer = Consumer(options)
    topic = topic_name(settings, "clicks")
    wanted = [Partition(topic, p) for p in range(topic_partitions(settings, "clicks"))]
    deadline = time.monotonic() + COMMIT_S
    try:
        while (done := sum(max(0, p.offset) for p in consumer.committed(wanted, timeout=10.0))) < events:
            if time.monotonic() > deadline:
                raise SlatestreamError(f"{done:,} of {events:,} clicks are committed after {COMMIT_S:.0f} s")
            time.sleep(0.5)
    finally:
        consumer.close()


def bare_rows_per_second(settings: Settings) -> float:
    """Rows a second of a consumer that reads the users' changelog and decodes nothing."""
    topic, partitions = topic_name(settings, "user-state"), topic_partitions(settings, "user-state")
    client = librdkafka_options(settings)
    consumer = Consumer({**client, "group.id": "none"})
    try:
        ends = [
            consumer.get_watermark_offsets(Partition(topic, p), timeout=10.0)[1] for p in range(partitions)
        ]
    finally:
        consumer.close()
    return folding_of(bare_consumer(client, topic, partitions, sum(ends), compacted=True)).per_second
