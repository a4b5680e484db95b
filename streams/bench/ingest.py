"""`slatestream bench ingest`: events a second of one worker, full path, on the wide topic.

The worker decodes every click, folds it into profiles, co-visits and the join with slates, writes its
changelogs and commits. It is ready before the events come: they are written in a transaction, which shows
all of them at once when it is committed. With `--cold` they are there before the worker is started, and the
seconds count from the start of its process. Afterwards a bare aiokafka consumer reads the same records from
the same broker and does nothing with them: the ratio is what remains comparable between noisy machines.
"""

import asyncio
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console

from streams.bench.report import write_report
from streams.bench.stages import loop_lag_ms
from streams.bench.wide import wide_clicks
from streams.errors import SlatestreamError
from streams.kafka.options import aiokafka_client_options
from streams.kafka.partitioner import partitions_of
from streams.kafka.publisher import Publisher, Row
from streams.kafka.topics import topic_name, topic_partitions
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import MetricsReading, WorkerProcess, same_topics

# Rendering the metrics takes the worker a few milliseconds: looking rarely keeps that out of the figure.
LOOK_S = 0.25
STALL_S = 60.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Events over a stretch of time."""

    events: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Events a second; 0 when no time has passed."""
        return self.events / self.seconds if self.seconds > 0 else 0.0


def ingest_command(
    events: Annotated[int, typer.Option(min=1_000, help="Clicks to ingest.")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the clicks.")] = 1,
    cold: Annotated[bool, typer.Option("--cold", help="Start the worker when the clicks are there.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for ingest.json and the worker's log.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure how many clicks a second one worker takes in, through the whole path.

    slatestream bench ingest --events 500000
    """
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    with clean_exit(console), cluster(say, "ingest", partitions=4) as settings:
        log = out / "ingest-worker.log"
        log.unlink(missing_ok=True)
        worker = WorkerProcess(same_topics(settings), log=log)
        say(f"Producing {events:,} clicks (seed {seed}) ...")
        if cold:
            produced = asyncio.run(_produce(settings, events, seed))
        began = time.perf_counter()
        with worker:
            if not cold:
                worker.wait_ready()
                produced = asyncio.run(_produce(settings, events, seed))
                began = time.perf_counter()
            before, cpu_s = worker.metrics(), worker.cpu_seconds()
            folded, durable, reading = asyncio.run(_watch(settings, worker, events, began))
            cpu_us = (worker.cpu_seconds() - (0.0 if cold else cpu_s)) / events * 1e6
        say(f"  {produced['users']:,} users, {produced['bytes']:,} bytes of JSON")
        bare = asyncio.run(_bare_consumer(settings, events))
        say(f"bare aiokafka consumer, nothing decoded: {bare.per_second:,.0f} events/s")
        rows = asyncio.run(_ends(settings, ("user-state", "policy-state")))
        say("the worker was started when the clicks were there" if cold else "the worker was ready")
        say(f"worker, folded: {folded.per_second:,.0f} events/s over {folded.seconds:.2f} s")
        say(f"worker, changelog confirmed and committed: {durable.per_second:,.0f} events/s")
        say(f"  {durable.seconds - folded.seconds:.2f} s after the last was folded")
        say(f"processor time of the worker, until all is committed: {cpu_us:.2f} µs an event")
        say(f"worker / bare consumer: {folded.per_second / bare.per_second:.3f}")
        lag_ms = loop_lag_ms(before, reading) if before is not None else None
        say(f"the worker's event loop was late by up to {lag_ms or 0:,.0f} ms (p99.9)")
        say(f"changelog rows: {rows['user-state']:,} user-state, {rows['policy-state']:,} policy-state")
        say(f"resident memory: {reading.total('process_resident_memory_bytes') / 2**20:,.0f} MiB")
        say(f"machine: {machine()}")
        write_report(
            out / "ingest.json",
            {
                "events": events,
                "seed": seed,
                "cold": cold,
                **produced,
                "folded": asdict(folded) | {"per_second": folded.per_second},
                "durable": asdict(durable) | {"per_second": durable.per_second},
                "bare_consumer": asdict(bare) | {"per_second": bare.per_second},
                "ratio": folded.per_second / bare.per_second,
                "cpu_us_per_event": cpu_us,
                "changelog_rows": rows,
                "loop_lag_p99_9_ms": lag_ms,
                "resident_bytes": reading.total("process_resident_memory_bytes"),
                "outcomes": _outcomes(reading),
            },
            say,
        )


async def _produce(settings: Settings, events: int, seed: int) -> dict[str, int]:
    topic, partitions = topic_name(settings, "clicks"), topic_partitions(settings, "clicks")
    publisher = Publisher(settings, transactional_id=f"{settings.topic_prefix}bench-ingest")
    users: set[str] = set()
    size = 0
    await publisher.start()
    try:
        async with publisher.transaction():
            for chunk in wide_clicks(events, seed=seed):
                where = partitions_of([user for user, _ in chunk], partitions).tolist()
                rows: list[tuple[str, int, Row]] = [
                    (topic, partition, (user.encode(), value))
                    for partition, (user, value) in zip(where, chunk, strict=True)
                ]
                await publisher.publish_all(rows)
                users.update(user for user, _ in chunk)
                size += sum(len(value) for _, value in chunk)
    finally:
        await publisher.stop()
    return {"users": len(users), "bytes": size}


async def _bare_consumer(settings: Settings, events: int) -> Rate:
    """Read all clicks without decoding them, from the first batch to the last."""
    consumer = AIOKafkaConsumer(
        **aiokafka_client_options(settings), group_id=None, auto_offset_reset="earliest"
    )
    topic = topic_name(settings, "clicks")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, p) for p in range(topic_partitions(settings, "clicks"))])
        began, read = time.perf_counter(), 0
        while read < events:
            batches = await consumer.getmany(timeout_ms=5_000)
            if not batches:
                raise SlatestreamError(
                    f"the consumer got {read:,} of {events:,} events, then nothing for 5 s"
                )
            read += sum(map(len, batches.values()))
        return Rate(read, time.perf_counter() - began)
    finally:
        await consumer.stop()


async def _watch(
    settings: Settings, worker: WorkerProcess, events: int, began: float
) -> tuple[Rate, Rate, MetricsReading]:
    """Follow a worker until it has folded every event and until it has committed them all, since `began`."""
    folded_at: float | None = None
    last, moved = 0, time.monotonic()
    while True:
        reading = await asyncio.to_thread(worker.metrics)
        if reading is not None and (done := int(reading.total("events_total", topic="clicks"))) > last:
            last, moved = done, time.monotonic()
        if reading is not None and last >= events:
            folded_at = folded_at or time.perf_counter()
            if await _committed(settings) >= events:
                now = time.perf_counter()
                return Rate(events, folded_at - began), Rate(events, now - began), reading
        if time.monotonic() - moved > STALL_S:
            raise SlatestreamError(
                f"the worker stands at {last:,} of {events:,} events:\n{worker.log_tail()}"
            )
        await asyncio.sleep(LOOK_S)


def _outcomes(reading: MetricsReading) -> dict[str, int]:
    names = ("accepted", "duplicate", "replayed", "dead_letter")
    return {name: int(reading.total("events_total", topic="clicks", outcome=name)) for name in names}


async def _committed(settings: Settings) -> int:
    """Sum the group's committed offsets of `clicks`."""
    consumer = AIOKafkaConsumer(
        **aiokafka_client_options(settings), group_id=settings.group_id, enable_auto_commit=False
    )
    await consumer.start()
    try:
        topic = topic_name(settings, "clicks")
        partitions = [TopicPartition(topic, p) for p in range(topic_partitions(settings, "clicks"))]
        return sum([await consumer.committed(partition) or 0 for partition in partitions])
    finally:
        await consumer.stop()


async def _ends(settings: Settings, names: tuple[str, ...]) -> dict[str, int]:
    """Count the records ever written to each topic."""
    consumer = AIOKafkaConsumer(**aiokafka_client_options(settings), group_id=None)
    await consumer.start()
    try:
        ends = {}
        for name in names:
            topic = topic_name(settings, name)
            partitions = [TopicPartition(topic, p) for p in range(topic_partitions(settings, name))]
            ends[name] = sum((await consumer.end_offsets(partitions)).values())
        return ends
    finally:
        await consumer.stop()
