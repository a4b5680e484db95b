"""What a worker knows of an item: for the item's page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_core.signals.co_visitation_kernels import UNIT
from online_learning.statistics.arms import ArmStatistics
from streams.serving.eligibility import Eligibility
from streams.state.catalogue import MAX_EDGES
from streams.state.item_index import key_of
from streams.state.shard import Shard
from streams.state.shared import SharedState

SHOWN = 20  # neighbours


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item that users meet together with another."""

    item_id: str
    title: str
    weight: float


@dataclass(frozen=True, slots=True)
class Arm:
    """What the live policy has counted of an item, in the partitions of this worker."""

    shown: int
    rewarded: int


@dataclass(frozen=True, slots=True)
class Item:
    """An item as the state has it; arm is None where the policy learns nothing of items one by one."""

    item_id: str
    title: str
    described: bool
    encoded: bool
    eligible: bool
    published_ms: int
    popularity: int
    edges: Sequence[tuple[str, str]]
    neighbours: Sequence[Neighbour]
    arm: Arm | None


def read_item(
    shared: SharedState, eligibility: Eligibility, shards: Sequence[Shard], item_id: str
) -> Item | None:
    """Return what is known of an item; None of one that was neither described nor met."""
    row = shared.index.row_of(item_id)
    if row < 0:
        return None
    catalogue, bits = shared.catalogue, eligibility.bits
    entities, relations, mask = (column[0] for column in catalogue.edges(np.array([row]), MAX_EDGES))
    edges = zip(relations[mask].tolist(), entities[mask].tolist(), strict=True)
    return Item(
        item_id=item_id,
        title=catalogue.title(row),
        described=catalogue.exists(row),
        encoded=eligibility.is_encoded(row),
        eligible=row < len(bits) and bool(bits[row]),
        published_ms=max(0, int(catalogue.published_ms(np.array([row]))[0])),
        popularity=sum(int(part.popularity[row]) for part in shared.parts if row < part.n_items),
        edges=[(catalogue.relations[relation], catalogue.entities[entity]) for relation, entity in edges],
        neighbours=_neighbours(shared, row),
        arm=_arm(shards, item_id),
    )


def _neighbours(shared: SharedState, row: int) -> list[Neighbour]:
    weights: dict[int, int] = {}
    for part in shared.parts:
        if row < part.n_items:
            _, others, counts = part.neighbours_of(np.array([row], np.int32))
            for other, count in zip(others.tolist(), counts.tolist(), strict=True):
                weights[other] = weights.get(other, 0) + count
    best = sorted(weights, key=lambda other: -weights[other])[:SHOWN]
    ids, title = shared.index.ids, shared.catalogue.title
    return [Neighbour(ids[one], title(one), weights[one] / UNIT) for one in best if weights[one] > 0]


def _arm(shards: Sequence[Shard], item_id: str) -> Arm | None:
    key, shown, rewarded, by_arm = key_of(item_id), 0, 0, False
    for shard in shards:
        if isinstance(shard.statistics, ArmStatistics):
            by_arm = True
            at = np.flatnonzero(shard.statistics.arms == key)
            if len(at):
                counts = shard.statistics.counts[:, at[0]]
                shown, rewarded = shown + int(counts[0]), rewarded + int(counts[1])
    return Arm(shown, rewarded) if by_arm else None
