"""Whether users are on the partition that their id hashes to."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.kafka.partitioner import partition_of, partitions_of, partitions_of_bytes
from streams.metrics import Metrics

log = logging.getLogger(__name__)

FEW = 8  # users for whom a call of compiled code would cost more than it spares


class Placement:
    """Counts users whose key belongs to another partition, and says once a topic what to set."""

    def __init__(self, partitions: int, metrics: Metrics) -> None:
        self._partitions = partitions
        self._metrics = metrics
        self._warned: set[str] = set()

    def check(self, name: str, partition: int, user_ids: Sequence[str]) -> None:
        """Look at users met on a partition of the topic `name`."""
        if len(user_ids) <= FEW:
            self._count(name, sum(partition_of(user, self._partitions) != partition for user in user_ids))
        else:
            homes = partitions_of(user_ids, self._partitions)
            self._count(name, int(np.count_nonzero(homes != partition)))

    def check_bytes(
        self, name: str, partition: int, data: NDArray[np.uint8], spans: NDArray[np.int64]
    ) -> None:
        """Look at users as `check`, by the bytes of their ids; see `partitions_of_bytes`."""
        homes = partitions_of_bytes(data, spans, self._partitions)
        self._count(name, int(np.count_nonzero(homes != partition)))

    def _count(self, name: str, wrong: int) -> None:
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
