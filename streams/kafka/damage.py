"""Batches of records that cannot be read: they are too large, or a disk or a network has changed them."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from streams.kafka.decompress import MOST_BYTES

log = logging.getLogger(__name__)

TRIES = 3
Told = Callable[[str, int, int, int], None]


class Damage:
    """Lets a damaged batch be fetched again, for it may be whole on the broker; then it is lost.

    Parameters
    ----------
    told : called with the topic, the partition, and the first offset that is lost and the one after the last
    """

    def __init__(self, told: Told = lambda topic, partition, first, after: None) -> None:
        self._told = told
        self._tries: Counter[tuple[str, int, int]] = Counter()

    def is_lost(self, tp: Any, first: int, after: int) -> bool:
        """Return whether a reader is to go on behind a damaged batch; if not, it is to fetch it again."""
        at = (tp.topic, tp.partition, first)
        self._tries[at] += 1
        if self._tries[at] < TRIES:
            return False
        self._tries.clear()
        log.error(
            "%s [%d]: offsets %d to %d are damaged on the broker, or more than %d MiB when decompressed, "
            "and left out: their effect is lost", *at, after - 1, MOST_BYTES >> 20,
        )  # fmt: skip
        self._told(tp.topic, tp.partition, first, after)
        return True
