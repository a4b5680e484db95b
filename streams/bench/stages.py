"""Stages and loop lag of a worker between two readings of its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from streams.worker.process import MetricsReading

STAGE = "stage_seconds"
LOOP_LAG = "loop_lag_seconds"
WHOLE = "request_to_publish"
# Of a request, in their order; what the others take, such as flush or fold, is time of the loop or a thread.
OF_A_REQUEST = ("read", "wait", "queue", "score", "policy", "shadow", "publish")
BESIDE = ("fold", "learn", "flush")

Buckets = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Stage:
    """Passes of a stage between two readings.

    share is the mean of a pass over the mean of a whole request: stages that run once a batch are in every
    request of it in full.
    """

    name: str
    passes: int
    mean_ms: float
    p99_ms: float
    share: float | None


def stages_between(before: MetricsReading, after: MetricsReading) -> list[Stage]:
    """Return what each stage took between two readings, those of a request with their share of it."""
    whole = _mean(before, after, WHOLE)[1]
    found = []
    for name in (*OF_A_REQUEST, WHOLE, *BESIDE):
        passes, mean = _mean(before, after, name)
        if passes:
            p99 = quantile(_buckets(before, after, STAGE, stage=name), 0.99)
            share = mean / whole if whole and name in OF_A_REQUEST else None
            found.append(Stage(name, passes, mean * 1000, p99 * 1000, share))
    return found


def loop_lag_ms(before: MetricsReading, after: MetricsReading, q: float = 0.999) -> float | None:
    """Milliseconds by which q of the loop's wake-ups were late; None if the worker does not measure it."""
    buckets = _buckets(before, after, LOOP_LAG)
    return quantile(buckets, q) * 1000 if buckets and buckets[-1][1] > 0 else None


def quantile(buckets: Sequence[tuple[float, float]], q: float) -> float:
    """Quantile of a histogram of cumulative (upper bound, count) buckets, by line within a bucket.

    What lies beyond the last finite bound counts as that bound.

    >>> quantile([(1.0, 50.0), (2.0, 100.0), (float("inf"), 100.0)], 0.75)
    1.5
    """
    if not buckets or buckets[-1][1] <= 0:
        return 0.0
    wanted = q * buckets[-1][1]
    for (low, below), (high, count) in pairwise([(0.0, 0.0), *buckets]):
        if count >= wanted and count > below:
            return low if high == float("inf") else low + (high - low) * (wanted - below) / (count - below)
    return 0.0


def _mean(before: MetricsReading, after: MetricsReading, stage: str) -> tuple[int, float]:
    def grown(of: str) -> float:
        return after.total(f"{STAGE}_{of}", stage=stage) - before.total(f"{STAGE}_{of}", stage=stage)

    passes = int(grown("count"))
    return passes, grown("sum") / passes if passes else 0.0


def _buckets(before: MetricsReading, after: MetricsReading, name: str, **labels: str) -> Buckets:
    earlier = before.buckets(name, **labels)
    return [
        (bound, count - earlier.get(bound, 0.0))
        for bound, count in sorted(after.buckets(name, **labels).items())
    ]
