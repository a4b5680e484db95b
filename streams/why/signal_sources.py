"""What of a user's history the signals of an item come from: exact, and cheap enough for every slate."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation, read_weights
from model_core.signals.config import SignalConfig
from model_core.signals.evidence import covisit_parts
from model_core.signals.joint import LikedItems
from streams.items.ease_signal import EaseSignal
from streams.state.people import People

_NO_ROWS = np.zeros(0, np.int32)

Parts = tuple[NDArray[np.int64], NDArray[np.float64]]


class Window(NamedTuple):
    """The events of B users that co-visits are read from: (B, W) int64 rows, -1 = padding, and weights."""

    rows: NDArray[np.int64]
    weights: NDArray[np.int64]


class SignalSources:
    """Takes co-visits and EASE apart into the items that they are sums over.

    Parameters
    ----------
    read
        How co-visits are read.
    length
        Events of a user's history that a release reads; co-visits read no more either.
    positive : (n_actions,) bool
    ease
        None where no release is served.
    """

    def __init__(
        self,
        *,
        read: SignalConfig,
        length: int,
        positive: NDArray[np.bool_],
        covisits: Mapping[int, CoVisitation],
        ease: EaseSignal | None,
    ) -> None:
        self._read = read
        self._window = min(read.read_window, length)
        self._positive = positive
        self._covisits = covisits
        self._ease = ease

    def liked(self, people: People) -> LikedItems | None:
        """Return what EASE reads of some users; None where it is none of the signals."""
        if self._ease is None:
            return None
        bounds = np.cumsum([0, *map(len, people.liked)])
        return self._ease.liked(bounds, np.concatenate([_NO_ROWS, *people.liked]))

    def window(self, people: People) -> Window:
        """Return the events that co-visits are read from."""
        rows = np.ascontiguousarray(people.items[:, -self._window :])
        actions = people.actions[:, -self._window :]
        positive = self._positive[actions] & (actions >= 0)
        read = read_weights(window=self._window, decay=self._read.read_decay, other=self._read.read_other)
        return Window(rows, read[positive.astype(np.int64), np.arange(self._window)[::-1]])

    def covisits(self, people: People, user: int, items: NDArray[np.int64]) -> Parts:
        """Items of a user's last events, and what each adds to the co-visits of each of `items`."""
        rows, weights = self.window(people)
        return covisit_parts(list(self._covisits.values()), rows[user], weights[user], items)

    def ease(self, people: People, user: int, items: NDArray[np.int64]) -> Parts:
        """Items that a user liked, and what each adds to EASE's score of each of `items`."""
        if self._ease is None:
            return np.zeros(0, np.int64), np.zeros((0, len(items)))
        return self._ease.parts(people.liked[user].astype(np.int64), items)
