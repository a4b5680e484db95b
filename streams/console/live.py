"""The last minutes of a worker: a sample a second, in a ring of fixed size."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from prometheus_client import CollectorRegistry

from streams.console.drift import Drift, DriftWatch, Scored

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
    "slatestream_dead_letters_total",
    "slatestream_score_impressions_total",
    "slatestream_score_responses_total",
    "slatestream_predicted_responses_total",
)


@dataclass(frozen=True, slots=True)
class Totals:
    """The metrics at one moment; histograms as cumulative counts by upper bound."""

    at: float
    clicks: float
    slates: float
    impressions: float
    responses: float
    lag_records: float
    lag_seconds: float
    latency: Mapping[float, float]
    loop_lag: Mapping[float, float]
    dead_letters: float
    fallbacks: float
    scored: Scored


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of the charts: rates per second, milliseconds, shares; None without data.

    Dead letters are by the minute, as click-through and fallbacks are of the last minute.
    """

    at: int
    clicks: float
    slates: float
    lag_records: float
    lag_seconds: float
    p50_ms: float | None
    p99_ms: float | None
    click_through: float | None
    loop_lag_ms: float | None
    dead_letters: float
    fallbacks: float | None


def read_totals(registry: CollectorRegistry, at: float) -> Totals:
    """Read what is sampled; takes a few milliseconds, so not on the event loop."""
    sums = dict.fromkeys(NAMES, 0.0)
    clicks = fallbacks = lag_seconds = 0.0
    latency: dict[float, float] = {}
    loop_lag: dict[float, float] = {}
    bands: dict[str, float] = {}
    for family in registry.restricted_registry(NAMES).collect():
        for name, labels, value, *_ in family.samples:
            if name in sums:
                sums[name] += value
            match name:
                case "slatestream_events_total" if labels["topic"] == "clicks":
                    clicks += value
                case "slatestream_slates_total" if labels["fallback"] != "none":
                    fallbacks += value
                case "slatestream_lag_seconds":
                    lag_seconds = max(lag_seconds, value)
                case "slatestream_stage_seconds_bucket" if labels["stage"] == "request_to_publish":
                    latency[float(labels["le"])] = value
                case "slatestream_loop_lag_seconds_bucket":
                    loop_lag[float(labels["le"])] = value
                case "slatestream_score_impressions_total":
                    bands[labels["band"]] = value
    return Totals(
        at=at,
        clicks=clicks,
        slates=sums["slatestream_slates_total"],
        impressions=sums["slatestream_impressions_total"],
        responses=sums["slatestream_responses_total"],
        lag_records=sums["slatestream_lag_records"],
        lag_seconds=lag_seconds,
        latency=latency,
        loop_lag=loop_lag,
        dead_letters=sums["slatestream_dead_letters_total"],
        fallbacks=fallbacks,
        scored=Scored(
            bands,
            sums["slatestream_score_responses_total"],
            sums["slatestream_predicted_responses_total"],
        ),
    )


def quantile(before: Mapping[float, float], now: Mapping[float, float], share: float) -> float | None:
    """Return a quantile of a histogram's counts between two readings, linear within its bucket.

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
    shown, made = now.impressions - earlier.impressions, now.slates - earlier.slates
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
        dead_letters=(now.dead_letters - earlier.dead_letters)
        * min(1.0, 60.0 / max(now.at - earlier.at, 1e-9)),
        fallbacks=(now.fallbacks - earlier.fallbacks) / made if made > 0 else None,
        **milliseconds,
    )


class Live:
    """Samples the metrics while it runs, and keeps the last ten minutes."""

    def __init__(self, registry: CollectorRegistry, *, clock: Callable[[], float] = time.time) -> None:
        self._registry = registry
        self._clock = clock
        self._totals: deque[Totals] = deque(maxlen=CLICKED + 1)
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._drift = DriftWatch()

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
        totals = await asyncio.to_thread(read_totals, self._registry, self._clock())
        self._totals.append(totals)
        self._drift.take(totals.at, totals.scored)
        if (sample := sample_of(self._totals)) is not None:
            self._samples.append(sample)

    @property
    def latest(self) -> Sample | None:
        """The newest sample."""
        return self._samples[-1] if self._samples else None

    @property
    def drift(self) -> Drift | None:
        """Score drift over the last ten minutes; None before there is anything to compare."""
        return self._drift.now()

    def columns(self, since: int = 0) -> dict[str, list[Any]]:
        """Return the samples after a Unix second, a list for each of their fields."""
        rows = [asdict(sample) for sample in self._samples if sample.at > since]
        return {field.name: [row[field.name] for row in rows] for field in fields(Sample)}
