"""Following a worker through a log of clicks: how fast it folds, and what that costs the processor."""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from streams.errors import SlatestreamError
from streams.worker.process import WorkerProcess

# Rendering the metrics takes the worker a few milliseconds: looking rarely keeps that out of the figure.
LOOK_S = 0.2
STALL_S = 300.0  # a worker may have its kernels to compile before it folds
# Where its queue is full, librdkafka would fetch again a second later.
BARE = {"group.id": "none", "enable.auto.commit": "false", "fetch.queue.backoff.ms": "5"}
READ_AT_ONCE = 10_000
READ_LOOK_S, SILENT_S = 0.05, 10.0


@dataclass(frozen=True, slots=True)
class Mark:
    """So many events were done at a moment of `time.monotonic`, after so much processor time."""

    events: int
    at: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Folding:
    """Events a second between the first mark and the last, in the second half of them, and CPU an event."""

    events: int
    per_second: float
    second_half: float
    cpu_us: float


def folding_of(marks: list[Mark]) -> Folding:
    """Return the rates between marks, the first of which is where counting begins."""
    first, last = marks[0], marks[-1]
    events = last.events - first.events
    half = next(mark for mark in marks if mark.events >= (first.events + last.events) / 2)
    left = last.events - half.events
    return Folding(
        events,
        events / max(last.at - first.at, 1e-9),
        left / max(last.at - half.at, 1e-9) if left else events / max(last.at - first.at, 1e-9),
        (last.cpu_s - first.cpu_s) / max(events, 1) * 1e6,
    )


def follow(*workers: WorkerProcess, events: int, already: int = 0) -> list[Mark]:
    """Watch workers until they have together folded so many clicks more than `already`.

    The first mark is the last look at which none had been folded: the start of the processes is not counted.

    Raises
    ------
    SlatestreamError
        If they stand still.
    """
    marks: list[Mark] = []
    moved = time.monotonic()
    while not marks or marks[-1].events < events:
        readings = [worker.metrics() for worker in workers]
        at = time.monotonic()  # what a busy worker renders late is of when it rendered it
        folded = (
            sum(int(r.total("events_total", topic="clicks")) for r in readings if r is not None) - already
        )
        now = Mark(folded, at, sum(worker.cpu_seconds() for worker in workers))
        if not marks or folded > marks[-1].events:
            marks, moved = [*marks, now], at
        elif marks[-1].events == 0:
            marks = [now]
        if at - moved > STALL_S:
            raise SlatestreamError(
                f"the worker stands at {folded:,} of {events:,} clicks:\n{workers[0].log_tail()}"
            )
        time.sleep(LOOK_S)
    return marks


def bare_consumer(
    client: dict[str, str], topic: str, partitions: int, events: int, *, compacted: bool = False
) -> list[Mark]:
    """Read a topic with librdkafka and decode nothing: what no consumer of it is quicker than.

    Of a compacted topic, or one written in transactions, there may be fewer records than offsets: then it
    ends when nothing more comes.
    """
    consumer = Consumer({**client, **BARE})
    marks: list[Mark] = []
    read, began = 0, Mark(0, time.monotonic(), time.process_time())
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        while read < events:
            # It waits for as many as are asked for: so not for long, and for no more than there are.
            asked = min(READ_AT_ONCE, events - read)
            records = consumer.consume(num_messages=asked, timeout=READ_LOOK_S)
            if records:
                read += len(records)
                marks.append(Mark(read, time.monotonic(), time.process_time()))
            elif time.monotonic() - (marks[-1] if marks else began).at > SILENT_S:
                if compacted and marks:
                    break
                raise SlatestreamError(f"a bare consumer got {read:,} of {events:,} events of {topic}")
    finally:
        consumer.close()
    # The connection is no part of consuming, unless all came at once.
    return marks if len(marks) > 1 else [began, *marks]
