"""What of a user's history the signals of an item come from: exact, and cheap enough for every slate."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation, history_weights
from model_core.signals.evidence import covisit_parts, strongest
from model_core.signals.sample_signals import SignalConfig
from streams.events import Evidence
from streams.items.ease_signal import EaseSignal
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles


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
        index: ItemIndex,
        history_limit: int,
    ) -> None:
        self._read = read
        self._window = min(read.read_window, length)
        self._positive = positive
        self._covisits = covisits
        self._ease = ease
        self._index = index
        self._history_limit = history_limit

    def covisits(
        self, profiles: Profiles, user_row: int, items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Items of the user's last events, and what each adds to the co-visits of each of `items`."""
        rows, actions, _ = profiles.history(user_row, self._window)
        weights = history_weights(
            self._positive[actions][None], read_decay=self._read.read_decay, read_other=self._read.read_other
        )[0]
        return covisit_parts(list(self._covisits.values()), rows, weights, items)

    def ease(
        self, profiles: Profiles, user_row: int, items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Items that the user liked, and what each adds to EASE's score of each of `items`."""
        if self._ease is None:
            return np.zeros(0, np.int64), np.zeros((0, len(items)))
        liked = profiles.recent_positives(user_row, self._positive, self._history_limit)
        return self._ease.parts(liked, items)

    def strongest(self, profiles: Profiles, user_row: int, items: NDArray[np.int64]) -> list[list[Evidence]]:
        """For each item of a slate, the item that each signal owes most to; none where a signal is 0."""
        found: list[list[Evidence]] = [[] for _ in range(len(items))]
        if user_row < 0 or not len(items):
            return found
        for signal, read in (("covisits", self.covisits), ("ease", self.ease)):
            rows, parts = read(profiles, user_row, items)
            best, share = strongest(parts)
            for i, (place, part) in enumerate(zip(best.tolist(), share.tolist(), strict=True)):
                # A row restored from its key alone has no id until somebody names the item.
                if place >= 0 and (item_id := self._index.ids[rows[place]]):
                    found[i].append(Evidence(signal=signal, item_id=item_id, share=round(part, 4)))
        return found
