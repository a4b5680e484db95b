"""A device that asks under no user id, and ranks by itself: `Device`."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streams.on_device.diary import Diary, Told
from streams.on_device.files import DeviceError, keep_release, place_of, read_manifest
from streams.on_device.interests import SubsetSelection, check_epsilon
from streams.on_device.source import Listed, Source
from streams.on_device.tower import Floats, History, Items, Tower

ANCHORS = 32
"""Most popular items, of which a device names some."""
WIDE = 200
"""Items that it asks for, half of them popular; also the longest list that a worker gives."""
TRIES = 3  # while one release follows another


@dataclass(frozen=True, slots=True)
class Ranked:
    """An item of a device's slate; score is how probable a response is."""

    item_id: str
    title: str
    score: float


class Device:
    """Keeps a history in a folder, and makes slates of public lists.

    Of the history others learn only which of the most popular items are named: `epsilon` bounds how much one
    draw says of it, as `streams.on_device.interests` has it, and `budget` all draws together. The items are
    drawn anew when another release serves, as long as the budget allows; then those named last stay.

    Parameters
    ----------
    folder : of this device alone, and of one process at a time
    epsilon : of a draw; None names nothing, and only popular items are ranked
    budget : at least epsilon, and as much if left out: one draw
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        *,
        epsilon: float | None,
        budget: float | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if epsilon is not None:
            check_epsilon(epsilon)
            if budget is not None and not budget >= epsilon:
                raise ValueError(f"budget must be at least epsilon, {epsilon:g}, got {budget:g}")
        self._folder = folder
        self._source = source
        self._epsilon = epsilon
        self._budget = budget if budget is not None else epsilon or 0.0
        self._rng = rng or random.SystemRandom()
        self._diary = Diary(folder)
        self._tower: Tower | None = None

    @property
    def spent(self) -> float:
        """Epsilon of all that has been told of the history, ever."""
        return self._diary.told.spent

    @property
    def named(self) -> tuple[str, ...]:
        """Items that others are told."""
        return tuple(self._diary.told.named)

    def add(self, item_id: str, action: str, timestamp_ms: int) -> None:
        """Note what the user does. Nobody is told."""
        self._diary.add(item_id, action, timestamp_ms)

    def slate(self, k: int = 10, *, now_ms: int) -> list[Ranked]:
        """Return the best items of the lists, of those that the user has not met.

        Raises
        ------
        DeviceError
            If no worker answers, or what it says is not of one release.
        """
        if not 1 <= k <= WIDE:
            raise ValueError(f"k must be from 1 to {WIDE}, got {k}")
        for _ in range(TRIES):
            popular = self._source.popular(WIDE)
            if (tower := self._tower_of(popular.version)) is None:
                continue
            check_width(popular, tower)
            history = self._diary.history(tower.depth)
            known = {**self._diary.vectors(tower.version), **vectors_of(popular)}
            named = self._names(tower, history, known, popular.items, now_ms)
            lists = [popular, *self._similar(named)]
            if all(one.version == tower.version for one in lists):
                break
        else:
            raise DeviceError("the release that serves changes all the time: try again")
        for one in lists:
            check_width(one, tower)
        wide = joined(lists, met=self._diary.met, dim=tower.dim)
        for one in lists:
            known |= vectors_of(one)
        self._diary.keep(tower.version, known, wide.ids)
        scores = tower.score(history, known, wide, now_ms=now_ms)
        titles = {item: title for one in lists for item, title in one.titles.items()}
        best = np.argsort(-scores, kind="stable")[:k].tolist()
        return [Ranked(wide.ids[at], titles[wide.ids[at]], float(scores[at])) for at in best]

    def _tower_of(self, version: str) -> Tower | None:
        """Return a release, fetched if it is not here; None if another one serves already."""
        if self._tower is not None and self._tower.version == version:
            return self._tower
        releases = self._folder / "releases"
        try:
            self._tower = Tower(place_of(releases, version))
        except DeviceError:  # not here yet, or damaged
            contents = self._source.manifest()
            if read_manifest(contents)["version"] != version:
                return None
            self._tower = Tower(keep_release(releases, contents, self._source.file))
        return self._tower

    def _names(
        self, tower: Tower, history: History, known: dict[str, Floats], popular: Items, now_ms: int
    ) -> list[str]:
        told = self._diary.told
        if self._epsilon is None:
            return []
        anchors = first(popular, ANCHORS)
        renewed = told.version != tower.version and told.spent + self._epsilon <= self._budget + 1e-9
        if renewed and len(anchors.ids) >= 2:
            true = int(np.argmax(tower.score(history, known, anchors, now_ms=now_ms)))
            drawn = SubsetSelection(self._epsilon, len(anchors.ids)).draw(true, self._rng)
            named = [anchors.ids[place] for place in drawn]
            self._diary.tell(Told(named, tower.version, told.spent + self._epsilon))
        return self._diary.told.named

    def _similar(self, named: list[str]) -> list[Listed]:
        each = share_of(WIDE, len(named))
        found = [self._source.similar(item, each) for item in named]
        return [one for one in found if one is not None]


def check_width(listed: Listed, tower: Tower) -> None:
    """Raise DeviceError if vectors are none that the release has made."""
    if listed.items.ids and listed.items.vectors.shape[1] != tower.dim:
        got = listed.items.vectors.shape[1]
        raise DeviceError(f"a vector of release {tower.version} must have {tower.dim} numbers, got {got}")


def share_of(wide: int, named: int) -> int:
    """Return how many items each list of similar ones has: together, half of all."""
    return max(1, wide // 2 // max(1, named))


def first(items: Items, n: int) -> Items:
    """Return the first items."""
    return Items(items.ids[:n], items.vectors[:n], items.popularity[:n], items.met_with[:n])


def vectors_of(listed: Listed) -> dict[str, Floats]:
    """Return the vectors of a list by item."""
    return dict(zip(listed.items.ids, listed.items.vectors, strict=True))


def joined(lists: list[Listed], *, met: set[str], dim: int) -> Items:
    """Put lists of the same release together, each item once, and those met left out."""
    place: dict[str, tuple[Items, int]] = {}
    for one in lists:
        for at, item in enumerate(one.items.ids):
            if item not in met:
                place.setdefault(item, (one.items, at))
    found = list(place.values())
    return Items(
        list(place),
        np.array([items.vectors[at] for items, at in found], np.float32).reshape(len(found), dim),
        np.array([items.popularity[at] for items, at in found], np.float32),
        [items.met_with[at] for items, at in found],
    )
