"""Deletions and erasures, and those among them whose key names nobody: what was asked for is not done."""

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from streams.kafka.placement import WARN_EVERY_S
from streams.metrics import Metrics

log = logging.getLogger(__name__)


class Deletions:
    """Counts them by topic, and says what a key must be where one names nobody, at most once a minute."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._unknown: Counter[str] = Counter()
        self._warned_s: dict[str, float] = {}

    def count(self, name: str, n: int, unknown: Sequence[Any]) -> None:
        """Count n deletions of what is known, and the records of those whose key names nobody."""
        self._metrics.count_events(name, "tombstone", n)
        if not unknown:
            return
        self._metrics.count_events(name, "unknown", len(unknown))
        self._unknown[name] += len(unknown)
        now = time.monotonic()
        if now - self._warned_s.get(name, -math.inf) >= WARN_EVERY_S:
            self._warned_s[name] = now
            log.warning(
                "%s: %d deletion(s) so far of an id that is not known, such as partition %d offset %d. They "
                "delete nothing: a key must be the id itself, without a JSON serializer's quotation marks.",
                name, self._unknown[name], unknown[0].partition, unknown[0].offset,
            )  # fmt: skip
