"""Reasons in words and evidence for each item, for all slates of a batch together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.signals.joint import LikedItems, nothing_liked
from model_core.signals.parts import Parts
from model_core.signals.reader import Drawn
from streams.events import Evidence
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.stated import Stated
from streams.why import kernels
from streams.why.phrases import because_chosen, because_of, liked_by_friends, often_enjoyed

MAX_REASONS = 2
POPULAR, NEW = "popular right now", "new"
ON_TRIAL = "new, shown to learn who likes it"
_NOBODY: Mapping[int, int] = {}


class Why(NamedTuple):
    """Of one item of a slate: one or two reasons, and at most one piece of evidence a signal."""

    reasons: list[str]
    evidence: list[Evidence]


class SlateReasons:
    """Explains slates; it may be called from any thread, and never raises for an item or user it knows not.

    Parameters
    ----------
    actions, action_weights : names and weights by action code
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        index: ItemIndex,
        actions: Sequence[str],
        action_weights: NDArray[np.float32],
    ) -> None:
        self._catalogue = catalogue
        self._index = index
        self._actions = tuple(actions)
        self._action_weights = np.abs(action_weights)

    def of(
        self,
        stated: Sequence[Stated],
        drawn: Drawn,
        slates: NDArray[np.int64],
        *,
        parts: Parts,
        liked: LikedItems | None,
        popularity: NDArray[np.float32],
        friends: Sequence[Mapping[int, int]] | None = None,
    ) -> list[list[Why]]:
        """Say why each item suits its user.

        Reasons come in this order: a stated preference that the item meets; how many friends liked it; the
        strongest path over a shared entity from something the user liked; something the user liked and whose
        users also liked the item; that the item is popular, or new.

        Parameters
        ----------
        stated, drawn : what the users say, and what of their events the scores come from
        slates : (B, K) int64 item rows by position, -1 = no position
        parts, liked : what the signals were read of; None where EASE is none of them
        popularity : (N,) above 0 for items that somebody responded to
        friends : for each user, how many friends liked an item, by its row
        """
        slates = np.ascontiguousarray(slates, np.int64)
        found, shares = self._found(drawn, slates, parts, liked)
        columns = zip(
            slates.tolist(), found.tolist(), shares.round(4).tolist(), stated,
            [_NOBODY] * len(slates) if friends is None else friends, strict=True,
        )  # fmt: skip
        return [
            self._slate(rows, of_slate, of_sums, self._wanted(said.preferences), popularity, liked)
            for rows, of_slate, of_sums, said, liked in columns
        ]

    def _found(
        self, drawn: Drawn, slates: NDArray[np.int64], parts: Parts, read: LikedItems | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See `kernels.explain`."""
        catalogue, liked, window = self._catalogue, drawn.positives, drawn.window
        read = read or nothing_liked(len(slates))
        found, shares = np.empty((*slates.shape, 7), np.int64), np.empty((*slates.shape, 2))
        kernels.explain(
            parts.where, liked.items, liked.actions, liked.weights, self._action_weights,
            window.rows, window.weights, slates,
            catalogue.edge_table, catalogue.degrees, catalogue.n_live, len(catalogue.entities),
            read.place_of, read.places, read.begin, read.end,
            read.ease.bounds, read.ease.items, read.ease.weights,
            read.rows.row_of, read.rows.size, read.rows.new_rows, read.rows.new_weights, found, shares,
        )  # fmt: skip
        return found, shares

    def _slate(
        self,
        rows: list[int],
        found: list[list[int]],
        shares: list[list[float]],
        wanted: list[int],
        popularity: NDArray[np.float32],
        friends: Mapping[int, int],
    ) -> list[Why]:
        """Explain the items of one slate."""
        catalogue, actions, ids = self._catalogue, self._actions, self._index.ids
        entities, relations, title_of = catalogue.entities, catalogue.relations, catalogue.title
        slate = []
        for i, (item, action, relation, entity, together, met, eased) in enumerate(found):
            reasons: list[str] = []
            if wanted and (chosen := self._chosen(rows[i], wanted)):
                reasons.append(chosen)
            if friends and (n_friends := friends.get(rows[i])):
                reasons.append(liked_by_friends(n_friends))
            if item >= 0 and len(reasons) < MAX_REASONS and (title := title_of(item)):
                reasons.append(because_of(actions[action], title, relations[relation], entities[entity]))
            if together >= 0 and len(reasons) < MAX_REASONS and (title := title_of(together)):
                reasons.append(often_enjoyed(title))
            evidence: list[Evidence] = []
            # A row restored from its key alone has no id until somebody names the item.
            if met >= 0 and (name := ids[met]):
                evidence.append(Evidence("covisits", name, shares[i][0]))
            if eased >= 0 and (name := ids[eased]):
                evidence.append(Evidence("ease", name, shares[i][1]))
            if not reasons:
                row = rows[i]
                reasons.append(POPULAR if 0 <= row < len(popularity) and popularity[row] > 0 else NEW)
            slate.append(Why(reasons, evidence))
        return slate

    def _wanted(self, preferences: Sequence[str]) -> list[int]:
        """Rows of the entities that a user says they like."""
        return [row for name in preferences if (row := self._catalogue.entity_row(name)) >= 0]

    def _chosen(self, row: int, wanted: list[int]) -> str:
        """Say which stated preference an item meets; "" if it meets none."""
        catalogue = self._catalogue
        entities, relations, mask = catalogue.edges(np.array([row]), catalogue.edge_table.shape[1])
        met = np.flatnonzero(mask[0] & np.isin(entities[0], wanted))
        if not len(met):
            return ""
        return because_chosen(
            catalogue.relations[relations[0, met[0]]], catalogue.entities[entities[0, met[0]]]
        )
