"""What a worker tells Prometheus: counters, gauges and histograms, observed per batch.

Every label value is one of a fixed set named here, so the number of series does not grow with users,
items or what a sender writes. Labels are bound once, at construction; the hot path adds numbers only.
Units are seconds, bytes and plain counts.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from online_learning.attribution.pending_slates import Outcome
from online_learning.policies import registry as policies
from streams.decoding import REASONS

TOPICS = (
    "clicks",
    "content",
    "users",
    "requests",
    "recommendations",
    "feedback",
    "dead-letters",
    "item-state",
    "user-state",
    "policy-state",
    "model-releases",
    "experiments",
)
OUTCOMES = ("accepted", "duplicate", "replayed", "tombstone", "dead_letter", "published", "refused")
STAGES = (
    "decode",
    "fold",
    "wait",
    "queue",
    "gather",
    "prepare",
    "score",
    "policy",
    "shadow",
    "explain",
    "publish",
    "request_to_publish",
    "flush",
    "restore",
    "learn",
)
DEAD_LETTER_REASONS = (*REASONS, "internal", "other")
FALLBACKS = ("none", "no_release", "no_candidates", "all_seen", "overloaded", "other")
REWARD_OUTCOMES = (*(outcome.value for outcome in Outcome), "other")
POLICIES = (*policies.REGISTRY, "apprentice", "interleaved", "none", "other")

STAGE_BUCKETS = tuple(m * 10.0**e for e in range(-4, 1) for m in (1, 2.5, 5)) + (10.0,)
LAG_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCH_BUCKETS = tuple(float(4**e) for e in range(9))


class _Addable(Protocol):
    def inc(self, amount: float = 1) -> None: ...


def _unknown(kind: str, value: str, allowed: Iterable[str]) -> ValueError:
    return ValueError(f"{kind} must be one of {', '.join(allowed)}, got {value!r}")


class Metrics:
    """All the metrics of one process, on a registry of its own.

    Topics are named without the deployment's prefix. A topic, outcome or stage that is not in the
    module's tables is a mistake of the caller and raises ValueError; reasons, fallbacks, policies and
    reward outcomes that are not in theirs are counted as "other", because they may come from outside.

    Parameters
    ----------
    process
        Also export the process's memory, processor time and open files (`process_*`).
    """

    def __init__(self, *, process: bool = True) -> None:
        self.registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=self.registry)
        self._events = _bind2(
            self._counter("events", "Records by topic and what became of them.", ("topic", "outcome")),
            TOPICS, OUTCOMES,
        )  # fmt: skip
        self._dead = _bind2(
            self._counter("dead_letters", "Records sent to dead-letters, and why.", ("topic", "reason")),
            TOPICS, DEAD_LETTER_REASONS,
        )  # fmt: skip
        self._slates = _bind2(
            self._counter("slates", "Slates published.", ("policy", "fallback")), POLICIES, FALLBACKS
        )
        rewards = self._counter("rewards", "Rewarding events by how they met their slate.", ("outcome",))
        self._rewards = {name: rewards.labels(name) for name in REWARD_OUTCOMES}
        wrong = self._counter(
            "wrong_partition", "Records whose key belongs to another partition (murmur2).", ("topic",)
        )
        self._wrong = {name: wrong.labels(name) for name in TOPICS}
        mismatch = self._counter("key_mismatch", "Records whose key is not their user_id.", ("topic",))
        self._mismatch = {name: mismatch.labels(name) for name in TOPICS}
        batch = self._histogram("batch_records", "Records per batch.", ("topic",), BATCH_BUCKETS)
        self._batch = {name: batch.labels(name) for name in TOPICS}
        stage = self._histogram("stage_seconds", "Time of one pass of a stage.", ("stage",), STAGE_BUCKETS)
        self._stage = {name: stage.labels(name) for name in STAGES}
        self._loop_lag = self._histogram(
            "loop_lag_seconds", "How late the event loop wakes a timer.", (), LAG_BUCKETS
        )
        self._score_rows = self._histogram(
            "score_batch_requests", "Requests scored together.", (), BATCH_BUCKETS
        )
        self._lag = self._gauge("lag_records", "Records not yet read.", ("topic", "partition"))
        self._lags: set[tuple[str, int]] = set()
        self._state_rows = self._gauge("state_rows", "Rows held in memory.", ("kind",))
        self._state_bytes = self._gauge("state_bytes", "Memory of the state's arrays.", ("kind",))
        self._release = self._gauge("release_info", "1 for the release in use.", ("version", "provider"))
        self._restored = self._counter("restored_rows", "Changelog rows read back.", ("topic",))
        self.restore_seconds = self._gauge("restore_seconds", "Duration of the latest restore.")
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
        self.waiting_requests = self._gauge("waiting_requests", "Requests taken and not yet answered.")
        self.assigned_partitions = self._gauge("assigned_partitions", "Partitions of this worker.")
        self.ready = self._gauge("ready", "1 when restored and caught up.")

    def count_events(self, topic: str, outcome: str, n: int = 1) -> None:
        """Add n records of a topic with one outcome of `OUTCOMES`."""
        child = self._events.get((topic, outcome))
        if child is None:
            _check_topic(topic)
            raise _unknown("outcome", outcome, OUTCOMES)
        child.inc(n)

    def count_dead_letters(self, topic: str, reason: str, n: int = 1) -> None:
        """Add n dead letters; they are counted as events with outcome "dead_letter" too."""
        _check_topic(topic)
        self._dead[topic, reason if reason in DEAD_LETTER_REASONS else "other"].inc(n)
        self._events[topic, "dead_letter"].inc(n)

    def count_wrong_partition(self, topic: str, n: int = 1) -> None:
        """Add n records that another partitioner put where their key does not belong."""
        _check_topic(topic)
        self._wrong[topic].inc(n)

    def count_key_mismatches(self, topic: str, n: int = 1) -> None:
        """Add n records whose key is missing or is not the user_id of their value."""
        _check_topic(topic)
        self._mismatch[topic].inc(n)

    def count_slates(self, policy: str, fallback: str | None = None, n: int = 1) -> None:
        """Add n published slates; fallback is `Recommendation.fallback`."""
        name = policy if policy in POLICIES else "other"
        why = "none" if fallback is None else fallback if fallback in FALLBACKS else "other"
        self._slates[name, why].inc(n)

    def count_rewards(self, outcome: str, n: int = 1) -> None:
        """Add n rewarding events by how they were attributed."""
        self._rewards[outcome if outcome in REWARD_OUTCOMES else "other"].inc(n)

    def count_exposure(self, experiment: str, variant: str | None) -> None:
        """Add a published slate of an experiment; variant is None where two are interleaved."""
        self._exposures.labels(experiment, variant or "interleaved").inc()

    def count_response(self, experiment: str, variant: str) -> None:
        """Add an item that was responded to, by the variant that put it into the slate."""
        self._responses.labels(experiment, variant).inc()

    def count_restored(self, topic: str, rows: int) -> None:
        """Add changelog rows that a restore has read."""
        _check_topic(topic)
        self._restored.labels(topic).inc(rows)

    def observe_batch(self, topic: str, records: int) -> None:
        """Record the size of one fetched partition batch."""
        _check_topic(topic)
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

    def set_lag(self, topic: str, partition: int, records: int) -> None:
        """Set how many records lie between the read position of a partition and its end."""
        _check_topic(topic)
        self._lags.add((topic, partition))
        self._lag.labels(topic, str(partition)).set(records)

    def drop_lag(self, topic: str, partition: int) -> None:
        """Forget a partition that is no longer ours; otherwise its last lag would be shown for ever."""
        if (topic, partition) in self._lags:
            self._lags.remove((topic, partition))
            self._lag.remove(topic, str(partition))

    def set_state(self, kind: str, *, rows: int, nbytes: int) -> None:
        """Set the size of one kind of state, e.g. "users", "items", "neighbours", "slates"."""
        self._state_rows.labels(kind).set(rows)
        self._state_bytes.labels(kind).set(nbytes)

    def set_release(self, version: str, provider: str) -> None:
        """Name the release and the ONNX Runtime provider in use; the former one disappears."""
        self._release.clear()
        self._release.labels(version, provider).set(1)

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
        return Counter(f"slatestream_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"slatestream_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(f"slatestream_{name}", text, labels, registry=self.registry, buckets=buckets)


def _check_topic(topic: str) -> None:
    if topic not in TOPICS:
        raise _unknown("topic", topic, TOPICS)


def _bind2(
    metric: Counter, first: tuple[str, ...], second: tuple[str, ...]
) -> dict[tuple[str, str], _Addable]:
    return {(a, b): metric.labels(a, b) for a in first for b in second}
