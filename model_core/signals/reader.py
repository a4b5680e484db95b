"""From what users did to what a release is given: the one way, in training, evaluation and serving."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.release.batches import SparseRows
from model_core.signals import co_visitation
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.config import SignalConfig
from model_core.signals.pasts import Pasts, Positives, affinities, chosen, histories, positives, recent
from model_core.signals.sparse import Sums, merge_signals
from model_core.signals.stated import join_stated

EaseScores = Callable[[NDArray[np.int64], NDArray[np.int32]], Sums]
"""EASE's scores by what B users liked: (B + 1,) bounds and item rows, as of `Ease.sparse_scores`."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a release reads users, as its training did.

    Parameters
    ----------
    config : of the release
    history_length, n_affinities : events and entities of a user that it reads
    n_entities : rows of its entities, 0 included
    codes : (n_actions,) int64, its code of each action of a past
    """

    config: SignalConfig
    history_length: int
    n_affinities: int
    n_entities: int
    codes: NDArray[np.int64]

    def users(
        self,
        pasts: Pasts,
        now_ms: NDArray[np.int64],
        *,
        described: NDArray[np.bool_],
        edges: NDArray[np.int32],
        stated: NDArray[np.int64],
    ) -> dict[str, Any]:
        """Return what the networks read of B users: the fields `PER_USER` of a `ScoreBatch`.

        Parameters
        ----------
        now_ms : (B,) int64
        described : (N,) bool; edges : (N, K) int32 entities of the items; both by item row
        stated : (B, MAX_STATED) int64 entities
        """
        items, actions, ages = histories(
            pasts, described, now_ms, codes=self.codes, length=self.history_length
        )
        near = affinities(
            self.positives(pasts, now_ms, described=described), edges,
            n_entities=self.n_entities, top=self.n_affinities,
        )  # fmt: skip
        entities, weights = join_stated(stated, *near)
        return {
            "history": items,
            "history_actions": actions,
            "history_age_s": ages,
            "user_entities": entities,
            "user_entity_weights": weights,
        }

    def positives(
        self, pasts: Pasts, now_ms: NDArray[np.int64], *, described: NDArray[np.bool_]
    ) -> Positives:
        """Return the positive events that a user's affinities, and the reasons of slates, come from."""
        config = self.config
        return positives(
            pasts, described, now_ms, most=config.affinity_positives,
            half_life_ms=config.affinity_half_life_ms,
        )  # fmt: skip

    def recent(
        self, pasts: Pasts, *, described: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the events that co-visits are read from, and their weights; see `pasts.recent`."""
        config = self.config
        weights = co_visitation.read_weights(
            window=config.read_window, decay=config.read_decay, other=config.read_other
        )
        return recent(pasts, described, weights)

    def signals(
        self,
        pasts: Pasts,
        *,
        described: NDArray[np.bool_],
        parts: Sequence[CoVisitation],
        counts: NDArray[np.float32],
        ease: EaseScores | None,
    ) -> dict[str, Any]:
        """Return what counting says of the items: `popularity`, `signals`, `signal_values` of a `ScoreBatch`.

        Parameters
        ----------
        parts : co-visits of every partition
        counts : (N,) float32, of `co_visitation.total_popularity`
        """
        rows, weights = self.recent(pasts, described=described)
        found = [co_visitation.sparse_scores(parts, rows, weights, counts)]
        if ease is not None:
            found.append(ease(*liked(pasts, described=described)))
        there, values = merge_signals(found)
        return {"popularity": np.log1p(counts), "signals": there, "signal_values": values}


def liked(pasts: Pasts, *, described: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return what EASE reads: bounds (B + 1,) and rows of the items liked, oldest first, repeats allowed."""
    return chosen(pasts.bounds, pasts.items, pasts.positive, described)


def met(pasts: Pasts, counts_as_met: NDArray[np.bool_], *, described: NDArray[np.bool_]) -> SparseRows:
    """Return the items that users have met, which they are not to be given again.

    Parameters
    ----------
    counts_as_met : (M,) bool by event
    """
    bounds, rows = chosen(pasts.bounds, pasts.items, counts_as_met, described)
    return SparseRows.of([rows[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)])
