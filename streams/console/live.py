"""The last minutes of a worker: a sample a second, in a ring of fixed size."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

PERIOD_S = 1.0
KEPT = 600
WINDOW = 10  # samples that rates and latencies are taken over
CLICKED = 60  # the same of click-through, which moves slowly
NAMES = (
    "slatestream_events_total",
    "slatestream_slates_total",
    "slatestream_lag_records",
    "slatestream_lag_seconds",
    "slatestream_stage_seconds_bucket",
    "slatestream_loop_lag_seconds_bucket",
    "slatestream_impressions_total",
    "slatestream_responses_total",
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What the metrics say at one moment; histograms have cumulative counts by upper bound."""

    at: float
    clicks: float
    slates: float
    impressions: float
    responses: float
    lag_records: float
    lag_seconds: float
    latency: Mapping[float, float]
    loop_lag: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One second: rates a second, milliseconds, shares; None where nothing happened to tell it from."""

    at: int
    clicks: float
    slates: float
    lag_records: float
    lag_seconds: float
    p50_ms: float | None
    p99_ms: float | None
    click_through: float | None
    loop_lag_ms: float | None


def read_totals(registry: CollectorRegistry, at: float) -> Totals:
    """Read what is sampled; takes a few milliseconds, so not on the event loop."""
    clicks = slates = impressions = responses = records = seconds = 0.0
    latency: dict[float, float] = {}
    loop_lag: dict[float, float] = {}
    for family in registry.restricted_registry(NAMES).collect():
        for name, labels, value, *_ in family.samples:
            if name == "slatestream_events_total" and labels["topic"] == "clicks":
                clicks += value
            elif name == "slatestream_slates_total":
                slates += value
            elif name == "slatestream_impressions_total":
                impressions += value
            elif name == "slatestream_responses_total":
                responses += value
            elif name == "slatestream_lag_records":
                records += value
            elif name == "slatestream_lag_seconds":
                seconds = max(seconds, value)
            elif name == "slatestream_stage_seconds_bucket" and labels["stage"] == "request_to_publish":
                latency[float(labels["le"])] = value
            elif name == "slatestream_loop_lag_seconds_bucket":
                loop_lag[float(labels["le"])] = value
    return Totals(at, clicks, slates, impressions, responses, records, seconds, latency, loop_lag)


def quantile(before: Mapping[float, float], now: Mapping[float, float], share: float) -> float | None:
    """Return a quantile of what a histogram counted between two readings, linear within its bucket.

    >>> quantile({1.0: 0, 2.0: 0}, {1.0: 5, 2.0: 10}, 0.75)
    1.5
    """
    bounds = sorted(now)
    counts = [now[bound] - before.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return None
    wanted, low, below = share * counts[-1], 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= wanted and count > below:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def sample_of(kept: Iterable[Totals]) -> Sample | None:
    """Return the sample of the last of some readings, oldest first; None from a single one."""
    readings = list(kept)
    if len(readings) < 2:
        return None
    now, recent, earlier = readings[-1], readings[-WINDOW - 1 :][0], readings[0]
    seconds = max(now.at - recent.at, 1e-9)
    shown = now.impressions - earlier.impressions
    milliseconds = {
        name: None if value is None else 1000 * value
        for name, value in (
            ("p50_ms", quantile(recent.latency, now.latency, 0.5)),
            ("p99_ms", quantile(recent.latency, now.latency, 0.99)),
            ("loop_lag_ms", quantile(recent.loop_lag, now.loop_lag, 0.99)),
        )
    }
    return Sample(
        at=round(now.at),
        clicks=(now.clicks - recent.clicks) / seconds,
        slates=(now.slates - recent.slates) / seconds,
        lag_records=now.lag_records,
        lag_seconds=now.lag_seconds,
        click_through=(now.responses - earlier.responses) / shown if shown > 0 else None,
        **milliseconds,
    )


class Live:
    """Samples the metrics while it runs, and keeps the last ten minutes."""

    def __init__(self, registry: CollectorRegistry, *, clock: Callable[[], float] = time.time) -> None:
        self._registry = registry
        self._clock = clock
        self._totals: deque[Totals] = deque(maxlen=CLICKED + 1)
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    async def run(self) -> None:
        """Take a sample a second until cancelled."""
        while True:
            try:
                await self.take()
            except Exception:  # the next second may do better, and a chart is no reason to stop
                log.exception("the console could not read the metrics")
            await asyncio.sleep(PERIOD_S)

    async def take(self) -> None:
        """Take one sample."""
        self._totals.append(await asyncio.to_thread(read_totals, self._registry, self._clock()))
        if (sample := sample_of(self._totals)) is not None:
            self._samples.append(sample)

    @property
    def latest(self) -> Sample | None:
        """The newest sample."""
        return self._samples[-1] if self._samples else None

    def columns(self, since: int = 0) -> dict[str, list[Any]]:
        """Return the samples after a Unix second, a list for each of their fields."""
        rows = [asdict(sample) for sample in self._samples if sample.at > since]
        return {field.name: [row[field.name] for row in rows] for field in fields(Sample)}
