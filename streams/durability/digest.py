"""The test of truth: state folded from a log offline, and a digest to compare it with live state by.

The digest covers what is portable (users by id, items by key), so two processes that number rows
differently, or got to the same state through restarts, agree.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model_core.signals.co_visitation import CoVisitation
from streams.durability.profile_rows import all_rows
from streams.events import Click
from streams.state.click_fold import fold_clicks
from streams.state.item_index import ItemIndex, keys_of
from streams.state.profiles import Profiles
from streams.state.rows import covisit_key

FOLD_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Folded:
    """State by partition."""

    index: ItemIndex
    profiles: dict[int, Profiles] = field(default_factory=dict)
    covisits: dict[int, CoVisitation] = field(default_factory=dict)

    def digest(self) -> str:
        """See `digest`."""
        return digest(self.index, self.profiles, self.covisits)


def fold(
    logs: Mapping[int, Iterable[tuple[int, Click]]],
    *,
    actions: Sequence[str],
    positive: Collection[str],
    history_limit: int,
    neighbours: int,
    pairing: Mapping[str, Any],
) -> Folded:
    """Fold click logs from the beginning.

    Parameters
    ----------
    logs
        By partition, the offset and value of every accepted click, offsets increasing.
    pairing
        How events are paired: `SignalConfig.pairing` of the release.
    """
    folded = Folded(ItemIndex())
    for partition, log in logs.items():
        profiles = Profiles(partition, history_limit=history_limit, actions=actions, positive=positive)
        covisits = CoVisitation(neighbours=neighbours, **pairing)
        folded.profiles[partition], folded.covisits[partition] = profiles, covisits
        events = list(log)
        for begin in range(0, len(events), FOLD_BATCH):
            fold_batch(profiles, covisits, folded.index, events[begin : begin + FOLD_BATCH])
    return folded


def fold_batch(
    profiles: Profiles, covisits: CoVisitation, index: ItemIndex, events: Sequence[tuple[int, Click]]
) -> list[int]:
    """Fold (offset, click) pairs; return the outcome of each, as `fold_clicks`."""
    codes = {name: code for code, name in enumerate(profiles.actions)}
    clicks = [click for _, click in events]
    outcomes = fold_clicks(
        profiles,
        covisits,
        index,
        users=profiles.rows_of([click.user_id for click in clicks]),
        items=index.rows_of([click.item_id for click in clicks]),
        actions=np.array([codes[click.action] for click in clicks], np.uint8),
        times=np.array([click.timestamp_ms for click in clicks], np.int64),
        event_keys=keys_of([click.event_id for click in clicks]),
        offsets=np.array([offset for offset, _ in events], np.int64),
    )
    return [int(outcome) for outcome in outcomes]


def digest(index: ItemIndex, profiles: Mapping[int, Profiles], covisits: Mapping[int, CoVisitation]) -> str:
    """Hex digest of users and item statistics; the same for the same state, whatever the row numbers."""
    total = hashlib.blake2b(digest_size=16)
    for partition, part in sorted(profiles.items()):
        for key, value in sorted(all_rows(part, index)):
            total.update(b"user%d" % partition + key + (value or b""))
    for partition, counts in sorted(covisits.items()):
        for row in sorted(_covisit_rows(index, counts, partition)):
            total.update(row)
    return total.hexdigest()


def _covisit_rows(index: ItemIndex, covisits: CoVisitation, partition: int) -> list[bytes]:
    rows = np.flatnonzero(covisits.applied >= 0).astype(np.int32)
    bounds, others, counts = covisits.neighbours_of(rows)
    neighbours = index.keys[others]
    order = np.lexsort((neighbours, np.repeat(np.arange(len(rows)), np.diff(bounds))))
    pairs = np.stack((neighbours, counts.astype(np.uint64)), axis=1)[order].astype("<u8")
    numbers = np.stack((covisits.applied[rows], covisits.popularity[rows]), axis=1).astype("<i8")
    moments = covisits.moments_of(rows)
    return [
        covisit_key(partition, key)
        + numbers[i].tobytes()
        + moments[i].tobytes()
        + pairs[bounds[i] : bounds[i + 1]].tobytes()
        for i, key in enumerate(index.keys[rows].tolist())
    ]
