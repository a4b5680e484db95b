"""Rows of followed topics that cannot be read: damaged ones, and those of a later version."""

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping

from streams.kafka.placement import WARN_EVERY_S
from streams.metrics import Metrics

log = logging.getLogger(__name__)


class Unreadable:
    """Counts them by topic, and says of one what is wrong with it, at most once a minute.

    Parameters
    ----------
    names : of the topics, by their full names
    """

    def __init__(self, names: Mapping[str, str], metrics: Metrics) -> None:
        self._names = names
        self._metrics = metrics
        self._found: Counter[str] = Counter()
        self._said_s: dict[str, float] = {}

    def count(self, topic: str, partition: int, offset: int, error: ValueError) -> None:
        """Count a row that is left out, and why."""
        self._metrics.count_events(self._names[topic], "unreadable", 1)
        self._found[topic] += 1
        now = time.monotonic()
        if now - self._said_s.get(topic, -math.inf) >= WARN_EVERY_S:
            self._said_s[topic] = now
            log.error(
                "%s: %d row(s) so far are left out, such as partition %d offset %d: %s",
                topic, self._found[topic], partition, offset, error,
            )  # fmt: skip
