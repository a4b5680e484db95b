"""A worker under load: what is asked of it at a constant rate, and what became of that."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streams.bench.latency import Latencies, Limit, find_limit
from streams.bench.load import librdkafka_options, run_together
from streams.bench.report import Say
from streams.bench.stages import Stage, loop_lag_ms, stages_between
from streams.bench.work import Outcome, Work
from streams.bench.world import catalogue_rows, history_rows, publish_all
from streams.errors import SlatestreamError
from streams.kafka.topics import topic_name
from streams.session.cluster import cluster
from streams.settings import Settings
from streams.worker.process import MetricsReading, WorkerProcess, same_topics

READY_S = 900.0
QUIET_S = 60.0
WARM_UP_RATE, WARM_UP_S = 30.0, 4.0
# Under clicks, the broker compiles itself for about so long: until then it takes twice the processor.
CLICKS_WARM_UP_S = 16.0
CLICKING_USERS = 100_000
PROBE_S = 6.0
BISECTIONS = 3
HIGHEST_RATE = 6_400.0
HOP_RATE = 50.0


class Over(StrEnum):
    """Way of asking: over Kafka or over HTTP."""

    KAFKA = "kafka"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Load:
    """One cell of the table: what is asked of the worker."""

    over: Over
    items: int
    rate: float
    clicks: float

    def __str__(self) -> str:
        beside = f", {self.clicks:,.0f} clicks/s beside" if self.clicks else ""
        return f"{self.items:,} items, {self.rate:,.0f} requests/s over {self.over}{beside}"


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of a load; cpu_ms is the worker's processor time for one answer, clicks beside included."""

    load: Load
    outcome: Outcome
    clicks: Outcome | None
    latency: dict[str, float]
    stages: list[Stage]
    loop_lag_ms: float | None
    cpu_ms: float

    def keeps(self, limit_ms: float) -> bool:
        """Tell whether p99 is within a limit and nothing was left unanswered or refused."""
        return self.latency["p99_ms"] <= limit_ms and not self.outcome.unanswered and not self.outcome.refused

    def row(self) -> list[Any]:
        """Return the cells of `COLUMNS`."""
        load, made = self.load, self.outcome
        figures = [self.latency[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p99_9_ms")]
        clicks = self.clicks.per_second if self.clicks else 0
        return [
            str(load.over), load.items, round(clicks), round(load.rate), made.per_second, *figures,
            made.unanswered, made.refused, made.fallbacks, self.loop_lag_ms, self.cpu_ms,
        ]  # fmt: skip


class Overloaded(SlatestreamError):
    """The worker has not dealt with a load long after it ended."""


class Bench:
    """A worker that is ready, and what is asked of it."""

    def __init__(self, settings: Settings, worker: WorkerProcess, users: int, say: Say) -> None:
        self._settings = settings
        self._worker = worker
        self._users = users
        self._say = say
        self._client = librdkafka_options(settings)

    def hop(self, *, seconds: float) -> dict[str, float]:
        """Measure a record's way to the broker and back, without a worker."""
        topic = topic_name(self._settings, "feedback")  # of no use to a worker that has just begun
        work = Work(
            kind="hop", rate=HOP_RATE, seconds=seconds, users=self._users, client=self._client,
            to=topic, back=topic, partitions=self._settings.partitions,
        )  # fmt: skip
        return _latency(run_together(work)[0])

    def measure(self, load: Load, seconds: float, seed: int) -> Measured:
        """Put a load on the worker once it has nothing else to do."""
        self.quiet()
        works = [self._asking(load, seconds, seed)]
        if load.clicks:
            works.append(self._clicking(load, seconds, seed))
        before, cpu = self._reading(), self._worker.cpu_seconds()
        outcomes = run_together(*works)
        after, cpu = self._reading(), self._worker.cpu_seconds() - cpu
        one = Measured(
            load,
            outcomes[0],
            outcomes[1] if load.clicks else None,
            _latency(outcomes[0]),
            stages_between(before, after),
            loop_lag_ms(before, after),
            cpu * 1000 / max(1, outcomes[0].answered),
        )
        self._say(f"  {line(one)}")
        return one

    def limit(self, load: Load, limit_ms: float, seed: int) -> dict[str, Any]:
        """Search for the rate at which p99 passes a limit."""

        def keeps(rate: float) -> bool:
            one = self.measure(Load(load.over, load.items, rate, load.clicks), PROBE_S, seed)
            return one.keeps(limit_ms)

        found: Limit = find_limit(keeps, start=50.0, steps=BISECTIONS, highest=HIGHEST_RATE)
        return {
            "over": str(load.over), "items": load.items, "clicks": load.clicks, "kept": found.kept,
            "broken": found.broken,
        }  # fmt: skip

    def quiet(self) -> None:
        """Wait until everything that was asked and clicked before has been dealt with."""
        deadline = time.monotonic() + QUIET_S
        while True:
            reading = self._reading()
            left = reading.total("lag_records", topic="clicks") + reading.total(
                "lag_records", topic="requests"
            )
            if not left and not reading.total("waiting_requests") and self._worker.is_ready():
                return
            if time.monotonic() > deadline:
                raise Overloaded(
                    f"after {QUIET_S:.0f} s the worker still has {left:,.0f} records to read and "
                    f"{reading.total('waiting_requests'):,.0f} requests to answer"
                )
            time.sleep(0.5)

    def _reading(self) -> MetricsReading:
        deadline = time.monotonic() + QUIET_S
        while (reading := self._worker.metrics()) is None:
            if time.monotonic() > deadline:
                raise SlatestreamError(f"the worker's /metrics has not answered for {QUIET_S:.0f} s")
        return reading

    def _asking(self, load: Load, seconds: float, seed: int) -> Work:
        url = urlsplit(self._worker.url)
        return Work(
            kind=load.over.value,
            rate=load.rate,
            seconds=seconds,
            users=self._users,
            seed=seed,
            host=str(url.hostname),
            port=int(url.port or 80),
            client=self._client,
            to=topic_name(self._settings, "requests"),
            back=topic_name(self._settings, "recommendations"),
            partitions=self._settings.partitions,
        )

    def _clicking(self, load: Load, seconds: float, seed: int) -> Work:
        return Work(
            kind="clicks", rate=load.clicks, seconds=seconds, users=CLICKING_USERS, items=load.items,
            seed=seed + 1, client=self._client, to=topic_name(self._settings, "clicks"),
            partitions=self._settings.partitions,
        )  # fmt: skip


@contextmanager
def serving(
    items: int, users: int, given: dict[str, Any], log: Path, say: Say, *, clicks: float, seconds: float
) -> Iterator[Bench]:
    """Give a warm worker with a catalogue and users with histories, on topics of its own and a warm broker.

    `clicks` a second are what it will be measured with at most, `seconds` for how long each time: a short
    measurement has a short warm-up.
    """
    with cluster(lambda _: None, "serve", partitions=4) as settings:
        publish_all(settings, "item-state", catalogue_rows(items, settings.partitions))
        publish_all(settings, "clicks", history_rows(users, items))
        log.unlink(missing_ok=True)
        began = time.monotonic()
        with WorkerProcess(same_topics(settings, **given), log=log) as worker:
            worker.wait_ready(READY_S)
            say(f"  ready with {items:,} items after {time.monotonic() - began:.1f} s")
            bench = Bench(settings, worker, users, say)
            for way in Over:
                bench.measure(Load(way, items, WARM_UP_RATE, 0.0), min(WARM_UP_S, seconds), 0)
            if clicks:
                warming = min(CLICKS_WARM_UP_S, 2 * seconds)
                bench.measure(Load(Over.HTTP, items, WARM_UP_RATE, clicks), warming, 0)
            yield bench


def _latency(outcome: Outcome) -> dict[str, float]:
    return Latencies(outcome.latencies).summary()


def line(one: Measured) -> str:
    """Say in one line what became of a load."""
    latency, made = one.latency, one.outcome
    told = f"p50 {latency['p50_ms']:.1f}, p99 {latency['p99_ms']:.1f}, p99.9 {latency['p99_9_ms']:.1f} ms"
    lost = f", {made.unanswered} unanswered" if made.unanswered else ""
    turned = f", {made.refused} refused" if made.refused else ""
    late = f" (the generator was {made.late_ms:.0f} ms late)" if made.late_ms > 10 else ""
    return f"{one.load}: {told}{lost}{turned}{late}"
