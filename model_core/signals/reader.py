"""From what users did to what a release is given: the one way, in training, evaluation and serving."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation_scores import read_weights
from model_core.signals.config import SignalConfig
from model_core.signals.pasts import (
    Pasts,
    Positives,
    Window,
    affinities,
    chosen,
    histories,
    positives,
    recent,
)
from model_core.signals.stated_preferences import join_stated


class Drawn(NamedTuple):
    """The events of B users that something is computed from.

    positives : for affinities to entities, and for the reasons of slates
    window : for co-visits
    liked_bounds : (B + 1,) int64; liked : (m,) int32 item rows, oldest first, repeats allowed: for EASE
    """

    positives: Positives
    window: Window
    liked_bounds: NDArray[np.int64]
    liked: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the features of users for a release, as its training did.

    Parameters
    ----------
    config : of the release
    history_length, n_affinities : events and entities of a user that it reads
    n_entities : rows of its entities, 0 included
    codes : (n_actions,) int64, its code of each action of a past

    Attributes
    ----------
    window_weights : (2, W) int64, of `co_visitation_scores.read_weights`
    """

    config: SignalConfig
    history_length: int
    n_affinities: int
    n_entities: int
    codes: NDArray[np.int64]
    window_weights: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        weights = read_weights(window=config.read_window, decay=config.read_decay, other=config.read_other)
        object.__setattr__(self, "window_weights", weights)

    def draw(self, pasts: Pasts, now_ms: NDArray[np.int64], *, described: NDArray[np.bool_]) -> Drawn:
        """Choose the events that count.

        Parameters
        ----------
        now_ms : (B,) int64
        described : (N,) bool by item row
        """
        config = self.config
        return Drawn(
            positives(
                pasts, described, now_ms, most=config.affinity_positives,
                half_life_ms=config.affinity_half_life_ms,
            ),
            recent(pasts, described, self.window_weights),
            *chosen(pasts.bounds, pasts.items, pasts.positive, described),
        )  # fmt: skip

    def users(
        self,
        pasts: Pasts,
        now_ms: NDArray[np.int64],
        drawn: Drawn,
        *,
        described: NDArray[np.bool_],
        edges: NDArray[np.int32],
        stated: NDArray[np.int64],
    ) -> dict[str, Any]:
        """Return what the networks read of B users: the fields `PER_USER` of a `ScoreBatch`.

        Parameters
        ----------
        edges : (N, K) int32 entities of the items, by item row; 0 = none, or not known
        stated : (B, MAX_STATED) int64 entities
        """
        items, actions, ages = histories(
            pasts, described, now_ms, codes=self.codes, length=self.history_length
        )
        near = affinities(drawn.positives, edges, n_entities=self.n_entities, top=self.n_affinities)
        entities, weights = join_stated(stated, *near)
        return {
            "history": items,
            "history_actions": actions,
            "history_age_s": ages,
            "user_entities": entities,
            "user_entity_weights": weights,
        }
