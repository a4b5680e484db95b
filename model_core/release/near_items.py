"""Products of users' vectors with items', off by a known margin, by which retrieval finds where to look."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

NOTHING: Floats = np.zeros(0, np.float32)
ZERO = 128
"""What stands for 0 in the unsigned integers of users, see `compact_items` and `match_graph`."""
ROUNDING = np.float32(8e-6)
"""Of sums of single floats, for each unit of the two vectors' lengths."""


@dataclass(frozen=True, slots=True)
class Near:
    """Products of users with items, each off by at most ``of_norm * norm + of_error * error`` of the item.

    products : (b, n) float32, which may be overwritten
    of_norm, of_error : (b,) float32, of the users; empty when the products are not off at all
    """

    products: Floats
    of_norm: Floats
    of_error: Floats


def same_place(items: Floats, held: Floats | None) -> bool:
    """Whether two arrays of rows begin at the same place; what is held is not freed, so nothing else does."""
    return held is not None and items.__array_interface__["data"] == held.__array_interface__["data"]


class Written:
    """Tracks which rows of a table its copy lacks."""

    def __init__(self) -> None:
        self._copied: Floats | None = None
        self._rows: list[NDArray[np.int64]] = []

    def write(self, rows: NDArray[np.int64]) -> None:
        """See `NearItems.write`."""
        self._rows.append(rows)

    def due(self, items: Floats) -> NDArray[np.int64]:
        """Return rows of `items` in ascending order, those to copy now; see `NearItems.hold`."""
        if not same_place(items, self._copied):
            rows = np.arange(len(items))
            self._rows.clear()
        elif not self._rows:
            return np.zeros(0, np.int64)
        else:
            rows = np.unique(np.concatenate(self._rows))
            rows, later = rows[rows < len(items)], rows[rows >= len(items)]
            self._rows = [later] if len(later) else []
        self._copied = items
        return rows


class NearItems(Protocol):
    """A copy of the item vectors in less precision, which follows what is written to them.

    norms : (at least N,) float32, lengths of the vectors; not a number where a vector has none
    errors : (at least N,) float32, lengths of what the copy is off by
    Both are empty while products are not off at all.
    """

    @property
    def norms(self) -> Floats:
        """See above."""

    @property
    def errors(self) -> Floats:
        """See above."""

    def write(self, rows: NDArray[np.int64]) -> None:
        """Note that rows of the items were written; they are copied with the next `hold`."""

    def hold(self, items: Floats) -> None:
        """Bring the copy up to date with `items`, (n, dim).

        An array at the same place as last time is the same table, of which only what was written has changed,
        and which may have more or fewer rows; one at another place is another table.
        """

    def at_once(self, requests: int) -> int:
        """Return how many items `near` should be asked for in one call: it is asked for these steps."""

    def near(self, match: Floats, begin: int, end: int) -> Near:
        """Multiply (b, dim) with the items from `begin`, a step's, to `end`."""


class WholeItems:
    """See `NearItems`: the vectors themselves, which are not copied and whose products are not off.

    Parameters
    ----------
    product
        Makes ``match @ items.T`` of (b, dim) and (n, dim).
    scores
        Asked of `product` at once: what stays in the processor's cache until the best are selected.
    """

    norms = errors = NOTHING

    def __init__(self, product: Callable[[Floats, Floats], Floats], *, scores: int = 1 << 18) -> None:
        self._product, self._scores = product, scores
        self._items = np.zeros((0, 0), np.float32)

    def write(self, rows: NDArray[np.int64]) -> None:
        """See `NearItems.write`."""

    def hold(self, items: Floats) -> None:
        """See `NearItems.hold`."""
        self._items = items

    def at_once(self, requests: int) -> int:
        """See `NearItems.at_once`."""
        return max(1, self._scores // requests)

    def near(self, match: Floats, begin: int, end: int) -> Near:
        """See `NearItems.near`."""
        return Near(self._product(match, self._items[begin:end]), NOTHING, NOTHING)


class GrowingItems:
    """See `NearItems`: one way to hold a small catalogue, and another from a size on.

    Parameters
    ----------
    large
        Makes the other way when the catalogue first has `size` items.
    """

    def __init__(self, small: NearItems, large: Callable[[], NearItems], *, size: int) -> None:
        self._now, self._size = small, size
        self._make_large: Callable[[], NearItems] | None = large

    @property
    def norms(self) -> Floats:
        """See `NearItems`."""
        return self._now.norms

    @property
    def errors(self) -> Floats:
        """See `NearItems`."""
        return self._now.errors

    def write(self, rows: NDArray[np.int64]) -> None:
        """See `NearItems.write`."""
        self._now.write(rows)

    def hold(self, items: Floats) -> None:
        """See `NearItems.hold`."""
        if self._make_large is not None and len(items) >= self._size:
            self._now, self._make_large = self._make_large(), None
        self._now.hold(items)

    def at_once(self, requests: int) -> int:
        """See `NearItems.at_once`."""
        return self._now.at_once(requests)

    def near(self, match: Floats, begin: int, end: int) -> Near:
        """See `NearItems.near`."""
        return self._now.near(match, begin, end)
