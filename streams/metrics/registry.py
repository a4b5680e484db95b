"""Registry of a worker's metrics: each is described once and bound to its labels."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # Prometheus sees by itself when a counter begins anew


@dataclass(frozen=True, slots=True)
class Described:
    """Description of a metric: its name as scraped, its type, its labels and its help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Addable(Protocol):
    """A series that a number can be added to."""

    def inc(self, amount: float = 1) -> None:
        """Add to it."""


class Registered:
    """A registry, and what is made on it.

    Attributes
    ----------
    described : every metric made so far
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """Make a counter; names are without `slatestream_`, here without `_total` too."""
        self.describe(f"{name}_total", "counter", labels, text)
        return Counter(f"slatestream_{name}_total", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """Make a gauge."""
        self.describe(name, "gauge", labels, text)
        return Gauge(f"slatestream_{name}", text, labels, registry=self.registry)

    def histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        """Make a histogram; buckets are upper bounds, without that of infinity."""
        self.describe(name, "histogram", labels, text)
        return Histogram(f"slatestream_{name}", text, labels, registry=self.registry, buckets=buckets)

    def describe(self, name: str, kind: str, labels: tuple[str, ...], text: str) -> None:
        """Note a metric that is made elsewhere."""
        self.described.append(Described(f"slatestream_{name}", kind, labels, text))


def unknown(kind: str, value: str, allowed: Iterable[str]) -> ValueError:
    """Return the error of a label value that is not in its table."""
    return ValueError(f"{kind} must be one of {', '.join(allowed)}, got {value!r}")


def check(topic: str, allowed: Iterable[str]) -> None:
    """Raise ValueError where a topic is not in its table."""
    if topic not in allowed:
        raise unknown("topic", topic, allowed)


def bound(metric: Counter, *series: tuple[str, ...]) -> dict[tuple[str, ...], Addable]:
    """Return series by their label values, there from the start."""
    return {labels: metric.labels(*labels) for labels in series}


def observe_all(histogram: Histogram, values: Iterable[float]) -> None:
    """Observe several values for little more than one: each time, the sum and a bucket take a lock."""
    bounds, total = histogram._upper_bounds, 0.0
    counts: dict[int, int] = {}
    for value in values:
        at = bisect_left(bounds, value)
        counts[at] = counts.get(at, 0) + 1
        total += value
    if counts:
        histogram._sum.inc(total)
        for at, n in counts.items():
            histogram._buckets[at].inc(n)
