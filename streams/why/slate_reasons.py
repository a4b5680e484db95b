"""Why each item is in its slate, for all slates of a batch together: reasons in words, and evidence."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_kernels import UNIT
from streams.events import Evidence
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.people import People
from streams.why import graph_paths as graph
from streams.why import kernels
from streams.why.phrases import because_chosen, because_of, often_enjoyed
from streams.why.signal_sources import Parts, SignalSources

MAX_REASONS = 2
COVISITS_THAT_COUNT = 2.0  # together, over all users, weighted by distance
POPULAR, NEW = "popular right now", "new"


class Why(NamedTuple):
    """Of one item of a slate: one or two reasons, and at most one piece of evidence a signal."""

    reasons: list[str]
    evidence: list[Evidence]


class SlateReasons:
    """Explains slates; it may be called from any thread, and never raises for an item or user it knows not.

    Parameters
    ----------
    actions, action_weights : names and weights by action code
    positive : (n_actions,) bool
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        index: ItemIndex,
        covisits: Mapping[int, CoVisitation],
        sources: SignalSources,
        actions: Sequence[str],
        action_weights: NDArray[np.float32],
        positive: NDArray[np.bool_],
    ) -> None:
        self._catalogue = catalogue
        self._index = index
        self._covisits = covisits
        self._sources = sources
        self._actions = tuple(actions)
        self._action_weights = action_weights
        self._positive = positive

    def of(
        self,
        people: People,
        slates: NDArray[np.int64],
        *,
        now_ms: NDArray[np.int64],
        popularity: NDArray[np.float32],
    ) -> list[list[Why]]:
        """Say why each item suits its user.

        Reasons come in this order: a stated preference that the item meets; the strongest path over a shared
        entity from something the user liked; something the user liked and whose users also liked the item;
        that the item is popular, or new.

        Parameters
        ----------
        slates : (B, K) int64 item rows by position, -1 = no position
        now_ms : (B,) int64
        popularity : (N,) above 0 for items that somebody responded to
        """
        slates = np.ascontiguousarray(slates, np.int64)
        liked = graph.positives(people, self._positive, now_ms=now_ms)
        window, weights = self._sources.window(people)
        counts = self._pair_counts(np.concatenate((liked.items, window), axis=1), slates)
        together = self._together(liked, counts[:, : liked.items.shape[1]], slates)
        evidence = self._evidence(
            people, slates, window, weights.astype(np.float32), counts[:, liked.items.shape[1] :]
        )
        paths = graph.best_paths(
            self._catalogue, liked, slates, actions=self._actions, action_weights=self._action_weights
        )
        found = []
        for b, rows in enumerate(slates.tolist()):
            chosen = self._chosen(people.stated[b].preferences, slates[b])
            found.append(
                [
                    Why(
                        self._reasons(row, chosen.get(i), paths[b][i], together[b][i], popularity),
                        evidence[b][i],
                    )
                    for i, row in enumerate(rows)
                ]
            )
        return found

    def _reasons(
        self,
        row: int,
        chosen: str | None,
        path: graph.Path | None,
        together: int,
        popularity: NDArray[np.float32],
    ) -> list[str]:
        reasons = [] if chosen is None else [chosen]
        if path is not None:
            title = self._catalogue.title(path.item_row)
            reasons.append(because_of(path.action, title, path.relation, path.entity))
        if together >= 0 and (title := self._catalogue.title(together)):
            reasons.append(often_enjoyed(title))
        if not reasons:
            popular = 0 <= row < len(popularity) and popularity[row] > 0
            reasons.append(POPULAR if popular else NEW)
        return reasons[:MAX_REASONS]

    def _pair_counts(self, history: NDArray[np.int64], slates: NDArray[np.int64]) -> NDArray[np.float32]:
        out = np.zeros((*history.shape, slates.shape[1]), np.float32)
        for part in list(self._covisits.values()):
            kernels.pair_counts(part.tables, history, slates, out)
        out /= UNIT
        return out

    def _together(
        self, liked: graph.Positives, counts: NDArray[np.float32], slates: NDArray[np.int64]
    ) -> list[list[int]]:
        """Row of the liked item that an item is met with most often, -1 where that is seldom."""
        weights = graph.weighed(liked, self._action_weights)
        best = (counts * weights[:, :, None]).argmax(axis=1)  # (B, K)
        rows = np.take_along_axis(liked.items, best, axis=1)
        enough = np.take_along_axis(counts, best[:, None], axis=1)[:, 0] >= COVISITS_THAT_COUNT
        together: list[list[int]] = np.where(enough & (rows != slates), rows, -1).tolist()
        return together

    def _evidence(
        self,
        people: People,
        slates: NDArray[np.int64],
        window: NDArray[np.int64],
        weights: NDArray[np.float32],
        counts: NDArray[np.float32],
    ) -> list[list[list[Evidence]]]:
        best, share = np.empty(slates.shape, np.int64), np.empty(slates.shape, np.float64)
        kernels.strongest_parts(window, weights, np.ascontiguousarray(counts), best, share)
        signals: dict[str, Parts] = {"covisits": (best, share)}
        if self._sources.has_ease:
            signals["ease"] = self._sources.strongest_ease(people, slates)
        found: list[list[list[Evidence]]] = [[[] for _ in range(slates.shape[1])] for _ in range(len(slates))]
        ids = self._index.ids
        for signal, (rows, shares) in signals.items():
            for b, (of_slate, parts) in enumerate(zip(rows.tolist(), shares.tolist(), strict=True)):
                for i, (row, part) in enumerate(zip(of_slate, parts, strict=True)):
                    # A row restored from its key alone has no id until somebody names the item.
                    if row >= 0 and (item_id := ids[row]):
                        found[b][i].append(Evidence(signal=signal, item_id=item_id, share=round(part, 4)))
        return found

    def _chosen(self, preferences: Sequence[str], items: NDArray[np.int64]) -> dict[int, str]:
        """By position, the stated preference that an item meets."""
        catalogue = self._catalogue
        wanted = [row for name in preferences if (row := catalogue.entity_row(name)) >= 0]
        if not wanted:
            return {}
        entities, relations, mask = catalogue.edges(items, catalogue.edge_table.shape[1])
        met = mask & np.isin(entities, wanted)
        chosen = {}
        for i in np.flatnonzero(met.any(axis=1)).tolist():
            k = int(met[i].argmax())
            relation, entity = catalogue.relations[relations[i, k]], catalogue.entities[entities[i, k]]
            chosen[i] = because_chosen(relation, entity)
        return chosen
