"""The state of the worker as a whole: readiness, what it holds, and who owns which partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from streams.state.shard import Shard

LAGS = {"slatestream_lag_records": "records", "slatestream_lag_seconds": "seconds"}
CHECKS = {
    "catalogue_caught_up": "catalogue read",
    "topics_caught_up": "topics caught up",
    "items_encoded": "items encoded",
    "broker_answers": "broker answers",
    "topics_as_wanted": "topics as wanted",
    "assigned": "partitions assigned",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One of the things that readiness consists of."""

    name: str
    ok: bool


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """A partition: what it holds and how far it is behind where it is this worker's, else where its owner is.

    Attributes
    ----------
    lag : records not yet processed by topic
    waiting_s : for how long the oldest of them has been waiting
    """

    partition: int
    here: bool
    restored: bool
    owner: str | None
    users: int = 0
    open_slates: int = 0
    clicks: int = 0
    lag: Mapping[str, int] | None = None
    waiting_s: float = 0.0


def checks_of(readiness: Mapping[str, Any]) -> list[Check]:
    """Return what readiness consists of, as a person says it."""
    found = [Check(label, bool(readiness[name])) for name, label in CHECKS.items()]
    restored, owned = readiness["partitions_restored"], readiness["partitions"]
    return [*found, Check(f"{restored} of {owned} partitions restored", restored == owned)]


def lags_of(registry: CollectorRegistry) -> dict[int, dict[str, dict[str, float]]]:
    """Return lag by partition, then "records" or "seconds", then topic."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for family in registry.restricted_registry(tuple(LAGS)).collect():
        for name, labels, value, *_ in family.samples:
            of_partition = found.setdefault(int(labels["partition"]), {unit: {} for unit in LAGS.values()})
            of_partition[LAGS[name]][labels["topic"]] = value
    return found


def partition_rows(
    n: int,
    *,
    owned: Sequence[int],
    shards: Sequence[Shard],
    owners: Mapping[int, str | None],
    lags: Mapping[int, Mapping[str, Mapping[str, float]]],
) -> list[PartitionRow]:
    """Return every partition of the deployment.

    Parameters
    ----------
    owned : this worker's
    owners : URL of the worker that answers for each of the others, None where nobody has said so
    """
    restored = {shard.partition: shard for shard in shards}
    rows = []
    for partition in range(n):
        shard, here = restored.get(partition), partition in owned
        if shard is None:
            rows.append(PartitionRow(partition, here, False, owners.get(partition)))
            continue
        lag = lags.get(partition, {"records": {}, "seconds": {}})
        rows.append(
            PartitionRow(
                partition=partition,
                here=here,
                restored=True,
                owner=None,
                users=shard.profiles.n_live,
                open_slates=len(shard.slates),
                clicks=shard.clicks.position,
                lag={topic: int(records) for topic, records in sorted(lag["records"].items())},
                waiting_s=max(lag["seconds"].values(), default=0.0),
            )
        )
    return rows
