"""Joins clicks with the served slates that they reward, for one partition.

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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from math import fsum
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from online_learning.attribution.rewards import Shaping

# Measured with tracemalloc on slates as served, with their records.
SLATE_BYTES, ITEM_BYTES = 1_500, 500

MAX_BYTES = 128 * 1024**2

# So far may a device's clock be behind ours, which a click proves that names a request it must have followed.
CLOCKS_MS = 5 * 60_000


class Outcome(StrEnum):
    """Result of attributing an interaction; the first two are rewards."""

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
    extra_bytes : what the record takes of memory beside its slate
    served_here : it is not one that was read again from a log
    closed : its window has ended; it is kept for what comes late
    """

    request_id: str
    user_id: str
    item_ids: tuple[str, ...]
    features: NDArray[np.float32]
    timestamp_ms: int
    record: Any = None
    after_offset: int = -1
    extra_bytes: int = 0
    served_here: bool = False
    closed: bool = field(init=False, default=False)
    # By position; most slates earn nothing, and containers that are not there cost nothing.
    _earned: "dict[int, list[tuple[str, float]]] | None" = field(init=False, default=None)

    def __post_init__(self) -> None:
        if len(set(self.item_ids)) != len(self.item_ids):
            raise ValueError(f"item_ids must be distinct, got {self.item_ids}")
        if self.features.ndim != 2 or len(self.features) != len(self.item_ids):
            raise ValueError(f"features must have shape ({len(self.item_ids)}, F), got {self.features.shape}")

    @property
    def actions(self) -> list[list[str]]:
        """Rewarded actions per position, in order of arrival."""
        return [[action for action, _ in self._at(position)] for position in range(len(self.item_ids))]

    @property
    def amounts(self) -> list[list[float]]:
        """The reward of each action."""
        return [[amount for _, amount in self._at(position)] for position in range(len(self.item_ids))]

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes: its features twice, for the record has them too, and its items."""
        of_items = len(self.item_ids) * ITEM_BYTES + 2 * self.features.nbytes
        return SLATE_BYTES + of_items + self.extra_bytes

    def position_of(self, item_id: str) -> int | None:
        """Return where an item stands, None if it is not in the slate."""
        return self.item_ids.index(item_id) if item_id in self.item_ids else None

    def has(self, position: int, action: str) -> bool:
        """Tell whether a position has been rewarded for an action."""
        return any(action == one for one, _ in self._at(position))

    def earn(self, position: int, action: str, amount: float) -> None:
        """Reward a position."""
        if self._earned is None:
            self._earned = {}
        self._earned.setdefault(position, []).append((action, amount))

    def _at(self, position: int) -> list[tuple[str, float]]:
        return [] if self._earned is None else self._earned.get(position, [])


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
    `correction` tells that it had closed before, and what is told now takes the place of what was told then.
    """

    slate: OpenSlate
    rewards: NDArray[np.float64]
    correction: bool = False


# When it was served, its request, a number that no other entry has, and the slate: what ends first is least.
_Entry = tuple[int, str, int, OpenSlate]


class PendingSlates:
    """The slates of one partition that can still be rewarded.

    Parameters
    ----------
    window_ms : how long a slate can be rewarded, from its time (included) to this much later (excluded)
    shaping : what each action earns, and windows of its own
    lateness_ms : how far behind the watermark an event may arrive and still correct a closed slate
    max_bytes : bound on memory, as `OpenSlate.nbytes` has it: beyond, the oldest are given up, closed ones
        first; the latest one added always stays

    Attributes
    ----------
    keep_ms : how long a slate is kept
    users : slates per user, oldest first; users without any have no entry. Read only.
    hashes : how many of these users have an id of this XXH3; users without slates have no entry. Read only;
        it is there so that a column of hashed ids can be filtered by `number in pending.hashes`.
    closed_ms : watermark of the last `close`, 0 before the first: slates kept till then or less are not held
    evicted : slates given up before their window had ended
    nbytes : what the slates take of memory, about
    """

    def __init__(
        self, *, window_ms: int, shaping: Shaping, lateness_ms: int = 0, max_bytes: int = MAX_BYTES
    ) -> None:
        for name, value, least in (
            ("window_ms", window_ms, 1), ("max_bytes", max_bytes, 1), ("lateness_ms", lateness_ms, 0)
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.window_ms = window_ms
        self.shaping = shaping
        self.keep_ms = max(window_ms, *shaping.windows_ms.values(), 0) + lateness_ms
        self.max_bytes = max_bytes
        self.nbytes = 0
        self.users: dict[str, list[OpenSlate]] = {}
        self.hashes: Counter[int] = Counter()
        self.closed_ms = 0
        self.evicted = 0
        self._by_request: dict[str, OpenSlate] = {}
        # Heaps of what is open and of what is closed and kept: what ends first is on top. What was forgotten
        # stays in them, emptied, until its time.
        self._open: list[_Entry] = []
        self._kept: list[_Entry] = []
        self._corrected: dict[str, OpenSlate] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._by_request)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._by_request

    def has_open(self, user_id: str) -> bool:
        """Tell whether the user has a slate; without one, no interaction can reward anything."""
        return user_id in self.users

    def of_request(self, request_id: str) -> OpenSlate | None:
        """Return the slate of a request; None if it is not held, or not any more."""
        return self._by_request.get(request_id)

    def __iter__(self) -> Iterator[OpenSlate]:
        """Iterate over the slates, closed and kept ones too, in no order."""
        return iter(self._by_request.values())

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
        extra_bytes: int = 0,
        served_here: bool = False,
    ) -> bool:
        """Open a slate; return False, and change nothing, when its request is already open.

        Parameters are those of `OpenSlate`.
        """
        if request_id in self._by_request:
            return False
        slate = OpenSlate(
            request_id, user_id, item_ids, features, timestamp_ms, record, after_offset, extra_bytes,
            served_here,
        )  # fmt: skip
        self._by_request[request_id] = slate
        if (others := self.users.get(user_id)) is None:
            others = self.users[user_id] = []
            self.hashes[_hash(user_id)] += 1
        insort(others, slate, key=_closing_order)
        heapq.heappush(self._open, (timestamp_ms, request_id, next(self._numbers), slate))
        self.nbytes += slate.nbytes
        while self.nbytes > self.max_bytes and len(self._by_request) > 1:
            self._make_room()
        return True

    def withdraw(self, request_id: str) -> None:
        """Take out a slate that was not served after all; it closes without a word."""
        if (slate := self._by_request.get(request_id)) is not None:
            self._give_up(slate)

    def _make_room(self) -> None:
        given_up = self._pop(self._kept) if self._kept else self._pop(self._open)
        if given_up is not None:
            self.evicted += not given_up.closed
            self._give_up(given_up)

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
            slates, earliest_ms = self.users.get(user_id, []), 0
            outcome = Outcome.BY_USER_ITEM
        else:  # it was after the slate, whatever two clocks say
            earliest_ms = -CLOCKS_MS
            named = self._by_request.get(request_id)
            slates = [] if named is None or named.user_id != user_id else [named]
            outcome = Outcome.BY_REQUEST
        failure = Outcome.UNKNOWN_SLATE
        for slate in reversed(slates):
            if offset is not None and offset <= slate.after_offset:
                continue
            position = slate.position_of(item_id)
            if position is None:
                if failure is Outcome.UNKNOWN_SLATE:
                    failure = Outcome.NOT_IN_SLATE
            elif not earliest_ms <= timestamp_ms - slate.timestamp_ms < window_ms:
                failure = Outcome.OUTSIDE_WINDOW
            elif slate.has(position, action):
                return _NOTHING[Outcome.ALREADY_REWARDED]
            else:
                reward = self.shaping.reward(action, dwell_ms)
                slate.earn(position, action, reward)
                if slate.closed:
                    self._corrected[slate.request_id] = slate
                quality = self.shaping.quality(action, dwell_ms)
                return Attribution(outcome, slate, position, reward, quality)
        return _NOTHING[failure]

    def forget(self, user_id: str) -> int:
        """Take out a user's slates, which close without a word; return how many there were."""
        gone = self.users.get(user_id, [])
        if gone:
            self._left(user_id)
        for slate in gone:
            del self._by_request[slate.request_id]
            self._corrected.pop(slate.request_id, None)
            self.nbytes -= slate.nbytes
            slate.record, slate.features = None, slate.features[:0]
        return len(gone)

    def close(self, watermark_ms: int) -> list[ClosedSlate]:
        """Return the slates whose window has ended, and those corrected since the last call.

        Those that close now come first, then the corrected ones, by time and request_id: an order that does
        not depend on how they were added. Slates that are kept no longer are forgotten.

        Parameters
        ----------
        watermark_ms : no interaction of an earlier time is to be expected
        """
        closed = [self._closed(slate) for slate in self._close(watermark_ms)]
        corrected = sorted(self._corrected.values(), key=_closing_order)
        closed += [self._closed(slate, correction=True) for slate in corrected]
        self._corrected.clear()
        while self._kept and self._kept[0][0] + self.keep_ms <= watermark_ms:
            if (slate := self._pop(self._kept)) is not None:
                self._give_up(slate)
        return closed

    def resume(self, watermark_ms: int) -> None:
        """Take the slates whose window has ended by then as told of, with all they have earned so far."""
        self._close(watermark_ms)

    def _close(self, watermark_ms: int) -> list[OpenSlate]:
        closed = []
        self.closed_ms = max(self.closed_ms, watermark_ms)
        while self._open and self._open[0][0] + self.window_ms <= watermark_ms:
            slate = self._pop(self._open)
            if slate is not None:
                heapq.heappush(self._kept, (slate.timestamp_ms, slate.request_id, next(self._numbers), slate))
                slate.closed = True
                closed.append(slate)
        return closed

    def _pop(self, heap: list[_Entry]) -> OpenSlate | None:
        """Take out what ends first; None where it has been forgotten meanwhile."""
        _, request_id, _, slate = heapq.heappop(heap)
        return slate if self._by_request.get(request_id) is slate else None

    def _give_up(self, slate: OpenSlate) -> None:
        del self._by_request[slate.request_id]
        self.nbytes -= slate.nbytes
        others = self.users[slate.user_id]
        others.remove(slate)
        if not others:
            self._left(slate.user_id)

    def _left(self, user_id: str) -> None:
        """Note that a user has no slate any more."""
        del self.users[user_id]
        self.hashes[number := _hash(user_id)] -= 1
        if not self.hashes[number]:
            del self.hashes[number]

    def _closed(self, slate: OpenSlate, *, correction: bool = False) -> ClosedSlate:
        rewards = [fsum(amounts) for amounts in slate.amounts]
        return ClosedSlate(slate, np.array(rewards, np.float64), correction)


def _hash(user_id: str) -> int:
    return xxhash.xxh3_64_intdigest(user_id.encode())


def _closing_order(slate: OpenSlate) -> tuple[int, str]:
    return slate.timestamp_ms, slate.request_id


_NOTHING = {outcome: Attribution(outcome) for outcome in Outcome}
