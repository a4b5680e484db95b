"""What becomes of new items that were shown on trial, and of all others in the same places.

Counted are the lower halves of slates that can be rewarded: how often an item that has been on trial was
shown there, and how often it was taken. These are this worker's own slates since it started, also in what is
taken: what it does not know any more is tried again.
"""

from collections.abc import Iterable, Sequence

MAX_ITEMS = 10_000
"""Items counted at once; those first tried are forgotten first."""


class TrialCounts:
    """Counts by item id. The event loop writes, and other threads may read.

    Attributes
    ----------
    shown, taken : of all other items
    """

    def __init__(self) -> None:
        self._items: dict[str, tuple[int, int]] = {}
        self.shown = self.taken = 0

    def show(self, slate: Sequence[str], tried: str | None) -> None:
        """Count a slate that goes out, and what is on trial in it."""
        items = self._items
        if tried is not None and tried not in items:
            if len(items) >= MAX_ITEMS:
                del items[next(iter(items))]
            items[tried] = (0, 0)
        for item in slate[len(slate) // 2 :]:
            if (counts := items.get(item)) is None:
                self.shown += 1
            else:
                items[item] = (counts[0] + 1, counts[1])

    def take(self, slate: Sequence[str], position: int) -> None:
        """Count that a user took an item of a slate: their first response to it, of all their slates."""
        if position < len(slate) // 2:
            return
        if (counts := self._items.get(slate[position])) is None:
            self.taken += 1
        else:
            self._items[slate[position]] = (counts[0], counts[1] + 1)

    @property
    def items(self) -> list[str]:
        """Those that have been on trial."""
        return list(self._items)

    @property
    def usual(self) -> float:
        """The rate at which others are taken; in (0, 1), also before one was."""
        return (self.taken + 0.5) / (max(self.shown, self.taken) + 10.0)

    def of(self, items: Iterable[str]) -> list[tuple[int, int]]:
        """Return how often each item was shown and taken."""
        return [self._items.get(item, (0, 0)) for item in items]
