"""Whether users are on the partition that their id hashes to."""

import logging
from collections.abc import Sequence

import numpy as np

from streams.kafka.partitioner import partitions_of
from streams.metrics import Metrics

log = logging.getLogger(__name__)


class Placement:
    """Counts users whose key belongs to another partition, and says once a topic what to set."""

    def __init__(self, partitions: int, metrics: Metrics) -> None:
        self._partitions = partitions
        self._metrics = metrics
        self._warned: set[str] = set()

    def check(self, name: str, partition: int, user_ids: Sequence[str]) -> None:
        """Look at users met on a partition of the topic `name`."""
        homes = partitions_of(user_ids, self._partitions)
        wrong = int(np.count_nonzero(homes != partition))
        if not wrong:
            return
        self._metrics.count_wrong_partition(name, wrong)
        if name not in self._warned:
            self._warned.add(name)
            log.warning(
                "%s: users on partitions that their key does not hash to. Set the producer's partitioner to "
                "murmur2 (librdkafka: partitioner=murmur2_random) and keep %d partitions on every user-keyed "
                "topic; until then such a user's profile is split.",
                name, self._partitions,
            )  # fmt: skip
