"""Which served slate an interaction rewards: the join of clicks with slates, for one partition.

`PendingSlates` holds the slates that can still be rewarded. An interaction that names its request rewards
that slate; one that does not rewards the user's latest slate that contains the item. A slate is open from
its time, included, for `window_ms`; what comes later is not its doing, unless the action has a longer window
of its own. Times are event times.

A slate closes when the watermark passes its window, and its positions without an event are then known to
have earned nothing. It is kept on for actions with longer windows and for events that arrive late, by
`lateness_ms` at most; what these earn corrects what was said when it closed. Whether an event counts depends
on its time and not on when it arrives, as long as the slate is kept.
"""

import heapq
from bisect import insort
from dataclasses import dataclass, field
from enum import StrEnum
from math import fsum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_learning.attribution.rewards import Shaping


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
    amounts : what each of them earned
    closed : its window has ended; it is kept for what comes late
    """

    request_id: str
    user_id: str
    item_ids: tuple[str, ...]
    features: NDArray[np.float32]
    timestamp_ms: int
    record: Any = None
    after_offset: int = -1
    closed: bool = field(init=False, default=False)
    actions: list[list[str]] = field(init=False)
    amounts: list[list[float]] = field(init=False)
    positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.positions = {item_id: position for position, item_id in enumerate(self.item_ids)}
        if len(self.positions) != len(self.item_ids):
            raise ValueError(f"item_ids must be distinct, got {self.item_ids}")
        if self.features.ndim != 2 or len(self.features) != len(self.item_ids):
            raise ValueError(f"features must have shape ({len(self.item_ids)}, F), got {self.features.shape}")
        self.actions = [[] for _ in self.item_ids]
        self.amounts = [[] for _ in self.item_ids]


class Attribution(NamedTuple):
    """The outcome of one interaction; `slate` is None and `position` -1 when it rewards nothing.

    quality is the share of the action's weight that it earned (`Shaping.quality`).
    """

    outcome: Outcome
    slate: OpenSlate | None = None
    position: int = -1
    reward: float = 0.0
    quality: float = 0.0

    @property
    def features(self) -> NDArray[np.float32]:
        """The rewarded position's features, (F,) float32. Only for an attribution with a slate."""
        if self.slate is None:
            raise ValueError(f"features must be asked of a rewarded slate, got outcome {self.outcome}")
        row: NDArray[np.float32] = self.slate.features[self.position]
        return row


class ClosedSlate(NamedTuple):
    """A slate whose window has ended.

    `rewards` is (k,) float64, the sum of what was earned at each position, 0 where nothing happened.
    `evicted` tells that it closed before its window ended, for want of room; `correction`, that it had
    closed before, and what is told now takes the place of what was told then.
    """

    slate: OpenSlate
    rewards: NDArray[np.float64]
    evicted: bool = False
    correction: bool = False


class PendingSlates:
    """The slates of one partition that can still be rewarded.

    Parameters
    ----------
    window_ms : how long a slate can be rewarded, from its time (included) to this much later (excluded)
    shaping : what each action earns, and windows of its own
    lateness_ms : how far behind the watermark an event may arrive and still correct a closed slate
    max_open : bound on memory: with more slates, the oldest are given up; those that were still open close
        early and are counted in `evicted`

    Attributes
    ----------
    keep_ms : how long a slate is kept
    users : slates per user, oldest first; users without any have no entry. Read only; it is there so
        that a column of user ids can be filtered by `user_id in pending.users`.
    evicted : how many slates were closed early
    """

    def __init__(
        self, *, window_ms: int, shaping: Shaping, lateness_ms: int = 0, max_open: int = 1_000_000
    ) -> None:
        for name, value, least in (
            ("window_ms", window_ms, 1), ("max_open", max_open, 1), ("lateness_ms", lateness_ms, 0)
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.window_ms = window_ms
        self.shaping = shaping
        self.keep_ms = max(window_ms, *shaping.windows_ms.values(), 0) + lateness_ms
        self.max_open = max_open
        self.users: dict[str, list[OpenSlate]] = {}
        self.evicted = 0
        self._by_request: dict[str, OpenSlate] = {}
        # Heaps of what is open and of what is closed and kept: what ends first is on top.
        self._open: list[tuple[int, str, OpenSlate]] = []
        self._kept: list[tuple[int, str, OpenSlate]] = []
        self._evicted: list[OpenSlate] = []
        self._corrected: dict[str, OpenSlate] = {}

    def __len__(self) -> int:
        return len(self._by_request)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._by_request

    def has_open(self, user_id: str) -> bool:
        """Tell whether the user has a slate; without one, no interaction can reward anything."""
        return user_id in self.users

    def slates(self) -> list[OpenSlate]:
        """Return the slates, closed and kept ones too, in the order in which they end."""
        return sorted(self._by_request.values(), key=_closing_order)

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
        slate = OpenSlate(request_id, user_id, item_ids, features, timestamp_ms, record, after_offset)
        self._by_request[request_id] = slate
        insort(self.users.setdefault(user_id, []), slate, key=_closing_order)
        heapq.heappush(self._open, (timestamp_ms, request_id, slate))
        if len(self._by_request) > self.max_open:
            if self._kept:
                self._give_up(self._kept)
            else:
                self._evicted.append(self._give_up(self._open))
                self.evicted += 1
        return True

    def attribute(
        self,
        user_id: str,
        item_id: str,
        action: str,
        timestamp_ms: int,
        request_id: str | None = None,
        dwell_ms: float | None = None,
        *,
        offset: int | None = None,
    ) -> Attribution:
        """Reward the slate that led to an interaction, once per (slate, position, action).

        Parameters
        ----------
        request_id : the request whose slate was clicked, when the event says so; no other is considered
        dwell_ms : how long the user stayed, when the event says so
        offset : the event's offset, needed only when events are replayed over slates they preceded
        """
        if action not in self.shaping.weights:
            return _NOTHING[Outcome.UNKNOWN_ACTION]
        window_ms = self.shaping.windows_ms.get(action, self.window_ms)
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
            elif not 0 <= timestamp_ms - slate.timestamp_ms < window_ms:
                failure = Outcome.OUTSIDE_WINDOW
            elif action in slate.actions[position]:
                return _NOTHING[Outcome.ALREADY_REWARDED]
            else:
                reward = self.shaping.reward(action, dwell_ms)
                slate.actions[position].append(action)
                slate.amounts[position].append(reward)
                if slate.closed:
                    self._corrected[slate.request_id] = slate
                quality = self.shaping.quality(action, dwell_ms)
                return Attribution(outcome, slate, position, reward, quality)
        return _NOTHING[failure]

    def forget(self, user_id: str) -> int:
        """Take out a user's slates, which close without a word; return how many there were."""
        gone = self.users.pop(user_id, [])
        for slate in gone:
            del self._by_request[slate.request_id]
            self._corrected.pop(slate.request_id, None)
        if gone:
            for heap in (self._open, self._kept):
                heap[:] = [entry for entry in heap if entry[2].user_id != user_id]
                heapq.heapify(heap)
        self._evicted = [slate for slate in self._evicted if slate.user_id != user_id]
        return len(gone)

    def close(self, watermark_ms: int) -> list[ClosedSlate]:
        """Return the slates whose window has ended, those evicted and those corrected since the last call.

        Evicted slates come first, then those that close now and then the corrected ones, by time and
        request_id: an order that does not depend on how they were added. Slates that are kept no longer
        are forgotten.

        Parameters
        ----------
        watermark_ms : no interaction of an earlier time is to be expected
        """
        closed = [self._closed(slate, evicted=True) for slate in self._evicted]
        self._evicted.clear()
        closed += [self._closed(slate) for slate in self._close(watermark_ms)]
        corrected = sorted(self._corrected.values(), key=_closing_order)
        closed += [self._closed(slate, correction=True) for slate in corrected]
        self._corrected.clear()
        while self._kept and self._kept[0][0] + self.keep_ms <= watermark_ms:
            self._give_up(self._kept)
        return closed

    def resume(self, watermark_ms: int) -> None:
        """Take the slates whose window has ended by then as told of, with all they have earned so far."""
        self._close(watermark_ms)

    def _close(self, watermark_ms: int) -> list[OpenSlate]:
        closed = []
        while self._open and self._open[0][0] + self.window_ms <= watermark_ms:
            entry = heapq.heappop(self._open)
            heapq.heappush(self._kept, entry)
            entry[2].closed = True
            closed.append(entry[2])
        return closed

    def _give_up(self, heap: list[tuple[int, str, OpenSlate]]) -> OpenSlate:
        _, request_id, slate = heapq.heappop(heap)
        del self._by_request[request_id]
        others = self.users[slate.user_id]
        others.remove(slate)
        if not others:
            del self.users[slate.user_id]
        return slate

    def _closed(self, slate: OpenSlate, *, evicted: bool = False, correction: bool = False) -> ClosedSlate:
        rewards = [fsum(amounts) for amounts in slate.amounts]
        return ClosedSlate(slate, np.array(rewards, np.float64), evicted, correction)


def _closing_order(slate: OpenSlate) -> tuple[int, str]:
    return slate.timestamp_ms, slate.request_id


_NOTHING = {outcome: Attribution(outcome) for outcome in Outcome}
