"""Describes a user or an item as a worker knows it; cheap enough not to slow requests."""

import numpy as np
from numpy.typing import NDArray

from model_core.signals.neighbour_groups import UNIT
from streams.api.answers import ItemState, Met, UserState, Weighed
from streams.serving.eligibility import Eligibility
from streams.settings import Settings
from streams.state.catalogue import MAX_EDGES
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.worker.suspects import Suspects

SHOWN = 50
"""Events, affinities and neighbours that are told, each."""


class Inspector:
    """Reads the state on the event loop: a millisecond for a user of a thousand events, less for an item."""

    def __init__(
        self, settings: Settings, shared: SharedState, eligibility: Eligibility, suspects: Suspects
    ) -> None:
        self._suspects = suspects
        self._shared = shared
        self._eligibility = eligibility
        self._depth = settings.history_limit
        self._half_life_ms = settings.affinity_half_life_ms
        self._actions = tuple(settings.actions)
        self._weights = np.array(list(settings.actions.values()), np.float64)

    def user(self, user_id: str, shard: Shard) -> UserState | None:
        """Return what is known of a user of a partition that is owned; None of one who never came."""
        index, catalogue = self._shared.index, self._shared.catalogue
        with shard.users_lock:
            profiles = shard.profiles
            row = profiles.row_of(user_id)
            if row < 0:
                return None
            items, codes, times = profiles.history(row, self._depth)
            counts, events = profiles.counts(row).tolist(), profiles.events(row)
            said = profiles.stated.of(row)
            offset = shard.seen_offset
            mark = profiles.quarantine.of(user_id)
            liked = profiles.positive[codes]
        latest = zip(items[::-1][:SHOWN].tolist(), codes[::-1].tolist(), times[::-1].tolist(), strict=False)
        ages = (times.max(initial=0) - times) / self._half_life_ms
        return UserState(
            user_id=user_id,
            events=events,
            actions={name: n for name, n in zip(self._actions, counts, strict=False) if n},
            history=[
                Met(index.ids[i], catalogue.title(i), self._actions[code], at) for i, code, at in latest
            ],
            affinities=self._affinities(items, self._weights[codes] * 0.5**ages),
            attributes=said.attributes,
            preferences=said.preferences,
            blocked_items=[index.ids[one] for one in said.blocked.tolist()],
            partition=shard.partition,
            clicks_offset=offset,
            quarantined=mark is not None and mark.lasts,
            suspicion=self._suspects.of_events(items, liked),
            friends=len(said.friends),
        )

    def _affinities(self, items: NDArray[np.int64], weights: NDArray[np.float64]) -> list[Weighed]:
        """Sum the weights of events over the entities of their items, the largest first."""
        catalogue = self._shared.catalogue
        entities, _, mask = catalogue.edges(items, MAX_EDGES)
        spread = np.broadcast_to(weights[:, None], mask.shape)
        rows, places = np.unique(entities[mask], return_inverse=True)
        sums = np.bincount(places, spread[mask], minlength=len(rows))
        best = np.argsort(-sums, kind="stable")[:SHOWN].tolist()
        names = catalogue.entities
        return [Weighed(names[rows[one]], round(float(sums[one]), 6)) for one in best if sums[one]]

    def item(self, item_id: str) -> ItemState | None:
        """Return what is known of an item; None of one that was neither described nor met."""
        shared = self._shared
        row = shared.index.row_of(item_id)
        if row < 0:
            return None
        catalogue = shared.catalogue
        entities, relations, mask = catalogue.edges(np.array([row]), MAX_EDGES)
        edges = [
            (catalogue.relations[relation], catalogue.entities[entity])
            for entity, relation, there in zip(
                entities[0].tolist(), relations[0].tolist(), mask[0].tolist(), strict=True
            )
            if there
        ]
        published = int(catalogue.published_ms(np.array([row]))[0])
        bits = self._eligibility.bits
        return ItemState(
            item_id=item_id,
            title=catalogue.title(row),
            described=catalogue.exists(row),
            eligible=row < len(bits) and bool(bits[row]),
            edges=edges,
            popularity=sum(int(part.popularity[row]) for part in shared.parts if row < part.n_items),
            neighbours=self._neighbours(row),
            published_ms=published or None,
        )

    def _neighbours(self, row: int) -> list[Weighed]:
        """Return the items that occur together with an item, over all partitions, largest weight first."""
        shared = self._shared
        weights: dict[int, int] = {}
        for part in shared.parts:
            if row < part.n_items:
                _, others, counts = part.neighbours_of(np.array([row], np.int32))
                for other, count in zip(others.tolist(), counts.tolist(), strict=True):
                    weights[other] = weights.get(other, 0) + count
        best = sorted(weights, key=lambda other: -weights[other])[:SHOWN]
        ids, title = shared.index.ids, shared.catalogue.title
        return [Weighed(ids[one], weights[one] / UNIT, title(one)) for one in best if weights[one] > 0]
