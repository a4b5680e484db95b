"""What friends of a batch's users liked lately: candidates, and what that adds to their utility."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.settings import Settings
from streams.state.item_index import ItemIndex
from streams.state.likes import liked_by
from streams.state.shared import SharedState
from streams.state.stated import Stated

MOST_ITEMS = 50
"""Of a request: those that most friends liked, of these the last ones."""
DAY_MS = 86_400_000


class FriendsItems(NamedTuple):
    """Items of one request.

    rows : (n,) int64, distinct; friends : (n,) int64, how many liked each; boosts : (n,) float32
    """

    rows: NDArray[np.int64]
    friends: NDArray[np.int64]
    boosts: NDArray[np.float32]


NOTHING = FriendsItems(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class Friends:
    """Looks up what friends liked; it may be called in any thread."""

    def __init__(self, settings: Settings, shared: SharedState) -> None:
        self._boost = settings.friends_boost
        self._at_least = settings.friends_at_least
        self._since_ms = int(settings.friends_days * DAY_MS)
        self._shared = shared

    def of(self, stated: Sequence[Stated], times_ms: NDArray[np.int64]) -> list[FriendsItems] | None:
        """Return what each user's friends liked before a time; None where nobody has friends who count.

        Parameters
        ----------
        stated : what each user says
        times_ms : (B,) int64, when each asks
        """
        if not self._boost or not any(len(said.friends) >= self._at_least for said in stated):
            return None
        index, likes = self._shared.index, list(self._shared.likes.values())
        found = []
        for said, now_ms in zip(stated, times_ms.tolist(), strict=True):
            if len(said.friends) < self._at_least:
                found.append(NOTHING)
                continue
            keys, counts, last_ms = liked_by(likes, said.friends, now_ms - self._since_ms)
            found.append(self._chosen(index, keys, counts, last_ms))
        return found if any(len(one.rows) for one in found) else None

    def _chosen(
        self,
        index: ItemIndex,
        keys: NDArray[np.uint64],
        counts: NDArray[np.int64],
        last_ms: NDArray[np.int64],
    ) -> FriendsItems:
        rows = index.find_keys(keys).astype(np.int64)
        some = (rows >= 0) & (counts >= self._at_least)
        rows, keys, counts, last_ms = rows[some], keys[some], counts[some], last_ms[some]
        order = np.lexsort((keys, -last_ms, -counts))[:MOST_ITEMS]  # by keys: rows differ between workers
        rows, counts = rows[order], counts[order]
        return FriendsItems(rows, counts, (self._boost * (1 - 0.5**counts)).astype(np.float32))


def friends_by_row(items: Sequence[FriendsItems] | None) -> list[dict[int, int]] | None:
    """Return how many friends liked each item, by its row, for each request."""
    if items is None:
        return None
    return [dict(zip(one.rows.tolist(), one.friends.tolist(), strict=True)) for one in items]
