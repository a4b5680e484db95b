"""EASE's part of the signals: from the rows of a worker's items to those of its release, and back.

Items that the release does not know are scored by what they say of themselves (see
`model_core.signals.cold_start`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.release.batches import ItemBatch
from model_core.signals.cold_start import ItemMapping
from model_core.signals.ease import Ease
from model_core.signals.evidence import ease_parts
from streams.state.item_index import ItemIndex, keys_of


class EaseSignal:
    """Scores a worker's items by a release's EASE, items that the release does not know by its mapping.

    Parameters
    ----------
    items
        The release's items, in the order of EASE's rows.
    """

    def __init__(self, ease: Ease, mapping: ItemMapping, items: Sequence[str], index: ItemIndex) -> None:
        self._ease = ease
        self._mapping = mapping
        self._keys = keys_of(items)
        self._index = index
        self._known = -1
        self._rows = np.zeros(0, np.int32)  # row of each of the release's items, -1 = none yet
        self._place = np.zeros(0, np.int32)  # of each row, the release's item, -1 = unknown to it
        # Rows of new items, in order, and where they are: replaced as a pair by the thread that encodes.
        self._new = (np.zeros(0, np.int64), np.zeros((0, len(mapping.weights)), np.float32))

    def describe(self, rows: NDArray[np.int64], items: ItemBatch) -> None:
        """Learn what these rows say of themselves now; those that the release knows do not need it."""
        new = items.id_rows == 0
        if not new.any():
            return
        old_rows, old_places = self._new
        kept = ~np.isin(old_rows, rows[new])
        rows = np.concatenate((old_rows[kept], rows[new]))
        places = np.concatenate((old_places[kept], self._mapping.places(items)[new]))
        order = np.argsort(rows)
        self._new = rows[order], places[order]

    def scores(self, liked: Sequence[NDArray[np.int64]], n: int) -> NDArray[np.float32]:
        """Score rows 0 to n - 1 by the rows that users liked, repeats allowed: (len(liked), n) float32."""
        self._number()
        places = [np.unique(self._place[rows]) for rows in liked]
        scores = self._ease.scores([place[place >= 0] for place in places])
        out = np.zeros((len(liked), n), np.float32)
        here = np.flatnonzero((self._rows >= 0) & (self._rows < n))
        out[:, self._rows[here]] = scores[:, here]
        new, where = self._new
        if len(new):
            weights = self._mapping.weights
            drawn = np.stack([weights[:, place[place >= 0]].sum(1) for place in places])
            new, where = new[new < n], where[new < n]
            out[:, new] = np.maximum(drawn @ where.T, 0.0)
        return out

    def parts(
        self, liked: NDArray[np.int64], items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Summands of the scores of some rows before they are cut at 0.

        Returns
        -------
        rows : (m,) int64, distinct ones of `liked` that the release knows
        summands : (m, len(items)) float64
        """
        self._number()
        rows = np.unique(liked)
        rows = rows[self._place[rows] >= 0]
        places = self._place[rows]
        parts = ease_parts(self._ease, places, self._place[items])
        new, where = self._new
        for column in np.flatnonzero(np.isin(items, new)):
            parts[:, column] = where[np.searchsorted(new, items[column])] @ self._mapping.weights[:, places]
        return rows, parts

    def _number(self) -> None:
        """Look the release's items up again when there are new rows."""
        if self._known == len(self._index):
            return
        self._known = len(self._index)
        self._rows = self._index.find_keys(self._keys)
        self._place = np.full(self._known, -1, np.int32)
        here = np.flatnonzero(self._rows >= 0)
        self._place[self._rows[here]] = here
