"""Whether users are on the partition that their id hashes to."""

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.kafka.partitioner import partition_of, partitions_of, partitions_of_bytes
from streams.metrics import Metrics

log = logging.getLogger(__name__)

WARN_EVERY_S = 60.0
FEW = 8  # users for whom a call of compiled code would cost more than it spares


class Placement:
    """Counts records of users of another partition, and says what to set, at most once a minute."""

    def __init__(self, partitions: int, metrics: Metrics) -> None:
        self._partitions = partitions
        self._metrics = metrics
        self._warned_s: dict[str, float] = {}
        self._wrong: Counter[str] = Counter()

    def check(self, name: str, partition: int, user_ids: Sequence[str]) -> None:
        """Look at the users of records of a partition of the topic `name`, one a record."""
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
        self._wrong[name] += wrong
        now = time.monotonic()
        if now - self._warned_s.get(name, -math.inf) >= WARN_EVERY_S:
            self._warned_s[name] = now
            log.warning(
                "%s: %d record(s) so far on partitions that their user does not hash to. Set the producer's "
                "partitioner to murmur2 (librdkafka: partitioner=murmur2_random) and keep %d partitions on "
                "every user-keyed topic; until then such a user's profile is split.",
                name, self._wrong[name], self._partitions,
            )  # fmt: skip
