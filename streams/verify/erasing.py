"""Erases users in a fold of the logs where their marks say that a worker has."""

from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.attribution.pending_slates import OpenSlate
from streams.durability.restore import features_of
from streams.events import Recommendation
from streams.state.rows import Erased, Life, erased_key
from streams.state.shard import Shard
from streams.state.taught import Taught

MOST_RECENT = 20_000  # slates that may be taken out with a user, of all users: 200 MB at most
LATE_CLOSE_MS = 3_600_000  # a worker's flush may close slates so much later than a fold of the logs does


@dataclass(frozen=True, slots=True)
class _Shown:
    """A slate that something was learned of; held is what it earns, None where it can earn nothing."""

    record: Recommendation
    features: NDArray[np.float32]
    held: OpenSlate | None

    def add_to(self, taught: Taught) -> None:
        record, held = self.record, self.held
        taught.add(
            record.model_version, self.features, [item.item_id for item in record.slate],
            timestamp_ms=record.timestamp_ms,
            actions=[[]] * len(record.slate) if held is None else held.actions,
            rewards=[0.0] * len(record.slate) if held is None else [sum(one) for one in held.amounts],
        )  # fmt: skip


class Erasing:
    """The erasures of one partition, each to be done after a click.

    Attributes
    ----------
    shard : in which users are erased
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._due: list[tuple[bytes, Erased]] = []  # in the order in which a worker has erased them
        self._marks: dict[bytes, Erased] = {}  # as they were told
        self._users: dict[bytes, str] = {}  # known ids of those who have marks
        self._recent: deque[_Shown] = deque(maxlen=MOST_RECENT)
        self._of_marked: dict[bytes, list[_Shown]] = {}

    @property
    def next_offset(self) -> int | None:
        """The click after which somebody is to be erased next, None if nobody is."""
        return self._due[0][1].clicks_offset if self._due else None

    def tell(self, marks: Mapping[bytes, Erased], through: int) -> bool:
        """Take note of marks of erased users, by their keys, where clicks have been folded through an offset.

        What is known already is passed. Returns False where one should have been erased before a click that
        has been folded, or where more has been taken out of sums since.
        """
        told = {key: mark for key, mark in marks.items() if self._marks.get(key) != mark}
        self._marks |= told
        self._due = [one for one in self._due if one[0] not in told]
        in_time = True
        for key, mark in told.items():
            done = self.shard.profiles.erasures.marks.get(key)
            for step in mark.steps:
                at = step.clicks_offset
                if done is None or at > done.clicks_offset:
                    insort(self._due, (key, step), key=_when)
                    in_time &= at >= through
                elif at == done.clicks_offset:
                    in_time &= step.lives == done.lives
        if told:
            self.meet(self.shard.profiles.user_ids())
            recent, self._recent = self._recent, deque(maxlen=MOST_RECENT)
            for shown in recent:
                self._keep(shown)
        return in_time

    def meet(self, user_ids: Iterable[str]) -> None:
        """Remember which of the users have marks: these have hashes of their ids."""
        if len(self._users) < len(self._marks):
            for user_id in set(user_ids):
                if (key := erased_key(user_id)) in self._marks:
                    self._users[key] = user_id

    def show(self, slate: Recommendation) -> None:
        """Remember a slate that has been opened: of whoever has no mark, while it may be held by a worker."""
        features = features_of(slate)
        if len(features) and self.shard.learning.learns_of(slate):
            self._keep(_Shown(slate, features, self.shard.slates.of_request(slate.request_id)))
        oldest_ms = self.shard.watermark.ms - self.shard.slates.keep_ms - LATE_CLOSE_MS
        while self._recent and self._recent[0].record.timestamp_ms < oldest_ms:
            self._recent.popleft()

    def _keep(self, shown: _Shown) -> None:
        key = erased_key(shown.record.user_id) if self._marks else b""
        if key in self._marks:
            self._users[key] = shown.record.user_id
            self._of_marked.setdefault(key, []).append(shown)
        else:
            self._recent.append(shown)

    def erase_through(self, offset: int) -> None:
        """Erase whom marks at or before a click name."""
        profiles = self.shard.profiles
        while self._due and self._due[0][1].clicks_offset <= offset:
            key, mark = self._due.pop(0)
            life = mark.lives[-1] if mark.lives and mark.lives[-1].closed_ms >= 0 else None
            if (user_id := self._users.get(key)) is not None:
                if (row := profiles.row_of(user_id)) >= 0:
                    if life is not None:
                        self.shard.retract(row, through=mark.clicks_offset)
                    profiles.drop(np.array([row], np.int32))
                self._forget_slates(user_id, self._of_marked.pop(key, []), life)
            profiles.erasures.put(key, mark)

    def _forget_slates(self, user_id: str, slates: Iterable[_Shown], life: Life | None) -> None:
        """Forget slates, and take out what a worker has taken out of what they taught."""
        learning, held = self.shard.learning, self.shard.slates
        taught = learning.taught()
        for shown in slates:
            if life is not None and (
                life.settled or shown.record.timestamp_ms + held.keep_ms > life.closed_ms
            ):
                shown.add_to(taught)
        if learning.owes:
            for version, part in taught.parts.items():
                learning.take_out(version, part)
        held.forget(user_id)


def _when(due: tuple[bytes, Erased]) -> tuple[int, int]:
    """After which click a worker has erased somebody, and by which record of `users`."""
    return due[1].clicks_offset, due[1].users_offset
