"""What a worker tells Prometheus: counters, gauges and histograms, observed per batch.

Every label value is one of a fixed set (`streams.metrics.tables`), so the number of series does not grow with
users, items or what a sender writes. A series is there from the start where its zero says something, and
else from its first number on. The hot path adds numbers only. Units are seconds, bytes and plain counts.
`deploy/metrics.md` lists them all.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.decoding.records import REASONS
from streams.metrics.tables import (
    ANSWER,
    BATCH,
    CANARY_OUTCOMES,
    EVENTS,
    FALLBACKS,
    INPUTS,
    KEYED_BY_USER,
    LEVELS,
    LOGGERS,
    LOOP_LAG,
    POLICIES,
    POSITIONS,
    PRODUCED,
    RECLAIMED,
    RESTORED,
    REWARD_OUTCOMES,
    ROUTES,
    SCORE_BANDS,
    STAGES,
)

DEAD_LETTER_REASONS = (*REASONS, "other")
RARE = 0.01

disable_created_metrics()  # type: ignore[no-untyped-call]  # Prometheus sees by itself when a counter begins anew


@dataclass(frozen=True, slots=True)
class Described:
    """What a metric is: its name as it is scraped, its type, its labels and its help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class _Addable(Protocol):
    def inc(self, amount: float = 1) -> None: ...


class _Stages(Collector):
    """One histogram whose stages have buckets of their own."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._parts = {
            stage: Histogram(name, text, ("stage",), registry=None, buckets=buckets)
            for stage, buckets in STAGES.items()
        }
        self.by_stage = {stage: part.labels(stage) for stage, part in self._parts.items()}

    def describe(self) -> Iterator[Metric]:
        """Tell its name, by which a part of the registry is read."""
        yield Metric(self._name, self._text, "histogram")

    def collect(self) -> Iterator[Metric]:
        """Give what Prometheus reads."""
        whole = Metric(self._name, self._text, "histogram")
        for part in self._parts.values():
            for metric in part.collect():
                whole.samples += metric.samples
        yield whole


def _unknown(kind: str, value: str, allowed: Iterable[str]) -> ValueError:
    return ValueError(f"{kind} must be one of {', '.join(allowed)}, got {value!r}")


class Metrics:
    """All the metrics of one process, on a registry of its own.

    Topics are named without the deployment's prefix. A topic, outcome or stage that is not in the tables is
    a mistake of the caller and raises ValueError; reasons, fallbacks, policies and reward outcomes that are
    not in theirs are counted as "other", because they may come from outside.

    Parameters
    ----------
    process
        Also export the process's memory, processor time and open files (`process_*`).

    Attributes
    ----------
    described : every metric but those of the process
    """

    def __init__(self, *, process: bool = True) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        if process:
            ProcessCollector(registry=self.registry)
        self._make_intake()
        self._make_serving()
        self._make_learning()
        self._make_worker()
        self._make_publishing()

    def _make_intake(self) -> None:
        self._events = _bound(
            self._counter("events", "Records by topic and what became of them.", ("topic", "outcome")),
            *((topic, outcome) for topic, outcomes in EVENTS.items() for outcome in outcomes),
        )
        self.clicks_bounded = self._counter(
            "clicks_bounded", "Accepted clicks that count no further in what users share: influence_per_hour."
        )
        self._dead = self._counter(
            "dead_letters", "Records sent to dead-letters, and why.", ("topic", "reason")
        )
        self._wrong = _bound(
            self._counter(
                "wrong_partition", "Records whose key belongs to another partition (murmur2).", ("topic",)
            ),
            *((topic,) for topic in KEYED_BY_USER),
        )
        self._mismatch = _bound(
            self._counter("key_mismatch", "Records whose key is not their user_id.", ("topic",)),
            *((topic,) for topic in KEYED_BY_USER),
        )
        batch = self._histogram("batch_records", "Records per batch.", ("topic",), BATCH)
        self._batch = {topic: batch.labels(topic) for topic in INPUTS}
        by_partition = ("topic", "partition")
        self._lag = self._gauge("lag_records", "Records not yet processed.", by_partition)
        self._lag_s = self._gauge(
            "lag_seconds", "For how long the oldest of them has been waiting; 0 without any.", by_partition
        )
        self._lags: set[tuple[str, int]] = set()
        self._mapping_lag = self._gauge(
            "mapping_lag_records", "Records of a repartitioned topic not yet copied to ours.", ("topic",)
        )
        self._mapping_lag_s = self._gauge(
            "mapping_lag_seconds", "For how long the oldest of them has been waiting.", ("topic",)
        )
        self.broker_reachable = self._gauge(
            "broker_reachable", "1 while the consumer group has answered within its session timeout."
        )

        self._trimmed = _bound(
            self._counter("records_trimmed", "Records deleted before they were read.", ("topic",)),
            *((topic,) for topic in INPUTS),
        )
        self.logs_replaced = self._counter(
            "logs_replaced", "Partitions restored of a topic that was deleted and made anew."
        )
        self.topic_faults = self._gauge(
            "topic_faults", "Topics that are missing, or have other partitions than wanted."
        )

    def _make_serving(self) -> None:
        self._slates = self._counter(
            "slates", "Slates published; fallback is why one is not the model's.", ("policy", "fallback")
        )
        about = "Time of one pass of a stage."
        stages = _Stages("slatestream_stage_seconds", about)
        self.described.append(Described("slatestream_stage_seconds", "histogram", ("stage",), about))
        self.registry.register(stages)
        self._stage = stages.by_stage
        self._score_rows = self._histogram("score_batch_requests", "Requests scored together.", (), BATCH)
        self.waiting_requests = self._gauge("waiting_requests", "Requests taken and not yet answered.")
        self.own_clicks_missed = self._counter(
            "own_clicks_missed",
            "Requests that went on without the clicks before them, as read_your_writes_ms had passed.",
        )
        self._http = self._counter("http_requests", "HTTP requests answered.", ("route", "status"))
        for route, statuses in ROUTES.items():
            for status in statuses:
                self._http.labels(route, str(status))
        seconds = self._histogram(
            "http_request_seconds", "Time to answer an HTTP request.", ("route",), ANSWER
        )
        self._http_seconds = {route: seconds.labels(route) for route in ROUTES}

    def _make_learning(self) -> None:
        self._rewards = self._counter(
            "rewards", "Rewarding events by how they met their slate.", ("outcome",)
        )
        for outcome in REWARD_OUTCOMES:
            self._rewards.labels(outcome)
        self._shown = self._counter(
            "impressions", "Items of slates whose window has ended, by policy.", ("policy",)
        )
        self._responded = self._counter("responses", "Of impressions, those responded to.", ("policy",))
        self._rare = self._counter(
            "rare_impressions",
            f"Of impressions, those whose probability was below {RARE}: each weighs much as evidence.",
            ("policy",),
        )
        self._shown_at = self._counter(
            "position_impressions",
            f"The same items by position, from 0; the last, {POSITIONS - 1}, stands for all after it.",
            ("position",),
        )
        self._responded_at = self._counter(
            "position_responses", "Of position_impressions, those responded to.", ("position",)
        )
        self._scored = self._counter(
            "score_impressions",
            "Of impressions, those with a probability as score, by its band; band is the upper end.",
            ("band",),
        )
        self._scored_responses = self._counter(
            "score_responses", "Of score_impressions, those responded to.", ("band",)
        )
        self._predicted = self._counter(
            "predicted_responses", "Sum of the scores of score_impressions: the responses that they foretell."
        )
        self._examination = self._gauge(
            "position_examination",
            "How often a position is taken to be looked at, to the first's 1.",
            ("position",),
        )
        self.policy_version = self._gauge("policy_version", "Updates adopted by the policy in use.")
        by_variant = ("experiment", "variant")  # few: an experiment is started by hand
        self._exposures = self._counter("experiment_slates", "Slates of experiments.", by_variant)
        self._responses = self._counter(
            "experiment_responses", "Items of experiments' slates that were responded to.", by_variant
        )
        self.experiments_running = self._gauge(
            "experiments_running", "Experiments this worker takes part in."
        )
        self.experiments_refused = self._counter(
            "experiments_refused", "Definitions that this worker cannot run; the log says why."
        )
        self.pending_slates = self._gauge("pending_slates", "Slates waiting for their rewards.")
        self.pending_slates_bytes = self._gauge("pending_slates_bytes", "What they take of memory, about.")
        self.slates_given_up = self._gauge(
            "pending_slates_given_up",
            "Slates of the partitions owned that had to go before their window ended, for want of room.",
        )
        self.undescribed_items = self._gauge(
            "undescribed_items", "Items known that nobody has described, or that were deleted."
        )
        self.blocked_items_refused = self._counter(
            "blocked_items_refused", "Blocked items that nobody has described, for which there was no room."
        )
        reclaimed = self._counter("reclaimed", "Rows whose memory was taken back.", ("kind",))
        self._reclaimed = {name: reclaimed.labels(name) for name in RECLAIMED}

    def _make_worker(self) -> None:
        self.ready = self._gauge("ready", "1 when restored and caught up.")
        self.assigned_partitions = self._gauge("assigned_partitions", "Partitions of this worker.")
        self._restored = _bound(
            self._counter("restored_rows", "Changelog rows read back.", ("topic",)),
            *((topic,) for topic in RESTORED),
        )
        self.restore_seconds = self._gauge("restore_seconds", "Duration of the latest restore.")
        self._loop_lag = self._histogram(
            "loop_lag_seconds", "How late the event loop wakes a timer.", (), LOOP_LAG
        )
        self._state_rows = self._gauge("state_rows", "Rows held in memory.", ("kind",))
        self._state_bytes = self._gauge("state_bytes", "Memory of the state's arrays.", ("kind",))
        self._release = self._gauge("release_info", "1 for the release in use.", ("version", "provider"))
        self._release_written = self._gauge(
            "release_timestamp_seconds", "Unix time at which the release in use was written.", ("version",)
        )
        self.release_swaps = self._counter(
            "release_swaps", "Times that another release began to serve without a restart."
        )
        self.releases_refused = self._counter(
            "releases_refused", "Releases that were to serve and could not; another served on."
        )
        self._refused = self._gauge(
            "release_refused_info", "1 for the release that is to serve and is refused.", ("version",)
        )
        self.canaries = self._counter(
            "release_canaries",
            "Canaries decided on by this worker, by what came of them.",
            ("outcome",),
        )
        for outcome in CANARY_OUTCOMES:
            self.canaries.labels(outcome)
        self._compared = self._gauge(
            "release_canary_comparison",
            "Slates of the canary and of the live release, what one has earned of either, and the canary's "
            "lead with its always-valid interval; on the worker that decides.",
            ("figure",),
        )
        self._canary = self._gauge(
            "release_canary_share", "Share of the users whom a canary serves on this worker.", ("version",)
        )
        self._logged = _bound(
            self._counter("log_messages", "Warnings and errors logged.", ("source", "level")),
            *((source, level) for source in LOGGERS for level in LEVELS),
        )

    def _make_publishing(self) -> None:
        self._produce_errors = _bound(
            self._counter(
                "produce_errors",
                "Times that the broker did not take rows of a topic; what can be is tried again.",
                ("topic",),
            ),
            *((topic,) for topic in PRODUCED),
        )

    def count_events(self, topic: str, outcome: str, n: int = 1) -> None:
        """Add n records of a topic with one outcome of its `EVENTS`."""
        child = self._events.get((topic, outcome))
        if child is None:
            _check(topic, EVENTS)
            raise _unknown("outcome", outcome, EVENTS[topic])
        child.inc(n)

    def count_dead_letters(self, topic: str, reason: str, n: int = 1) -> None:
        """Add n dead letters; they are counted as events with outcome "dead_letter" too."""
        _check(topic, INPUTS)
        self._dead.labels(topic, reason if reason in DEAD_LETTER_REASONS else "other").inc(n)
        self._events[topic, "dead_letter"].inc(n)

    def count_produce_error(self, topic: str) -> None:
        """Add a time that the broker did not take rows of a topic."""
        _check(topic, PRODUCED)
        self._produce_errors[(topic,)].inc()

    def count_wrong_partition(self, topic: str, n: int = 1) -> None:
        """Add n records that another partitioner put where their key does not belong."""
        _check(topic, KEYED_BY_USER)
        self._wrong[(topic,)].inc(n)

    def count_trimmed(self, topic: str, n: int) -> None:
        """Add n records that were deleted before they were read."""
        _check(topic, INPUTS)
        self._trimmed[(topic,)].inc(n)

    def count_key_mismatches(self, topic: str, n: int = 1) -> None:
        """Add n records whose key is missing or is not the user_id of their value."""
        _check(topic, KEYED_BY_USER)
        self._mismatch[(topic,)].inc(n)

    def count_slates(self, policy: str, fallback: str | None = None, n: int = 1) -> None:
        """Add n published slates; fallback is `Recommendation.fallback`."""
        why = "none" if fallback is None else fallback if fallback in FALLBACKS else "other"
        self._slates.labels(_policy(policy), why).inc(n)

    def count_closed(
        self, slates: Iterable[tuple[str, Sequence[float], Sequence[float], Sequence[int]]]
    ) -> None:
        """Add slates whose window has ended, once each.

        Parameters
        ----------
        slates : policy, propensity and score of each position, and the positions that were responded to
        """
        scores: list[float] = []
        scores_taken: list[float] = []
        shown: Tally[str] = Tally()
        rare: Tally[str] = Tally()
        responded: Tally[str] = Tally()
        lengths: Tally[int] = Tally()
        taken: Tally[int] = Tally()
        for policy, propensities, scored, positions in slates:
            scores += scored
            scores_taken += (scored[position] for position in positions)
            shown[policy] += len(propensities)
            rare[policy] += sum(p < RARE for p in propensities)
            lengths[len(propensities)] += 1
            for position in positions:
                responded[policy] += 1
                taken[position] += 1
        for policy, n in shown.items():
            name = _policy(policy)
            self._shown.labels(name).inc(n)
            self._rare.labels(name).inc(rare[policy])
            self._responded.labels(name).inc(responded[policy])
        for position in range(max(lengths, default=0)):
            at = str(min(position, POSITIONS - 1))
            self._shown_at.labels(at).inc(sum(n for length, n in lengths.items() if length > position))
            self._responded_at.labels(at).inc(taken[position])
        self._predicted.inc(_count_bands(scores, self._scored))
        _count_bands(scores_taken, self._scored_responses)

    def count_http(self, route: str, status: int, seconds: float) -> None:
        """Add an answered HTTP request; a route that is not one of `ROUTES` is "other"."""
        name = route if route in ROUTES else "other"
        self._http.labels(name, str(status)).inc()
        self._http_seconds[name].observe(seconds)

    def count_logged(self, logger: str, level: str) -> None:
        """Add a warning or an error, by the package that logged it."""
        source = logger.partition(".")[0]
        self._logged[source if source in LOGGERS else "other", level].inc()

    def count_rewards(self, outcome: str, n: int = 1) -> None:
        """Add n rewarding events by how they were attributed."""
        self._rewards.labels(outcome if outcome in REWARD_OUTCOMES else "other").inc(n)

    def count_exposure(self, experiment: str, variant: str | None) -> None:
        """Add a published slate of an experiment; variant is None where two are interleaved."""
        self._exposures.labels(experiment, variant or "interleaved").inc()

    def count_response(self, experiment: str, variant: str) -> None:
        """Add an item that was responded to, by the variant that put it into the slate."""
        self._responses.labels(experiment, variant).inc()

    def count_reclaimed(self, kind: str, rows: int) -> None:
        """Add rows of one kind of `RECLAIMED` whose memory was taken back."""
        self._reclaimed[kind].inc(rows)

    def count_restored(self, topic: str, rows: int) -> None:
        """Add changelog rows that a restore has read."""
        _check(topic, RESTORED)
        self._restored[(topic,)].inc(rows)

    def observe_batch(self, topic: str, records: int) -> None:
        """Record the size of one fetched partition batch."""
        _check(topic, INPUTS)
        self._batch[topic].observe(records)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record the duration of one pass of a stage of `STAGES`."""
        child = self._stage.get(stage)
        if child is None:
            raise _unknown("stage", stage, STAGES)
        child.observe(seconds)

    def observe_stages(self, stage: str, seconds: Iterable[float]) -> None:
        """Record several passes of one stage, e.g. the latency of each request of a batch."""
        child = self._stage.get(stage)
        if child is None:
            raise _unknown("stage", stage, STAGES)
        for value in seconds:
            child.observe(value)

    def observe_loop_lag(self, seconds: float) -> None:
        """Record by how much the event loop was late."""
        self._loop_lag.observe(seconds)

    def observe_score_batch(self, requests: int) -> None:
        """Record how many requests one call of the scorer took."""
        self._score_rows.observe(requests)

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Time the body of a `with` as one pass of a stage; a body that raises is timed too."""
        start = perf_counter()
        try:
            yield
        finally:
            self.observe_stage(stage, perf_counter() - start)

    def set_lag(self, topic: str, partition: int, *, records: int, seconds: float) -> None:
        """Set how many records of a partition are not yet processed, and how long the oldest has waited."""
        _check(topic, INPUTS)
        self._lags.add((topic, partition))
        self._lag.labels(topic, str(partition)).set(records)
        self._lag_s.labels(topic, str(partition)).set(seconds)

    def drop_lag(self, topic: str, partition: int) -> None:
        """Forget a partition that is no longer ours; otherwise its last lag would be shown for ever."""
        if (topic, partition) in self._lags:
            self._lags.remove((topic, partition))
            for gauge in (self._lag, self._lag_s):
                gauge.remove(topic, str(partition))

    def set_mapping_lag(self, topic: str, *, records: int, seconds: float) -> None:
        """Set how far the copying of what feeds one of our topics is behind, in this worker's partitions."""
        _check(topic, INPUTS)
        self._mapping_lag.labels(topic).set(records)
        self._mapping_lag_s.labels(topic).set(seconds)

    def set_state(self, kind: str, *, rows: int, nbytes: int) -> None:
        """Set the size of one kind of state, e.g. "users", "items", "neighbours", "slates"."""
        self._state_rows.labels(kind).set(rows)
        self._state_bytes.labels(kind).set(nbytes)

    def set_release(self, version: str, provider: str, *, written_s: float | None = None) -> None:
        """Name the release and the ONNX Runtime provider in use; the former one disappears.

        Parameters
        ----------
        written_s : Unix time at which it was written, None when there is no release
        """
        self._release.clear()
        self._release.labels(version, provider).set(1)
        self._release_written.clear()
        if written_s is not None:
            self._release_written.labels(version).set(written_s)

    def set_refused(self, version: str | None) -> None:
        """Name the release that is to serve and is refused; None for none."""
        self._refused.clear()
        if version is not None:
            self._refused.labels(version).set(1)

    def set_canary(self, version: str | None, share: float = 0.0) -> None:
        """Name the release that serves a share of the users beside the one in use; None for none."""
        self._canary.clear()
        if version is not None:
            self._canary.labels(version).set(share)

    def set_comparison(self, figures: Mapping[str, float] | None) -> None:
        """Say what the slates of the canary have shown; None where none is compared here."""
        self._compared.clear()
        for name, value in (figures or {}).items():
            self._compared.labels(name).set(value)

    def set_examination(self, by_position: Iterable[float]) -> None:
        """Set how often each position, from the first on, is taken to be looked at."""
        for position, value in enumerate(by_position):
            self._examination.labels(str(position)).set(value)

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Let a gauge read its value at scrape time instead of being set."""
        gauge.set_function(read)

    def render(self) -> tuple[bytes, str]:
        """Body and content type of a `/metrics` answer."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        self._describe(f"{name}_total", "counter", labels, text)
        return Counter(f"slatestream_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        self._describe(name, "gauge", labels, text)
        return Gauge(f"slatestream_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        self._describe(name, "histogram", labels, text)
        return Histogram(f"slatestream_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _describe(self, name: str, kind: str, labels: tuple[str, ...], text: str) -> None:
        self.described.append(Described(f"slatestream_{name}", kind, labels, text))


def _check(topic: str, allowed: Iterable[str]) -> None:
    if topic not in allowed:
        raise _unknown("topic", topic, allowed)


def _policy(name: str) -> str:
    return name if name in POLICIES else "other"


def _count_bands(scores: Sequence[float], counter: Counter) -> float:
    """Count scores by band, and return their sum; what is no probability is left out, such as mere counts."""
    values = np.asarray(scores, np.float64)
    values = values[(values >= 0.0) & (values <= 1.0)]
    for band, n in enumerate(np.bincount(np.searchsorted(SCORE_BANDS, values)).tolist()):
        if n:
            counter.labels(f"{SCORE_BANDS[band]:g}").inc(n)
    return float(values.sum())


def _bound(metric: Counter, *series: tuple[str, ...]) -> dict[tuple[str, ...], _Addable]:
    return {labels: metric.labels(*labels) for labels in series}
