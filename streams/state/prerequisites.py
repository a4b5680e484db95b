"""Items that require others: who may be offered them, and which can be offered to nobody."""

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model_core.signals.pasts import Pasts
from streams.state.catalogue import Catalogue
from streams.state.item_columns import grown
from streams.state.item_index import ItemIndex, key_of

Rows = NDArray[np.int32]
Why = Literal["unknown", "circle", "behind"]
"""Why nobody can be offered an item: it requires what is no item; it requires itself, be it through others
(or is between two that do); or it requires an item of which one of these holds."""

FORGOTTEN = 1024  # names that nobody requires any more, before they are looked through
NO_ITEM = -1  # instead of the row of a requirement that nobody has described

_NONE = np.zeros(0, np.int32)


class Prerequisites:
    """What items require, kept up to date with the catalogue, held against what users have done.

    An item requires the items whose ids are the values of one of its attributes: all of them. Those that it
    names are looked up by key, so it does not matter which is described first.

    The event loop writes; any thread may read.

    Parameters
    ----------
    attribute : whose values are ids of items; None = no item requires anything
    done : (n_actions,) bool, actions by which an item is done

    Attributes
    ----------
    changed_times : grows when what items require, or which items there are, may have changed
    """

    def __init__(
        self, catalogue: Catalogue, index: ItemIndex, attribute: str | None, done: NDArray[np.bool_]
    ) -> None:
        self._catalogue = catalogue
        self._index = index
        self._attribute = attribute
        self._done = done
        self._needs = np.zeros(1024 if attribute is not None else 0, np.int32)  # requirements of each row
        self._n_gated = 0
        self._required: dict[int, str] = {}  # by key, ids that an item requires or has required
        self._after: dict[int, Rows] = {}  # by key, the items that require it, as far as somebody asked
        self.changed_times = 0

    def changed(self, rows: Rows) -> None:
        """Look again at items that have changed."""
        if self._attribute is None or not len(rows):
            return
        self.changed_times += 1
        if (n := int(rows.max()) + 1) > len(self._needs):
            self._needs = grown(self._needs, max(n, 2 * len(self._needs)))
        rows = np.unique(rows)
        needs = self._catalogue.count_values(rows, self._attribute)
        if (needs + self._needs[rows]).any():
            self._after.clear()
        self._n_gated += int(np.count_nonzero(needs)) - int(np.count_nonzero(self._needs[rows]))
        self._needs[rows] = needs
        if len(self._required) > FORGOTTEN + 2 * int(self._needs.sum()):
            self._required.clear()  # most of them nobody requires any more
            rows = np.flatnonzero(self._needs).astype(np.int32)
            needs = self._needs[rows]
        for row in rows[needs > 0].tolist():
            self._required.update((key_of(name), name) for name in self._names(row))

    def gated(self, n: int) -> NDArray[np.bool_] | None:
        """Return which of the first n rows require something: (n,) bool; None where no item does."""
        if not self._n_gated:
            return None
        needs = self._needs[:n]
        return grown(needs > 0, n) if len(needs) < n else needs > 0

    def opened(self, pasts: Pasts) -> list[Rows] | None:
        """Return for each user the items with requirements of which the user has done all.

        Returns
        -------
        (n,) int32 each, ascending; None where no item requires anything
        """
        if not self._n_gated:
            return None
        return [self._opened(pasts.items[begin:end][self._done[pasts.actions[begin:end]]])
                for begin, end in pairwise(pasts.bounds.tolist())]  # fmt: skip

    def _opened(self, done: Rows) -> Rows:
        required, after = self._required, self._after
        keys = [key for key in self._index.keys[done].tolist() if key in required]
        if not keys:
            return _NONE
        for key in keys:
            if key not in after:
                after[key] = self._requiring(required[key])
        rows, met = np.unique(np.concatenate([after[key] for key in set(keys)]), return_counts=True)
        opened: Rows = rows[met == self._needs[rows]]
        return opened

    def _requiring(self, name: str) -> Rows:
        assert self._attribute is not None
        lists = self._catalogue.postings(self._attribute, (name,))
        return lists[0].copy() if lists else _NONE

    def permits(self, rows: NDArray[np.int64], past: Pasts) -> NDArray[np.bool_]:
        """Tell which of some rows one user may be offered, as far as requirements go: (n,) bool."""
        opened = self.opened(past)
        if opened is None:
            return np.ones(len(rows), np.bool_)
        inside = rows < len(self._needs)
        free: NDArray[np.bool_] = ~inside | (self._needs[np.where(inside, rows, 0)] == 0)
        return free | np.isin(rows, opened[0])

    def lacking(self, row: int, past: Pasts) -> list[str]:
        """Return the ids of what an item requires and one user has not done."""
        return self._lacking(row, self._done_keys(past))

    def never(self, row: int, past: Pasts) -> Why | None:
        """Return why a user can come to no slate with an item, whatever they do; None if they can.

        O(all that it requires, through others, too).
        """
        done = self._done_keys(past)
        requires: dict[int, list[int]] = {}
        ahead = [row]
        while ahead:
            if (one := ahead.pop()) not in requires and (lacking := self._lacking(one, done)):
                requires[one] = self._described(lacking)
                ahead += [other for other in requires[one] if other != NO_ITEM]
        return dead_ends(requires).get(row)

    def dead_ends(self) -> dict[int, Why]:
        """Return the rows of items that nobody who has not done them can be offered. O(all requirements)."""
        return dead_ends(
            {row: self._described(self._names(row)) for row in np.flatnonzero(self._needs).tolist()}
        )

    def _done_keys(self, past: Pasts) -> set[int]:
        return set(self._index.keys[past.items[self._done[past.actions]]].tolist())

    def _lacking(self, row: int, done: Collection[int]) -> list[str]:
        return [name for name in self._names(row) if key_of(name) not in done]

    def _names(self, row: int) -> list[str]:
        return [] if self._attribute is None else self._catalogue.values(row, self._attribute)

    def _described(self, names: Iterable[str]) -> list[int]:
        """Rows of items, `NO_ITEM` where nobody has described one."""
        rows = self._index.find_keys(np.array([key_of(name) for name in names], np.uint64)).tolist()
        return [row if self._catalogue.exists(row) else NO_ITEM for row in rows]


def dead_ends(requires: Mapping[int, Collection[int]]) -> dict[int, Why]:
    """Return which items can be offered to nobody, and why.

    Parameters
    ----------
    requires : of each item that requires any, the items that it requires; `NO_ITEM` for what is none
    """
    waits = {row: set(needs) for row, needs in requires.items()}
    stuck = _peeled(waits)
    # Where nothing is unknown, who still waits is in a circle or behind one; who is behind, no circle needs.
    beyond = _peeled({row: needs - {NO_ITEM} for row, needs in waits.items()})
    needed_by: dict[int, set[int]] = {row: set() for row in beyond}
    for row in beyond:
        for need in waits[row] & beyond:
            needed_by[need].add(row)
    circle = _peeled(needed_by)
    return {
        row: "unknown" if NO_ITEM in waits[row] else "circle" if row in circle else "behind" for row in stuck
    }


def _peeled(waits: Mapping[int, Collection[int]]) -> set[int]:
    """Return who still waits when all go, again and again, who wait for none but such as have gone.

    Who waits for nobody is not in `waits`, or waits for an empty collection; `NO_ITEM` never goes.
    """
    after: dict[int, list[int]] = {}
    for row, others in waits.items():
        for other in others:
            after.setdefault(other, []).append(row)
    left = {row: len(others) for row, others in waits.items()}
    free = [row for row, n in left.items() if not n] + list(after.keys() - waits.keys() - {NO_ITEM})
    gone = set(free)
    while free:
        for row in after.get(free.pop(), ()):
            left[row] -= 1
            if not left[row]:
                gone.add(row)
                free.append(row)
    return waits.keys() - gone
