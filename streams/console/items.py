"""Data of the item's page: the live policy's counts of an item."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from online_learning.statistics.arms import ArmStatistics
from streams.state.item_index import key_of
from streams.state.shard import Shard

LISTED = 15
"""Items of each list that is shown where no item is asked for."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Impressions and rewards of an item under the live policy, in this worker's partitions."""

    shown: int
    rewarded: int


def read_arm(shards: Sequence[Shard], item_id: str) -> Arm | None:
    """Return what the live policy counted; None where it learns nothing of items one by one."""
    key, shown, rewarded, by_arm = key_of(item_id), 0, 0, False
    for shard in shards:
        if isinstance(shard.statistics.serving, ArmStatistics):
            by_arm = True
            at = np.flatnonzero(shard.statistics.serving.arms == key)
            if len(at):
                counts = shard.statistics.serving.counts[:, at[0]]
                shown, rewarded = shown + int(counts[0]), rewarded + int(counts[1])
    return Arm(shown, rewarded) if by_arm else None
