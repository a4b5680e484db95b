"""Continuous evaluation: follow `feedback`, judge a sliding window, publish the verdicts to Prometheus."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from rich.console import Console
from rich.live import Live

from streams.kafka.reader import TailReader
from streams.kafka.topics import topic_name, topic_partitions
from streams.metrics import Described
from streams.metrics.port import metrics_port
from streams.ope.estimates import Sampling
from streams.ope.log import MALFORMED, Reward, SlateLog
from streams.ope.report import Report, count, evaluate_columns, table
from streams.session.shutdown import race
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Window:
    """Window of slates that is evaluated, and how often.

    Attributes
    ----------
    slates : the latest so many
    every_s : seconds from one verdict to the next
    positions : of each slate, the first so many; None for all
    """

    slates: int
    every_s: float
    reward: Reward
    estimators: Sequence[str]
    positions: int | None = None
    sampling: Sampling = field(default_factory=Sampling)


_BY = ("policy", "estimator")
DESCRIBED = tuple(
    Described(f"slatestream_ope_{name}", kind, labels, text)
    for name, kind, labels, text in (
        ("measured", "gauge", ("policy",), "Reward a slate as served."),
        ("value", "gauge", _BY, "Estimated reward a slate of a policy."),
        ("low", "gauge", _BY, "Lower end of its 95 % interval."),
        ("high", "gauge", _BY, "Upper end of its 95 % interval."),
        ("effective_slates", "gauge", _BY, "Slates of equal weight that would be as certain."),
        ("largest_weight", "gauge", _BY, "The largest importance weight of a slate, at the worst position."),
        ("bearable_positions", "gauge", _BY, "First positions that the log bears where it refuses slates."),
        ("refused", "gauge", (*_BY, "reason"), "1 where there is no estimate, and why."),
        ("slates", "gauge", (), "Slates in the window."),
        ("records_total", "counter", (), "Records read."),
        ("malformed_total", "counter", ("reason",), "Records left out, and why."),
    )
)
"""What `slatestream ope` tells Prometheus."""


class Verdicts(Collector):
    """The latest report as metrics; a scrape sees a whole one, or the names alone."""

    def __init__(self) -> None:
        self.report: Report | None = None

    def collect(self) -> Iterator[Metric]:
        """Give what Prometheus reads."""
        families: dict[str, Any] = {
            one.name: (CounterMetricFamily if one.kind == "counter" else GaugeMetricFamily)(
                one.name, one.text, labels=one.labels
            )
            for one in DESCRIBED
        }
        if (report := self.report) is not None:
            given = {name.removeprefix("slatestream_ope_"): family for name, family in families.items()}
            _add_verdicts(given, report)
            given["slates"].add_metric([], report.counts.slates)
            given["records_total"].add_metric([], report.counts.read)
            for reason in MALFORMED:
                given["malformed_total"].add_metric([reason], report.counts.malformed.get(reason, 0))
        yield from families.values()


def _add_verdicts(gauges: dict[str, Any], report: Report) -> None:
    for policy, (_, value) in report.measured.items():
        gauges["measured"].add_metric([policy], value.value)
    for one in report.verdicts:
        labels = [one.policy, one.estimator]
        if one.estimate is not None:
            for name in ("value", "low", "high"):
                gauges[name].add_metric(labels, getattr(one.estimate, name))
        else:
            gauges["refused"].add_metric([*labels, one.refused], 1.0)
            bearable = 0 if one.bears is None else one.bears.positions
            gauges["bearable_positions"].add_metric(labels, bearable)
        if one.effective_size is not None:
            gauges["effective_slates"].add_metric(labels, one.effective_size)
        if one.largest_weight is not None:
            gauges["largest_weight"].add_metric(labels, one.largest_weight)


async def follow(settings: Settings, window: Window, *, host: str, port: int, console: Console) -> None:
    """Judge the latest slates again and again until cancelled.

    Parameters
    ----------
    host, port : where the metrics are served; port 0 takes any
    """
    partitions = topic_partitions(settings, "feedback")
    log = SlateLog(frozenset(settings.positive_actions), reward=window.reward, capacity=window.slates)

    def take(_topic: str, _partition: int, records: Sequence[Any]) -> None:
        for record in records:
            log.add(record.value)

    verdicts, registry = Verdicts(), CollectorRegistry()
    registry.register(verdicts)
    reader = TailReader(
        settings,
        {topic_name(settings, "feedback"): partitions},
        take,
        last=-(-window.slates // partitions),
    )
    with metrics_port(registry, host=host, port=port) as address:
        console.print(f"metrics on {address}", highlight=False)
        await reader.start()
        try:
            await reader.caught_up.wait()
            await race(_keep_judging(log, window, verdicts, console), reader.task)
        finally:
            await reader.stop()


async def _keep_judging(log: SlateLog, window: Window, verdicts: Verdicts, console: Console) -> None:
    judged = -1
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None
        while True:
            if log.read != judged:
                judged = log.read
                verdicts.report = report = await _judge(log, window)
                if live is not None:
                    live.update(table(report), refresh=True)
                else:
                    console.print(line(report), soft_wrap=True, highlight=False)
            await asyncio.sleep(window.every_s)


async def _judge(log: SlateLog, window: Window) -> Report:
    columns = log.columns()
    return await asyncio.to_thread(
        evaluate_columns,
        columns,
        count(log, columns),
        window.reward,
        window.estimators,
        window.sampling,
        window.positions,
    )


def line(report: Report) -> str:
    """Write a report in one line."""
    live = report.live()
    parts = [f"{report.counts.slates:,} slates", f"measured {live.value:.4f}" if live else "nothing measured"]
    for one in report.verdicts:
        if one.estimate is None:
            parts.append(f"{one.policy} refused ({one.refused})")
        else:
            value = one.estimate
            parts.append(f"{one.policy} {value.value:.4f} [{value.low:.4f}, {value.high:.4f}]")
    return "  ".join(parts)
