"""Which served slate an interaction rewards: the join of clicks with slates, for one partition.

`PendingSlates` holds the slates that can still be rewarded. An interaction that names its request rewards
that slate; one that does not rewards the user's latest slate that contains the item. A slate is open from
its time, included, for `window_ms`; what comes later is not its doing. Times are event times.
"""

import heapq
from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import fsum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Outcome(StrEnum):
    """What became of an interaction; the first two are rewards."""

    BY_REQUEST = "by_request"
    BY_USER_ITEM = "by_user_item"
    UNKNOWN_SLATE = "unknown_slate"  # no such open slate, or it is another user's
    OUTSIDE_WINDOW = "outside_window"
    NOT_IN_SLATE = "not_in_slate"
    ALREADY_REWARDED = "already_rewarded"
    UNKNOWN_ACTION = "unknown_action"


@dataclass(slots=True, eq=False)
class OpenSlate:
    """A slate that can still be rewarded.

    Attributes
    ----------
    features : (k, F) float32, what the policy saw of each position
    record : whatever the caller wants back with the slate when it closes
    after_offset : offset of the interactions' partition up to which it had been consumed when the slate
        was added: an interaction at or below it cannot have been caused by the slate
    actions : rewarded actions per position, in order of arrival
    """

    request_id: str
    user_id: str
    item_ids: tuple[str, ...]
    features: NDArray[np.float32]
    timestamp_ms: int
    record: Any = None
    after_offset: int = -1
    actions: list[list[str]] = field(init=False)
    positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.positions = {item_id: position for position, item_id in enumerate(self.item_ids)}
        if len(self.positions) != len(self.item_ids):
            raise ValueError(f"item_ids must be distinct, got {self.item_ids}")
        if self.features.ndim != 2 or len(self.features) != len(self.item_ids):
            raise ValueError(f"features must have shape ({len(self.item_ids)}, F), got {self.features.shape}")
        self.actions = [[] for _ in self.item_ids]


class Attribution(NamedTuple):
    """The outcome of one interaction; `slate` is None and `position` -1 when it rewards nothing."""

    outcome: Outcome
    slate: OpenSlate | None = None
    position: int = -1
    reward: float = 0.0

    @property
    def features(self) -> NDArray[np.float32]:
        """The rewarded position's features, (F,) float32. Only for an attribution with a slate."""
        if self.slate is None:
            raise ValueError(f"features must be asked of a rewarded slate, got outcome {self.outcome}")
        row: NDArray[np.float32] = self.slate.features[self.position]
        return row


class ClosedSlate(NamedTuple):
    """A slate that can no longer be rewarded.

    `rewards` is (k,) float64, the sum of action weights at each position, 0 where nothing happened.
    `evicted` tells that it closed before its window ended, for want of room.
    """

    slate: OpenSlate
    rewards: NDArray[np.float64]
    evicted: bool


class Interaction(NamedTuple):
    """An event of the interactions' partition, as `rebuild` reads it."""

    offset: int
    user_id: str
    item_id: str
    action: str
    timestamp_ms: int
    request_id: str | None = None


class PendingSlates:
    """The open slates of one partition.

    Parameters
    ----------
    window_ms : how long a slate can be rewarded, from its time (included) to this much later (excluded)
    weights : reward of each action; a negative one is a penalty
    max_open : bound on memory: with more open slates, the oldest close early and are counted in `evicted`

    Attributes
    ----------
    users : open slates per user, oldest first; users without any have no entry. Read only; it is there so
        that a column of user ids can be filtered by `user_id in pending.users`.
    evicted : how many slates were closed early
    """

    def __init__(self, *, window_ms: int, weights: Mapping[str, float], max_open: int = 1_000_000) -> None:
        for name, value in (("window_ms", window_ms), ("max_open", max_open)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.window_ms = window_ms
        self.weights = dict(weights)
        self.max_open = max_open
        self.users: dict[str, list[OpenSlate]] = {}
        self.evicted = 0
        self._by_request: dict[str, OpenSlate] = {}
        self._queue: list[tuple[int, str, OpenSlate]] = []  # a heap: what closes first is on top
        self._evicted: list[OpenSlate] = []

    def __len__(self) -> int:
        return len(self._by_request)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._by_request

    def has_open(self, user_id: str) -> bool:
        """Tell whether the user has an open slate; without one, no interaction can reward anything."""
        return user_id in self.users

    def open_slates(self) -> list[OpenSlate]:
        """Return the open slates in the order in which they will close."""
        return [slate for _, _, slate in sorted(self._queue, key=lambda entry: entry[:2])]

    def add(
        self,
        request_id: str,
        user_id: str,
        item_ids: tuple[str, ...],
        features: NDArray[np.float32],
        timestamp_ms: int,
        *,
        record: Any = None,
        after_offset: int = -1,
    ) -> bool:
        """Open a slate; return False, and change nothing, when its request is already open.

        Parameters are those of `OpenSlate`.
        """
        if request_id in self._by_request:
            return False
        self._open(OpenSlate(request_id, user_id, item_ids, features, timestamp_ms, record, after_offset))
        return True

    def attribute(
        self,
        user_id: str,
        item_id: str,
        action: str,
        timestamp_ms: int,
        request_id: str | None = None,
        *,
        offset: int | None = None,
    ) -> Attribution:
        """Reward the slate that led to an interaction, once per (slate, position, action).

        Parameters
        ----------
        request_id : the request whose slate was clicked, when the event says so; no other is considered
        offset : the event's offset, needed only when events are replayed over slates they preceded
        """
        if action not in self.weights:
            return _NOTHING[Outcome.UNKNOWN_ACTION]
        if request_id is None:
            slates = self.users.get(user_id, [])
            outcome = Outcome.BY_USER_ITEM
        else:
            named = self._by_request.get(request_id)
            slates = [] if named is None or named.user_id != user_id else [named]
            outcome = Outcome.BY_REQUEST
        failure = Outcome.UNKNOWN_SLATE
        for slate in reversed(slates):
            if offset is not None and offset <= slate.after_offset:
                continue
            position = slate.positions.get(item_id)
            if position is None:
                if failure is Outcome.UNKNOWN_SLATE:
                    failure = Outcome.NOT_IN_SLATE
            elif not 0 <= timestamp_ms - slate.timestamp_ms < self.window_ms:
                failure = Outcome.OUTSIDE_WINDOW
            elif action in slate.actions[position]:
                return _NOTHING[Outcome.ALREADY_REWARDED]
            else:
                slate.actions[position].append(action)
                return Attribution(outcome, slate, position, self.weights[action])
        return _NOTHING[failure]

    def forget(self, user_id: str) -> int:
        """Take out a user's open slates, which close without a word; return how many there were."""
        gone = self.users.pop(user_id, [])
        for slate in gone:
            del self._by_request[slate.request_id]
        if gone:
            self._queue = [entry for entry in self._queue if entry[2].user_id != user_id]
            heapq.heapify(self._queue)
        self._evicted = [slate for slate in self._evicted if slate.user_id != user_id]
        return len(gone)

    def close(self, watermark_ms: int) -> list[ClosedSlate]:
        """Take out the slates whose window has ended and those evicted since the last call.

        Evicted slates come first, then the others by time and request_id: an order that does not depend
        on how they were added.

        Parameters
        ----------
        watermark_ms : no interaction of an earlier time is to be expected
        """
        closed = [self._closed(slate, evicted=True) for slate in self._evicted]
        self._evicted.clear()
        while self._queue and self._queue[0][0] + self.window_ms <= watermark_ms:
            closed.append(self._closed(self._take_oldest(), evicted=False))
        return closed

    def _open(self, slate: OpenSlate) -> None:
        self._by_request[slate.request_id] = slate
        insort(self.users.setdefault(slate.user_id, []), slate, key=_closing_order)
        heapq.heappush(self._queue, (slate.timestamp_ms, slate.request_id, slate))
        if len(self._by_request) > self.max_open:
            self._evicted.append(self._take_oldest())
            self.evicted += 1

    def _take_oldest(self) -> OpenSlate:
        _, request_id, slate = heapq.heappop(self._queue)
        del self._by_request[request_id]
        others = self.users[slate.user_id]
        others.remove(slate)
        if not others:
            del self.users[slate.user_id]
        return slate

    def _closed(self, slate: OpenSlate, *, evicted: bool) -> ClosedSlate:
        rewards = [fsum(self.weights[action] for action in actions) for actions in slate.actions]
        return ClosedSlate(slate, np.array(rewards, np.float64), evicted)


def rebuild(
    slates: Iterable[OpenSlate],
    interactions: Iterable[Interaction],
    *,
    window_ms: int,
    weights: Mapping[str, float],
    max_open: int = 1_000_000,
    closed_ms: int = 0,
) -> PendingSlates:
    """Return the store that has seen `slates` and `interactions`, as after a restart.

    It equals the store that lived through them, as long as that one evicted nothing it is given here.

    Parameters
    ----------
    slates : as served, with their `after_offset`; what they have been rewarded so far is ignored
    interactions : of the slates' users, up to the offset that the statistics have taken in, in any order;
        those before the slates may be left out. Events after that offset are not for here: they are
        consumed again and go through `PendingSlates.attribute`, which gives the statistics their rewards.
    closed_ms : the watermark of the last `close`: slates closed by then stay closed
    """
    pending = PendingSlates(window_ms=window_ms, weights=weights, max_open=max_open)
    for slate in slates:
        if slate.timestamp_ms + window_ms > closed_ms:
            pending.add(
                slate.request_id,
                slate.user_id,
                slate.item_ids,
                slate.features,
                slate.timestamp_ms,
                record=slate.record,
                after_offset=slate.after_offset,
            )
    for event in sorted(interactions, key=lambda event: event.offset):
        pending.attribute(
            event.user_id,
            event.item_id,
            event.action,
            event.timestamp_ms,
            event.request_id,
            offset=event.offset,
        )
    return pending


def _closing_order(slate: OpenSlate) -> tuple[int, str]:
    return slate.timestamp_ms, slate.request_id


_NOTHING = {outcome: Attribution(outcome) for outcome in Outcome}
