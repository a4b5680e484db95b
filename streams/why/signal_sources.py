"""Finds the items of a history that an item's signals come from: exact, and cheap enough for every slate."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.evidence import covisit_parts
from model_core.signals.joint import LikedItems
from model_core.signals.reader import Drawn
from streams.items.ease_signal import EaseSignal

Parts = tuple[NDArray[np.int64], NDArray[np.float64]]


class SignalSources:
    """Takes co-visits and EASE apart into the items that they are sums over.

    Parameters
    ----------
    ease
        None where no release is served.
    """

    def __init__(self, *, covisits: Mapping[int, CoVisitation], ease: EaseSignal | None) -> None:
        self._covisits = covisits
        self._ease = ease

    def liked(self, drawn: Drawn) -> LikedItems | None:
        """Return what EASE reads of some users; None where it is none of the signals."""
        return None if self._ease is None else self._ease.liked(drawn.liked_bounds, drawn.liked)

    def covisits(self, drawn: Drawn, user: int, items: NDArray[np.int64]) -> Parts:
        """Items of a user's last events, and what each adds to the co-visits of each of `items`."""
        rows, weights = drawn.window
        return covisit_parts(list(self._covisits.values()), rows[user], weights[user], items)

    def ease(self, drawn: Drawn, user: int, items: NDArray[np.int64]) -> Parts:
        """Items that a user liked, and what each adds to EASE's score of each of `items`."""
        if self._ease is None:
            return np.zeros(0, np.int64), np.zeros((0, len(items)))
        begin, end = drawn.liked_bounds[user : user + 2]
        return self._ease.parts(drawn.liked[begin:end].astype(np.int64), items)
