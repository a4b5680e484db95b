"""Classical recommenders that a prequential run is compared with, by the same protocol.

They see the same events in exact time order, with the same items filtered, and cost seconds.
"""

from collections import defaultdict, deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WINDOW = 50
DAMPING = 10.0
EASE_LAMBDA = 300.0
EASE_EVERY = 5_000


class Reference(Protocol):
    """Scores all items for a user, and learns from a positive event."""

    name: str

    def scores(self, user: int, now_ms: int = 0) -> NDArray[np.float64]:
        """Return one score per item, (n_items,)."""
        ...

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Take in that a user liked an item."""
        ...


class Popularity:
    """Items by their number of likes."""

    name = "popularity"

    def __init__(self, n_items: int) -> None:
        self.likes = np.zeros(n_items)

    def scores(self, user: int, now_ms: int = 0) -> NDArray[np.float64]:
        """Likes of each item."""
        return self.likes

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Count a like."""
        self.likes[item] += 1


class LastLikes:
    """Items by their number among the last likes."""

    def __init__(self, n_items: int, last: int) -> None:
        self.name = f"last {last} likes"
        self._likes = np.zeros(n_items)
        self._last: deque[int] = deque()
        self._most = last

    def scores(self, user: int, now_ms: int = 0) -> NDArray[np.float64]:
        """Likes of each item among the last."""
        return self._likes

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Count a like, and leave out the oldest."""
        self._likes[item] += 1
        self._last.append(item)
        if len(self._last) > self._most:
            self._likes[self._last.popleft()] -= 1


class Decayed:
    """Items by their likes, each worth half as much after a half-life."""

    def __init__(self, n_items: int, half_life_ms: int) -> None:
        self.name = f"half-life {half_life_ms / 3_600_000:g} h"
        self._likes = np.zeros(n_items)
        self._half_life_ms = half_life_ms
        self._now_ms = 0

    def scores(self, user: int, now_ms: int = 0) -> NDArray[np.float64]:
        """Likes of each item as they were when the last was counted: all decay alike."""
        return self._likes

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Decay all, and count a like."""
        self._likes *= 2.0 ** (-max(0, now_ms - self._now_ms) / self._half_life_ms)
        self._now_ms = max(now_ms, self._now_ms)
        self._likes[item] += 1


class CoVisits:
    """Items liked by those who liked the user's last 50, damped by the square root of their popularity."""

    name = "co-visitation"

    def __init__(self, n_items: int) -> None:
        self._pairs = np.zeros((n_items, n_items), np.float32)
        self._popularity = Popularity(n_items)
        self._recent: dict[int, list[int]] = defaultdict(list)

    def scores(self, user: int, now_ms: int = 0) -> NDArray[np.float64]:
        """Damped co-visits with the recent likes; popularity for a user without any, and in ties."""
        likes = self._popularity.likes
        recent = self._recent[user][-WINDOW:]
        return np.asarray(self._pairs[recent].sum(axis=0) / np.sqrt(likes + DAMPING) + 1e-6 * likes)

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Pair the item with each of the user's recent ones."""
        recent = self._recent[user][-WINDOW:]
        self._pairs[item, recent] += 1
        self._pairs[recent, item] += 1
        self._recent[user].append(item)
        self._popularity.learn(user, item)


class RecentCoVisits:
    """Co-visits times likes among the last, each beside a little of nothing, so that neither rules alone."""

    def __init__(self, n_items: int, last: int) -> None:
        self.name = f"co-visits x last {last}"
        self._covisits = CoVisits(n_items)
        self._recent = LastLikes(n_items, last)

    def scores(self, user: int, now_ms: int = 0) -> NDArray[np.float64]:
        """Return the product for each item."""
        return (0.1 + self._covisits.scores(user)) * (0.1 + self._recent.scores(user))

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Teach both."""
        self._covisits.learn(user, item)
        self._recent.learn(user, item)


class Ease:
    """EASE (Steck 2019, "Embarrassingly shallow autoencoders", equation 8), refitted every 5,000 likes."""

    name = "EASE"

    def __init__(self, n_users: int, n_items: int) -> None:
        self._likes = np.zeros((n_users, n_items), np.float32)
        self._popularity = Popularity(n_items)
        self._weights: NDArray[np.float64] | None = None
        self._since = 0

    def scores(self, user: int, now_ms: int = 0) -> NDArray[np.float64]:
        """Sum the weights from what the user has liked; popularity in ties."""
        if self._weights is None or self._since >= EASE_EVERY:
            self._fit()
        assert self._weights is not None
        return np.asarray(self._likes[user] @ self._weights + 1e-6 * self._popularity.likes)

    def learn(self, user: int, item: int, now_ms: int = 0) -> None:
        """Note a like; the weights stay until the next fit."""
        self._likes[user, item] = 1.0
        self._since += 1
        self._popularity.learn(user, item)

    def _fit(self) -> None:
        gram = (self._likes.T @ self._likes).astype(np.float64)
        gram[np.diag_indices_from(gram)] += EASE_LAMBDA
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices_from(weights)] = 0.0
        self._weights = weights
        self._since = 0


def prequential_hits(
    reference: Reference,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    positive: NDArray[np.bool_],
    *,
    warm_up: int,
    n_users: int,
    n_items: int,
    k: int,
    times_ms: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Recommend before each positive event after the warm-up, then learn; return one hit or miss each.

    Parameters
    ----------
    users, items : (n,) int64
        Rows, in time order.
    positive : (n,) bool
        Events that ask and teach; the others only take their item out of the user's slates.
    times_ms : (n,) int64, all 0 when None
    warm_up
        Number of first events that are learnt without asking.

    Returns
    -------
    (number of positive events from `warm_up` on,) bool
    """
    seen = np.zeros((n_users, n_items), np.bool_)
    hits: list[bool] = []
    times = np.zeros(len(users), np.int64) if times_ms is None else times_ms
    for n, (user, item, now_ms) in enumerate(
        zip(users.tolist(), items.tolist(), times.tolist(), strict=True)
    ):
        if positive[n] and n >= warm_up:
            scores = np.where(seen[user], -np.inf, reference.scores(user, now_ms))
            hits.append(item in np.argpartition(-scores, k)[:k])
        seen[user, item] = True
        if positive[n]:
            reference.learn(user, item, now_ms)
    return np.array(hits, np.bool_)
