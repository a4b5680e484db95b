"""What a prequential run is compared with: three classical recommenders, by the same protocol.

They see the same events in exact time order, with the same items filtered, and cost seconds.
"""

from collections import defaultdict
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

    def scores(self, user: int) -> NDArray[np.float64]:
        """Return one score per item, (n_items,)."""
        ...

    def learn(self, user: int, item: int) -> None:
        """Take in that a user liked an item."""
        ...


class Popularity:
    """Items by their number of likes."""

    name = "popularity"

    def __init__(self, n_items: int) -> None:
        self.likes = np.zeros(n_items)

    def scores(self, user: int) -> NDArray[np.float64]:
        """Likes of each item."""
        return self.likes

    def learn(self, user: int, item: int) -> None:
        """Count a like."""
        self.likes[item] += 1


class CoVisits:
    """Items liked by those who liked the user's last 50, damped by the square root of their popularity."""

    name = "co-visitation"

    def __init__(self, n_items: int) -> None:
        self._pairs = np.zeros((n_items, n_items), np.float32)
        self._popularity = Popularity(n_items)
        self._recent: dict[int, list[int]] = defaultdict(list)

    def scores(self, user: int) -> NDArray[np.float64]:
        """Damped co-visits with the recent likes; popularity for a user without any, and in ties."""
        likes = self._popularity.likes
        recent = self._recent[user][-WINDOW:]
        return np.asarray(self._pairs[recent].sum(axis=0) / np.sqrt(likes + DAMPING) + 1e-6 * likes)

    def learn(self, user: int, item: int) -> None:
        """Pair the item with each of the user's recent ones."""
        recent = self._recent[user][-WINDOW:]
        self._pairs[item, recent] += 1
        self._pairs[recent, item] += 1
        self._recent[user].append(item)
        self._popularity.learn(user, item)


class Ease:
    """EASE (Steck 2019, "Embarrassingly shallow autoencoders", equation 8), refitted every 5,000 likes."""

    name = "EASE"

    def __init__(self, n_users: int, n_items: int) -> None:
        self._likes = np.zeros((n_users, n_items), np.float32)
        self._popularity = Popularity(n_items)
        self._weights: NDArray[np.float64] | None = None
        self._since = 0

    def scores(self, user: int) -> NDArray[np.float64]:
        """Sum the weights from what the user has liked; popularity in ties."""
        if self._weights is None or self._since >= EASE_EVERY:
            self._fit()
        assert self._weights is not None
        return np.asarray(self._likes[user] @ self._weights + 1e-6 * self._popularity.likes)

    def learn(self, user: int, item: int) -> None:
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
) -> NDArray[np.bool_]:
    """Recommend before each positive event after the warm-up, then learn; return one hit or miss each.

    Parameters
    ----------
    users, items : (n,) int64
        Rows, in time order.
    positive : (n,) bool
        Events that ask and teach; the others only take their item out of the user's slates.
    warm_up
        Number of first events that are learnt without asking.

    Returns
    -------
    (number of positive events from `warm_up` on,) bool
    """
    seen = np.zeros((n_users, n_items), np.bool_)
    hits: list[bool] = []
    for n, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        if positive[n] and n >= warm_up:
            scores = np.where(seen[user], -np.inf, reference.scores(user))
            hits.append(item in np.argpartition(-scores, k)[:k])
        seen[user, item] = True
        if positive[n]:
            reference.learn(user, item)
    return np.array(hits, np.bool_)
