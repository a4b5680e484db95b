"""What of a user's history the signals of an item come from: exact, and cheap enough for every slate."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation, read_weights
from model_core.signals.config import SignalConfig
from model_core.signals.evidence import covisit_parts, strongest
from streams.items.ease_signal import EaseSignal
from streams.state.people import People

Parts = tuple[NDArray[np.int64], NDArray[np.float64]]


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

    @property
    def has_ease(self) -> bool:
        """Whether EASE is one of the signals."""
        return self._ease is not None

    def window(self, people: People) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the events that co-visits are read from, (B, W) rows, -1 = padding, and their weights."""
        rows = np.ascontiguousarray(people.items[:, -self._window :])
        actions = people.actions[:, -self._window :]
        positive = self._positive[actions] & (actions >= 0)
        read = read_weights(window=self._window, decay=self._read.read_decay, other=self._read.read_other)
        return rows, read[positive.astype(np.int64), np.arange(self._window)[::-1]]

    def covisits(self, people: People, user: int, items: NDArray[np.int64]) -> Parts:
        """Items of a user's last events, and what each adds to the co-visits of each of `items`."""
        rows, weights = self.window(people)
        return covisit_parts(list(self._covisits.values()), rows[user], weights[user], items)

    def ease(self, people: People, user: int, items: NDArray[np.int64]) -> Parts:
        """Items that a user liked, and what each adds to EASE's score of each of `items`."""
        if self._ease is None:
            return np.zeros(0, np.int64), np.zeros((0, len(items)))
        return self._ease.parts(people.liked[user].astype(np.int64), items)

    def strongest_ease(self, people: People, slates: NDArray[np.int64]) -> Parts:
        """For each item of a slate the liked item that EASE owes most to, and its share of the sum.

        Returns
        -------
        rows : (B, K) int64, -1 where there is none; share : (B, K) float64
        """
        rows, shares = np.full(slates.shape, -1, np.int64), np.zeros(slates.shape)
        for b, slate in enumerate(slates):
            here = np.flatnonzero(slate >= 0)
            if len(people.liked[b]) and len(here):
                liked, parts = self.ease(people, b, slate[here])
                place, share = strongest(parts)
                found = place >= 0
                rows[b, here[found]] = liked[place[found]]
                shares[b, here] = share
        return rows, shares
