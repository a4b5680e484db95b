"""The arms of the demo and their click-through: the policy beside random and popularity.

Every visit shows the same user, with the same luck, the slate of each arm. Only the policy's slate is
published; the clicks on the other two are counted and teach the recommender nothing. Each arm uses up its
own items: what a user clicked in its slates does not come back there, and is not gone for the other arms.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ARMS = ("policy", "random", "popularity")
RESAMPLES = 1000


class Baselines:
    """Slates of the two baseline arms, over items that a user has not used up.

    Parameters
    ----------
    n_users, n_items
        Rows of users and items.
    """

    def __init__(self, n_users: int, n_items: int) -> None:
        self.seen = np.zeros((n_users, n_items), np.bool_)  # before the visits began, and the policy's
        self._past = self.seen.copy()
        self._used = {arm: self.seen.copy() for arm in ARMS[1:]}
        self.popularity = np.zeros(n_items, np.int64)

    def learn(self, user: int | None, item: int, *, positive: bool, past: bool = False) -> None:
        """Note an event, of the past or by the policy's slate; user is None for one not simulated."""
        if user is not None:
            self.seen[user, item] = True
            if past:
                self._past[user, item] = True
        if positive:
            self.popularity[item] += 1

    def use(self, arm: str, user: int, items: NDArray[np.int64]) -> None:
        """Note what a user clicked in a baseline's slate."""
        self._used[arm][user, items] = True

    def _gone(self, arm: str, user: int) -> NDArray[np.bool_]:
        return np.asarray(self._past[user] | self._used[arm][user])

    def random(self, user: int, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw up to k different items uniformly."""
        eligible = np.flatnonzero(~self._gone("random", user))
        return rng.choice(eligible, min(k, len(eligible)), replace=False)

    def popular(self, user: int, k: int) -> NDArray[np.int64]:
        """Return the up to k items with most positive events so far, ties by row."""
        score = np.where(self._gone("popularity", user), -1, self.popularity)
        best = np.argsort(-score, kind="stable")[:k]
        return best[score[best] >= 0]


@dataclass(frozen=True, slots=True)
class Rate:
    """Clicks per item shown, with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(slots=True)
class Visits:
    """Results of the visits: parallel lists, one entry a visit, in the order of the answers."""

    users: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    clicks: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, user: int, shown: int, clicks: tuple[int, ...]) -> None:
        """Add a visit: k positions shown by each arm, and its clicks in the order of `ARMS`."""
        self.users.append(user)
        self.shown.append(shown)
        self.clicks.append(clicks)

    def __len__(self) -> int:
        return len(self.users)

    def rates(
        self, *, seed: int, first: float = 0.0, last: float = 1.0, resamples: int = RESAMPLES
    ) -> dict[str, Rate]:
        """Click-through of each arm over a stretch of the visits, in fractions of their number.

        The interval is a percentile bootstrap over users (not visits: those of one user are alike).
        """
        chosen = slice(int(first * len(self)), int(last * len(self)))
        if chosen.start >= chosen.stop:
            return {arm: Rate(0.0, 0.0, 0.0) for arm in ARMS}
        _, user = np.unique(self.users[chosen], return_inverse=True)
        n = int(user.max()) + 1
        shown = np.bincount(user, self.shown[chosen], n)
        clicks = np.asarray(self.clicks[chosen], np.float64)
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), resamples)
        rates = {}
        for column, arm in enumerate(ARMS):
            per_user = np.bincount(user, clicks[:, column], n)
            low, high = np.percentile((weights @ per_user) / (weights @ shown), (2.5, 97.5))
            rates[arm] = Rate(float(per_user.sum() / shown.sum()), float(low), float(high))
        return rates


def quantiles_ms(seconds: list[float]) -> dict[str, float]:
    """Return the quantiles of some durations in milliseconds; zeros when there are none."""
    names = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
    if not seconds:
        return dict.fromkeys(names, 0.0)
    return {name: 1000 * float(np.quantile(seconds, q)) for name, q in names.items()}
