"""What goes wrong in a chaos run."""

import os
import resource
import signal
import time
from collections.abc import Callable

from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from streams.events import Click, UserUpdate, encode
from streams.kafka.options import kafka_client_options
from streams.kafka.topic_admin import admin_client
from streams.kafka.topics import topic_name
from streams.worker.process import WorkerProcess
from tests.chaos.runs import MAX_WORKERS, Run
from tests.frozen import frozen

CLOCK_JUMPS_S = (-86_400, -600, -5, 30, 600, 7_200)
COMPACTED = ("content", "users", "item-state", "user-state", "policy-state")


# Workers


def kill(run: Run) -> None:
    """Kill -9 of a worker, and another one starts."""
    run.end(run.any_worker(), signal.SIGKILL)
    run.traffic()
    run.start()


def kill_all(run: Run) -> None:
    """Kill -9 of all workers while they fold and flush, and one starts."""
    run.traffic()
    for worker in list(run.workers):
        run.end(worker, signal.SIGKILL)
    killed = time.monotonic()
    run.start(ready=False)
    run.time_first_slates(killed)


def kill_in_flush(run: Run) -> None:
    """Kill -9 of a worker that waits for the broker's answer, as to the end of a flush."""
    worker = run.any_worker()
    wire = run.wire_of(worker)
    wire.cut(answers_only=True)
    run.traffic()
    run.eventually(lambda: wire.holds_answers, "the broker has answered in vain")
    run.end(worker, signal.SIGKILL)
    wire.mend(reset=True)
    run.start()


def stop(run: Run) -> None:
    """SIGTERM to a worker under load, and another one starts."""
    run.traffic(flush=False)
    run.end(run.any_worker())
    run.client.flush()
    run.start()


def freeze(run: Run) -> None:
    """A worker stands still for longer than its session, and wakes after others have taken over."""
    worker, others = run.one_of_several()
    run.traffic()
    with frozen(worker.pid):
        run.traffic()
        run.own_everything(others)
        run.traffic()
    run.traffic()


def join(run: Run) -> None:
    """Workers join, until there are as many as there may be."""
    joining = [run.start(ready=False) for _ in range(run.draw.randint(1, MAX_WORKERS - 1)) if has_room(run)]
    run.traffic()
    for worker in joining:  # one that starts while there is no broker ends, and says so
        worker.wait_ready()


def leave(run: Run) -> None:
    """Workers leave, until one is left."""
    for _ in range(run.draw.randint(1, MAX_WORKERS - 1)):
        if len(run.workers) > 1:
            run.end(run.any_worker())
    run.traffic()


def has_room(run: Run) -> bool:
    """Whether another worker may start."""
    return len(run.workers) < len(run.wires)


def fill_disk(run: Run) -> None:
    """The workers can write no byte to any file, and one that starts can neither."""
    for worker in run.workers:
        _limit_files(worker, 0)
    run.traffic()
    if has_room(run):
        run.start(ready=False, disk=False)
    run.traffic()
    run.eventually(lambda: all(worker.is_ready() for worker in run.workers), "all are ready without a disk")
    for worker in run.workers:
        _limit_files(worker, resource.RLIM_INFINITY)


def _limit_files(worker: WorkerProcess, size: int) -> None:
    assert worker.pid is not None
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def jump_clock(run: Run) -> None:
    """The workers' wall clocks jump, ahead or back, and are right again after a while."""
    for _ in range(2):
        run.clock.write_text(str(run.draw.choice(CLOCK_JUMPS_S)))
        run.traffic()
    run.clock.write_text("0")


# The network


def cut_off(run: Run) -> None:
    """A worker reaches no broker for longer than its session, while it runs on; what it sent is lost."""
    _apart(run, late=False)


def deliver_late(run: Run) -> None:
    """The same, and what the worker sent arrives after others have taken over."""
    _apart(run, late=True)


def _apart(run: Run, *, late: bool) -> None:
    lonely, others = run.one_of_several()
    wire = run.wire_of(lonely)
    run.traffic(flush=False)
    wire.cut()
    try:
        run.traffic()
        run.own_everything(others)
        run.traffic()
    finally:
        wire.mend(reset=not late)
    run.traffic()


def lose_answers(run: Run) -> None:
    """What workers ask arrives, and the answers are lost: whether something was written nobody knows."""
    for worker in run.workers:
        wire = run.wire_of(worker)
        wire.cut(answers_only=True)
        run.traffic()
        wire.mend(reset=True)


def time_out(run: Run) -> None:
    """No worker reaches the broker until what was asked or sent is given up (40 s)."""
    run.traffic(flush=False)
    for worker in run.workers:
        run.wire_of(worker).cut()
    run.traffic()
    said = "RequestTimedOutError"
    run.eventually(lambda: all(said in worker.log_tail(1_000) for worker in run.workers), "all give up")
    for worker in run.workers:
        run.wire_of(worker).mend(reset=run.draw.random() < 0.5)
    run.traffic()


# The broker


def restart_broker(run: Run) -> None:
    """The broker stops and starts."""
    run.traffic()
    run.cluster.broker.stop()
    run.cluster.broker.start()
    run.traffic()


def kill_broker(run: Run) -> None:
    """Kill -9 of the broker."""
    run.traffic(flush=False)
    os.kill(run.cluster.broker.pid, signal.SIGKILL)
    run.cluster.broker.stop()
    run.cluster.broker.start()
    run.client.flush()
    run.traffic()


def freeze_broker(run: Run) -> None:
    """The broker stands still for longer than sessions are."""
    broker = run.cluster.broker
    run.traffic(flush=False)
    with frozen(broker.pid):
        run.eventually(
            lambda: not any(worker.is_ready() for worker in run.workers), "no worker hears of the broker"
        )
    run.client.flush()
    run.traffic()


def fill_broker_disk(run: Run) -> None:
    """The broker's disk is full, so that it ends; it starts once there is room."""
    run.traffic()
    with run.cluster.full_disk():
        run.traffic(flush=False)
        run.eventually(lambda: _has_ended(run.cluster.broker.pid), "the broker has ended")
    run.cluster.broker.stop()
    run.cluster.broker.start()
    run.client.flush()
    run.traffic()


def _has_ended(pid: int) -> bool:
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is not None


# The log


def abort_clicks(run: Run) -> None:
    """Somebody takes clicks back that are on the log: they were never said, and offsets lack."""
    producer = KafkaProducer(
        **kafka_client_options(run.settings), transactional_id=f"{run.settings.group_id}-producer", acks="all"
    )
    producer.init_transactions()
    for n in range(3):
        producer.begin_transaction()
        for k in range(20):
            user = f"u{run.draw.randrange(40)}"
            value = encode(Click(f"taken{n}-{k}", user, f"i{k}", "like", run.client.now_ms))
            producer.send(topic_name(run.settings, "clicks"), value, user.encode())
        producer.flush()
        run.traffic(clicks=30)
        producer.abort_transaction()
    producer.close()
    run.traffic()


def compact(run: Run) -> None:
    """Compacted topics are compacted as often and as soon as the broker can, from now on."""
    configs = {"min.cleanable.dirty.ratio": "0.001", "segment.ms": "1000", "max.compaction.lag.ms": "1000"}
    with admin_client(run.settings) as admin:
        admin.alter_configs(
            ConfigResource(ConfigResourceType.TOPIC, topic_name(run.settings, name), configs=configs)
            for name in COMPACTED
        )
    run.traffic()
    kill_all(run)


def trim_clicks(run: Run) -> None:
    """What has been committed of clicks is deleted, as retention does."""
    run.traffic()
    run.log_is_read()
    topic, group = topic_name(run.settings, "clicks"), run.settings.group_id
    with admin_client(run.settings) as admin:
        offsets = admin.list_group_offsets([group])[group]
        admin.delete_records(
            {
                TopicPartition(topic, at.partition): one.offset
                for at, one in offsets.items()
                if at.topic == topic
            }
        )
    run.is_trimmed = True
    run.traffic()
    kill_all(run)


def erase_users(run: Run) -> None:
    """Users state what they like, some are erased, and a worker that had just read so is killed."""
    run.has_statements = True
    for n in range(9):
        run.traffic(clicks=10, flush=False)
        user = run.user()
        if n % 3 == 2:
            run.client.send("users", user, None)
        else:
            run.client.send("users", user, UserUpdate(user, preferences=[f"p{n}"], blocked_items=["i1"]))
    run.client.flush()
    kill(run)


def lose_offsets(run: Run) -> None:
    """The group's offsets are gone: everything is read again."""
    run.traffic()
    for worker in list(run.workers):
        run.end(worker, signal.SIGKILL)
    group = run.settings.group_id
    with admin_client(run.settings) as admin:

        def deleted() -> bool:
            return bool(admin.delete_groups([group])[group] == "OK")

        run.eventually(deleted, "the group is empty, and deleted")
    run.start()
    run.traffic()


FAULTS: dict[str, Callable[[Run], None]] = {
    fault.__name__: fault
    for fault in (
        kill, kill_all, kill_in_flush, stop, freeze, join, leave, fill_disk, jump_clock, cut_off,
        deliver_late, lose_answers, time_out, restart_broker, kill_broker, freeze_broker, fill_broker_disk,
        abort_clicks, compact, trim_clicks, erase_users, lose_offsets,
    )
}  # fmt: skip

OF_THE_BROKER = ("restart_broker", "kill_broker", "freeze_broker", "fill_broker_disk")
