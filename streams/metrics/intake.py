"""Metrics of a worker's input, and of records that the broker refuses."""

from streams.events import DEAD_LETTER_REASONS
from streams.metrics.registry import Registered, bound, check, unknown
from streams.metrics.tables import BATCH, EVENTS, INPUTS, KEYED_BY_USER, PRODUCED

REASON_LABELS = (*DEAD_LETTER_REASONS, "other")


class Intake(Registered):
    """Records, dead letters and lag, by topic."""

    def __init__(self) -> None:
        super().__init__()
        self._events = bound(
            self.counter("events", "Records by topic and outcome.", ("topic", "outcome")),
            *((topic, outcome) for topic, outcomes in EVENTS.items() for outcome in outcomes),
        )
        self.clicks_bounded = self.counter(
            "clicks_bounded", "Accepted clicks left out of shared statistics by influence_per_hour."
        )
        self.clicks_held = self.counter(
            "clicks_held", "Accepted clicks of users in quarantine: left out of shared statistics."
        )
        self._dead = self.counter(
            "dead_letters", "Records sent to dead-letters, and why.", ("topic", "reason")
        )
        self._wrong = bound(
            self.counter(
                "wrong_partition", "Records whose key belongs to another partition (murmur2).", ("topic",)
            ),
            *((topic,) for topic in KEYED_BY_USER),
        )
        self._mismatch = bound(
            self.counter("key_mismatch", "Records whose key is not their user_id.", ("topic",)),
            *((topic,) for topic in KEYED_BY_USER),
        )
        batch = self.histogram("batch_records", "Records per batch.", ("topic",), BATCH)
        self._batch = {topic: batch.labels(topic) for topic in INPUTS}
        by_partition = ("topic", "partition")
        self._lag = self.gauge("lag_records", "Records not yet processed.", by_partition)
        self._lag_s = self.gauge(
            "lag_seconds", "For how long the oldest of them has been waiting; 0 without any.", by_partition
        )
        self._lags: set[tuple[str, int]] = set()
        self._mapping_lag = self.gauge(
            "mapping_lag_records", "Records of a repartitioned topic not yet copied to ours.", ("topic",)
        )
        self._mapping_lag_s = self.gauge(
            "mapping_lag_seconds", "For how long the oldest of them has been waiting.", ("topic",)
        )
        self.broker_reachable = self.gauge(
            "broker_reachable", "1 while the consumer group has answered within its session timeout."
        )

        self._trimmed = bound(
            self.counter("records_trimmed", "Records deleted or damaged before they were read.", ("topic",)),
            *((topic,) for topic in INPUTS),
        )
        self.logs_replaced = self.counter(
            "logs_replaced", "Partitions restored of a topic that was deleted and made anew."
        )
        self.topic_faults = self.gauge(
            "topic_faults", "Topics that are missing, or have other partitions than wanted."
        )
        self._produce_errors = bound(
            self.counter(
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
            check(topic, EVENTS)
            raise unknown("outcome", outcome, EVENTS[topic])
        child.inc(n)

    def count_dead_letters(self, topic: str, reason: str, n: int = 1) -> None:
        """Add n dead letters; they are counted as events with outcome "dead_letter" too."""
        check(topic, INPUTS)
        self._dead.labels(topic, reason if reason in REASON_LABELS else "other").inc(n)
        self._events[topic, "dead_letter"].inc(n)

    def count_produce_error(self, topic: str) -> None:
        """Add a time that the broker did not take rows of a topic."""
        check(topic, PRODUCED)
        self._produce_errors[(topic,)].inc()

    def count_wrong_partition(self, topic: str, n: int = 1) -> None:
        """Add n records that another partitioner put where their key does not belong."""
        check(topic, KEYED_BY_USER)
        self._wrong[(topic,)].inc(n)

    def count_trimmed(self, topic: str, n: int) -> None:
        """Add n records that were deleted before they were read."""
        check(topic, INPUTS)
        self._trimmed[(topic,)].inc(n)

    def count_key_mismatches(self, topic: str, n: int = 1) -> None:
        """Add n records whose key is missing or is not the user_id of their value."""
        check(topic, KEYED_BY_USER)
        self._mismatch[(topic,)].inc(n)

    def observe_batch(self, topic: str, records: int) -> None:
        """Record the size of one fetched partition batch."""
        check(topic, INPUTS)
        self._batch[topic].observe(records)

    def set_lag(self, topic: str, partition: int, *, records: int, seconds: float) -> None:
        """Set how many records of a partition are not yet processed, and how long the oldest has waited."""
        check(topic, INPUTS)
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
        check(topic, INPUTS)
        self._mapping_lag.labels(topic).set(records)
        self._mapping_lag_s.labels(topic).set(seconds)
