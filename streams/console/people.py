"""What a worker knows of a user, and what it would show them: for the user's page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.events import Explanation, Request
from streams.serving.explainer import Explainer, ExplanationError
from streams.serving.previews import Preview, Previews
from streams.settings import Settings
from streams.state.catalogue import MAX_EDGES, Catalogue
from streams.state.shard import Shard
from streams.state.shared import SharedState

SHOWN = 30  # events and affinities


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a user did."""

    item_id: str
    title: str
    action: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Affinity:
    """How near a user is to an entity: weights of their actions, halved with each half-life of age."""

    entity: str
    weight: float


@dataclass(frozen=True, slots=True)
class Person:
    """A user as the state has them; history, newest first, and affinities are the first `SHOWN`."""

    user_id: str
    partition: int
    events: int
    actions: dict[str, int]
    history: Sequence[Event]
    affinities: Sequence[Affinity]
    attributes: dict[str, str]
    preferences: Sequence[str]
    blocked: Sequence[str]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user would be shown, by every policy, the serving one first, and why one item of it."""

    slates: Sequence[Preview]
    titles: dict[str, str]
    explained: Explanation | None
    unexplained: str = ""


def read_person(settings: Settings, shared: SharedState, shard: Shard, user_id: str) -> Person | None:
    """Return what is known of a user of an owned partition; None of one who never came.

    It reads on the event loop what its own thread alone may change, in well below a millisecond.
    """
    actions, catalogue = tuple(settings.actions), shared.catalogue
    with shard.users_lock:
        profiles = shard.profiles
        row = profiles.row_of(user_id)
        if row < 0:
            return None
        items, codes, times = profiles.history(row, settings.history_limit)
        counts, events = profiles.counts(row).tolist(), profiles.events(row)
        attributes, preferences = profiles.attributes(row), profiles.preferences(row)
        blocked = profiles.blocked(row).tolist()
    latest = list(zip(items.tolist(), codes.tolist(), times.tolist(), strict=True))[: -SHOWN - 1 : -1]
    ages = (times.max(initial=0) - times) / settings.affinity_half_life_ms
    weights = np.array(list(settings.actions.values()))[codes] * 0.5**ages
    return Person(
        user_id=user_id,
        partition=shard.partition,
        events=events,
        actions={name: n for name, n in zip(actions, counts, strict=False) if n},
        history=[Event(shared.index.ids[i], catalogue.title(i), actions[code], at) for i, code, at in latest],
        affinities=_affinities(catalogue, items, weights),
        attributes=attributes,
        preferences=preferences,
        blocked=[shared.index.ids[one] for one in blocked],
    )


def _affinities(
    catalogue: Catalogue, items: NDArray[np.int64], weights: NDArray[np.float64]
) -> list[Affinity]:
    entities, _, mask = catalogue.edges(items, MAX_EDGES)
    spread = np.broadcast_to(weights[:, None], mask.shape)
    rows, places = np.unique(entities[mask], return_inverse=True)
    sums = np.bincount(places, spread[mask], minlength=len(rows))
    best = np.argsort(-np.abs(sums), kind="stable")[:SHOWN].tolist()
    return [Affinity(catalogue.entities[rows[one]], float(sums[one])) for one in best if sums[one]]


async def choose_for(
    previews: Previews,
    explainer: Explainer,
    shared: SharedState,
    shard: Shard,
    user_id: str,
    k: int,
    why: str,
) -> Choice:
    """Return what the user would be shown now, without showing it.

    Parameters
    ----------
    why : id of the item to explain; "" for the first of the slate
    """
    # The hour, and not the moment, is in the id: looked at again, the coins of a policy fall the same way.
    request_id = f"console {int(time.time()) // 3600}"
    request = Request(request_id=request_id, user_id=user_id, timestamp_ms=int(1000 * time.time()), k=k)
    slates = await previews.of(request, shard)
    ids = {item.item_id for slate in slates for item in slate.slate}
    rows = {item_id: shared.index.row_of(item_id) for item_id in ids}
    titles = {item_id: shared.catalogue.title(row) for item_id, row in rows.items()}
    item_id = why or next((item.item_id for item in slates[0].slate), "")
    if not item_id:
        return Choice(slates, titles, None, "there is no item to explain")
    try:
        return Choice(slates, titles, await explainer.explain(user_id, item_id, shard.partition))
    except ExplanationError as error:
        return Choice(slates, titles, None, str(error))
