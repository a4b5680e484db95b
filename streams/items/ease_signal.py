"""EASE's part of the signals: from the rows of a worker's items to those of its release, and back.

Items that the release does not know are scored by what they say of themselves (see
`model_core.signals.cold_start`): of what its mapping makes of them, the largest weights of each liked item
are kept, as many as EASE keeps of those it knows.
"""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import ItemBatch
from model_core.signals.cold_start import ItemMapping
from model_core.signals.ease import Ease, Rows
from model_core.signals.evidence import ease_parts
from model_core.signals.joint import LikedItems
from model_core.signals.sparse import Sums
from streams.state.item_columns import grown
from streams.state.item_index import ItemIndex, keys_of


class EaseSignal:
    """Scores a worker's items by a release's EASE, items that the release does not know by its mapping.

    Parameters
    ----------
    items
        The release's items, in the order of EASE's rows.
    keep
        Weights on new items kept per liked item, the largest in absolute value.
    """

    def __init__(
        self, ease: Ease, mapping: ItemMapping, items: Sequence[str], index: ItemIndex, *, keep: int = 256
    ) -> None:
        self._ease = ease
        self._mapping = mapping
        self._keys = keys_of(items)
        self._index = index
        self._version = -1
        self._place = np.zeros(0, np.int32)  # of each row, the release's item, -1 = unknown to it
        self._described = np.zeros(0, np.bool_)  # rows that may have entries
        n = ease.n_items
        self._rows = Rows(
            np.full(n, -1, np.int32),
            np.zeros(n, np.int32),
            np.zeros((n, keep), np.int32),
            np.zeros((n, keep), np.float32),
        )

    def describe(self, rows: NDArray[np.int64], items: ItemBatch) -> None:
        """Learn what these rows say of themselves now; those that the release knows do not need it."""
        new = items.id_rows == 0
        if not new.any():
            return
        order = np.argsort(rows[new])
        places, fresh = self._mapping.places(items)[new][order], rows[new][order]
        if fresh[-1] >= len(self._described):
            self._described = grown(self._described, 2 * int(fresh[-1]) + 1)
        if self._described[fresh].any():
            again = np.zeros(fresh[-1] + 1, np.bool_)
            again[fresh] = True
            _take_out(*self._rows[1:], again)
        self._described[fresh] = True
        # Of each of the release's items a row in one piece, as they are gone through.
        _put_in(*self._rows[1:], fresh, self._mapping.weights.T @ places.T)

    def forget(self, gone: NDArray[np.bool_]) -> None:
        """Take out what the rows marked in `gone`, by row, said of themselves: other items will have them."""
        _take_out(*self._rows[1:], gone)

    def liked(self, bounds: NDArray[np.int64], rows: NDArray[np.integer]) -> LikedItems:
        """Return what EASE reads of B users who liked these rows, repeats allowed.

        Parameters
        ----------
        bounds : (B + 1,) int64, rows : (m,)
        """
        self._number()
        return LikedItems(self._ease, self._rows, self._place, self._place[rows], bounds[:-1], bounds[1:])

    def sparse_scores(self, bounds: NDArray[np.int64], liked: NDArray[np.integer], n: int) -> Sums:
        """Score rows 0 to n - 1 by what B users liked: bounds (B + 1,), rows (M,) and values (M,) float32."""
        read = self.liked(bounds, liked)
        return self._ease.sparse_scores(bounds, read.places, read.rows, n)

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
        for column in np.flatnonzero(self._place[items] < 0):
            there = self._rows.new_rows[places] == items[column]
            there &= np.arange(there.shape[1]) < self._rows.size[places][:, None]
            parts[:, column] = np.where(there, self._rows.new_weights[places], 0.0).sum(1)
        return rows, parts

    def _number(self) -> None:
        """Look the release's items up again when items have come or gone."""
        if self._version == self._index.version:
            return
        self._version = self._index.version
        self._rows.row_of[:] = self._index.find_keys(self._keys)
        self._place = np.full(len(self._index), -1, np.int32)
        here = np.flatnonzero(self._rows.row_of >= 0)
        self._place[self._rows.row_of[here]] = here


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    none = Rows(
        np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)
    )
    _put_in(*none[1:], np.zeros(1, np.int64), np.ones((1, 1), np.float32))
    _take_out(*none[1:], np.zeros(1, np.bool_))


@numba.njit(cache=True, nogil=True)
def _take_out(size, new_rows, new_weights, gone):  # type: ignore[no-untyped-def]
    """Take out the entries of the rows marked in `gone`, by row."""
    for item in range(len(size)):
        kept = 0
        for k in range(size[item]):
            row = new_rows[item, k]
            if row >= len(gone) or not gone[row]:
                new_rows[item, kept], new_weights[item, kept] = row, new_weights[item, k]
                kept += 1
        size[item] = kept


@numba.njit(cache=True, nogil=True)
def _put_in(size, new_rows, new_weights, rows, weights):  # type: ignore[no-untyped-def]
    """Put in the weights, (n_items, len(rows)), of rows that have no entries."""
    room = new_rows.shape[1]
    for item in range(len(size)):
        kept = size[item]
        least, bar = -1, np.float32(0.0)  # the smallest of a full list, looked up again after each change
        for i in range(len(rows)):
            weight = weights[item, i]
            if kept < room:
                if weight != 0:
                    new_rows[item, kept], new_weights[item, kept] = rows[i], weight
                    kept += 1
                continue
            if least < 0:
                least = _smallest(new_weights[item])
                bar = abs(new_weights[item, least])
            if abs(weight) > bar:
                new_rows[item, least], new_weights[item, least] = rows[i], weight
                least = -1
        size[item] = kept


@numba.njit(cache=True, nogil=True)
def _smallest(values):  # type: ignore[no-untyped-def]
    """Place of the first value that is the smallest in absolute value."""
    place = 0
    for k in range(1, len(values)):
        if abs(values[k]) < abs(values[place]):
            place = k
    return place
