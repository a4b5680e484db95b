"""EASE's part of the signals: from the rows of a worker's items to those of its release, and back."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.ease import Ease
from streams.state.item_index import ItemIndex, keys_of


class EaseSignal:
    """Scores a worker's items by a release's EASE; items that the release does not know score 0.

    Parameters
    ----------
    items
        The release's items, in the order of EASE's rows.
    """

    def __init__(self, ease: Ease, items: Sequence[str], index: ItemIndex) -> None:
        self._ease = ease
        self._keys = keys_of(items)
        self._index = index
        self._known = -1
        self._rows = np.zeros(0, np.int32)  # row of each of the release's items, -1 = none yet
        self._place = np.zeros(0, np.int32)  # of each row, the release's item, -1 = unknown to it

    def scores(self, liked: Sequence[NDArray[np.int64]], n: int) -> NDArray[np.float32]:
        """Score rows 0 to n - 1 by the rows that users liked, repeats allowed: (len(liked), n) float32."""
        self._number()
        places = [np.unique(self._place[rows]) for rows in liked]
        scores = self._ease.scores([place[place >= 0] for place in places])
        out = np.zeros((len(liked), n), np.float32)
        here = np.flatnonzero((self._rows >= 0) & (self._rows < n))
        out[:, self._rows[here]] = scores[:, here]
        return out

    @property
    def weights(self) -> Ease:
        """The release's weights, by the release's items."""
        return self._ease

    def place_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """For each of a worker's rows, the release's item, -1 = unknown to it: (n,) int32."""
        self._number()
        return self._place[rows]

    def places(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Distinct ones of a worker's rows that the release knows, and its items: (m,) int64 and int32."""
        rows = np.unique(rows)
        places = self.place_of(rows)
        return rows[places >= 0], places[places >= 0]

    def _number(self) -> None:
        """Look the release's items up again when there are new rows."""
        if self._known == len(self._index):
            return
        self._known = len(self._index)
        self._rows = self._index.find_keys(self._keys)
        self._place = np.full(self._known, -1, np.int32)
        here = np.flatnonzero(self._rows >= 0)
        self._place[self._rows[here]] = here
