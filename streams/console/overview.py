"""The state of the worker as a whole: readiness, what it holds, and who owns which partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from streams.state.shard import Shard
from streams.worker.scrape import Worker

LAGS = {"slatestream_lag_records": "records", "slatestream_lag_seconds": "seconds"}
CHECKS = {
    "catalogue_caught_up": "catalogue read",
    "topics_caught_up": "topics caught up",
    "items_encoded": "items encoded",
    "broker_answers": "broker answers",
    "topics_as_wanted": "topics as wanted",
    "assigned": "partitions assigned",
}


Lag = dict[str, tuple[int, float]]
"""Records that wait and seconds that the oldest has waited, by topic."""


@dataclass(frozen=True, slots=True)
class Check:
    """One of the things that readiness consists of."""

    name: str
    ok: bool


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """A partition: its state and lag if this worker owns it, else its owner's URL.

    Attributes
    ----------
    lag : waiting records by topic; None if unknown
    """

    partition: int
    here: bool
    restored: bool
    owner: str | None
    users: int = 0
    open_slates: int = 0
    clicks: int = 0
    lag: Lag | None = None

    @property
    def records(self) -> int | None:
        """Records that wait, over all topics."""
        return None if self.lag is None else sum(records for records, _ in self.lag.values())

    @property
    def waiting_s(self) -> float | None:
        """For how long the oldest of them has waited."""
        return None if self.lag is None else max((seconds for _, seconds in self.lag.values()), default=0.0)


def checks_of(readiness: Mapping[str, Any]) -> list[Check]:
    """Return what readiness consists of, as a person says it."""
    found = [Check(label, bool(readiness[name])) for name, label in CHECKS.items()]
    restored, owned = readiness["partitions_restored"], readiness["partitions"]
    return [*found, Check(f"{restored} of {owned} partitions restored", restored == owned)]


def own_lags(registry: CollectorRegistry) -> dict[int, Lag]:
    """Return the lag of this worker's partitions."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for family in registry.restricted_registry(tuple(LAGS)).collect():
        for name, labels, value, *_ in family.samples:
            found.setdefault(int(labels["partition"]), {}).setdefault(labels["topic"], {})[LAGS[name]] = value
    return {
        partition: {topic: (int(one.get("records", 0)), one.get("seconds", 0.0)) for topic, one in by.items()}
        for partition, by in found.items()
    }


def lags_of(workers: Sequence[Worker]) -> dict[int, Lag]:
    """Return the lag of every partition that a worker says something of."""
    found: dict[int, Lag] = {}
    for worker in workers:
        for topic, by_partition in worker.lag.items():
            for partition, lag in by_partition.items():
                found.setdefault(partition, {})[topic] = lag
    return found


def partition_rows(
    n: int,
    *,
    owned: Sequence[int],
    shards: Sequence[Shard],
    owners: Mapping[int, str | None],
    lags: Mapping[int, Lag],
) -> list[PartitionRow]:
    """Return every partition of the deployment.

    Parameters
    ----------
    owned : partitions of this worker
    owners : URL of each other partition's owner; None if unknown
    """
    restored = {shard.partition: shard for shard in shards}
    rows = []
    for partition in range(n):
        shard, here = restored.get(partition), partition in owned
        if shard is None:
            rows.append(PartitionRow(partition, here, False, owners.get(partition), lag=lags.get(partition)))
            continue
        rows.append(
            PartitionRow(
                partition=partition,
                here=here,
                restored=True,
                owner=None,
                users=shard.profiles.n_live,
                open_slates=len(shard.slates),
                clicks=shard.clicks.position,
                lag=lags.get(partition, {}),
            )
        )
    return rows
