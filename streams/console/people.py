"""Data of the users' page: the latest users, what each policy would show one, and why."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streams.api.answers import Explanation, UserState
from streams.events import Request
from streams.serving.explainer import ExplanationError
from streams.serving.lane import Lane
from streams.serving.previews import Preview
from streams.state.shard import Shard
from streams.state.shared import SharedState

LATEST = 20
"""Users who are listed."""
FADED = 0.005
"""Share below which an affinity is not shown."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A user who has been there: of how many events, and when the last one was, in Unix milliseconds."""

    user_id: str
    events: int
    last_ms: int


async def latest_users(shards: Sequence[Shard], *, most: int = LATEST) -> list[Seen]:
    """Return the users of some partitions whose latest event is newest."""
    return await asyncio.to_thread(_latest, shards, most)


def _latest(shards: Sequence[Shard], most: int) -> list[Seen]:
    found = []
    for shard in shards:
        with shard.users_lock:
            profiles = shard.profiles
            rows = np.flatnonzero(~profiles.ids.gone).astype(np.int32)
            last_ms = profiles.last_ms(rows)
            newest = np.argsort(-last_ms, kind="stable")[:most]
            found += [
                Seen(profiles.ids.text(row), profiles.events(row), ms)
                for row, ms in zip(rows[newest].tolist(), last_ms[newest].tolist(), strict=True)
                if ms > 0
            ]
    return sorted(found, key=lambda one: -one.last_ms)[:most]


def near(person: UserState) -> list[tuple[str, float]]:
    """Return the entities that a user is near to, and the share of each in what was done of late."""
    total = sum(abs(one.weight) for one in person.affinities)
    return [(one.name, one.weight / total) for one in person.affinities if abs(one.weight) > FADED * total]


@dataclass(frozen=True, slots=True)
class Choice:
    """The slates that each policy would show a user, the live one first, and why one item is in it.

    Attributes
    ----------
    release : version of the release that scored them
    places : position, from 1, of each item of the live policy's slate
    """

    release: str
    slates: Sequence[Preview]
    titles: Mapping[str, str]
    places: Mapping[str, int]
    explained: Explanation | None
    unexplained: str = ""


async def choose_for(
    lane: Lane,
    shared: SharedState,
    shard: Shard,
    user_id: str,
    *,
    k: int,
    why: str,
) -> Choice:
    """Return what the user would be shown now, without showing it.

    Parameters
    ----------
    lane : serves the user
    why : id of the item to explain; "" for the first of the slate
    """
    # The hour, and not the moment, is in the id: looked at again, the coins of a policy fall the same way.
    request_id = f"console {int(time.time()) // 3600} {user_id}"
    request = Request(request_id=request_id, user_id=user_id, timestamp_ms=int(1000 * time.time()), k=k)
    slates = await lane.previews.of(request, shard)
    ids = {item.item_id for slate in slates for item in slate.slate}
    rows = {item_id: shared.index.row_of(item_id) for item_id in ids}
    titles = {item_id: shared.catalogue.title(row) for item_id, row in rows.items()}
    places = {item.item_id: place for place, item in enumerate(slates[0].slate, start=1)}
    explained, unexplained = None, ""
    if item_id := why or next(iter(places), ""):
        try:
            explained = await lane.explainer.explain(user_id, item_id, shard.partition)
        except ExplanationError as error:
            unexplained = str(error)
    else:
        unexplained = "there is no item to explain"
    return Choice(lane.version, slates, titles, places, explained, unexplained)
