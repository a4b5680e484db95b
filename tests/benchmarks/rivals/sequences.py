"""Ordered histories without times, cut for training and ranked for evaluation, one item left out per user.

Leave-one-out: a user's last item is the test, the one before it the validation, the rest the training part.
Every item is ranked except those of the history (Kang & McAuley 2018, "Self-attentive sequential
recommendation", but over the whole catalogue instead of 100 sampled items).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.data.vocabulary import Edges

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

LOWEST = np.float32(-np.inf)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Histories of users, one after the other.

    items : (n,) int64 item rows from 0, each user's in order
    bounds : (n_users + 1,) int64, user u has ``items[bounds[u]:bounds[u + 1]]``
    """

    items: Rows
    bounds: Rows
    n_items: int

    @classmethod
    def of(cls, histories: Sequence[Sequence[int]], n_items: int) -> "Sequences":
        """Lay out the histories of all users.

        Raises
        ------
        ValueError
            If there is none, or an item row is not in [0, n_items).
        """
        if not histories:
            raise ValueError("histories must hold at least one user's, got none")
        sizes = np.array([len(history) for history in histories], np.int64)
        items = np.concatenate([np.asarray(history, np.int64) for history in histories])
        if len(items) and not 0 <= items.min() <= items.max() < n_items:
            raise ValueError(f"item rows must be in [0, {n_items}), got {items.min()} to {items.max()}")
        return cls(items, np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))), n_items)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def history(self, user: int) -> Rows:
        """Item rows of one user, most recent last."""
        return self.items[self.bounds[user] : self.bounds[user + 1]]

    def popularity(self) -> Rows:
        """How often each item occurs: (n_items,)."""
        return np.bincount(self.items, minlength=self.n_items)

    def without_last(self) -> tuple["Sequences", Rows]:
        """Split off every user's last item: the histories before, and the items (n_users,).

        Raises
        ------
        ValueError
            If a history is empty.
        """
        sizes = np.diff(self.bounds)
        if not sizes.min():
            raise ValueError(f"histories must hold at least one item each, got none of user {sizes.argmin()}")
        last = self.bounds[1:] - 1
        kept = np.delete(self.items, last)
        return Sequences(kept, self.bounds - np.arange(len(self.bounds)), self.n_items), self.items[last]

    def recent(self, users: Rows, length: int) -> Rows:
        """Latest items of some users, most recent last: (len(users), length), -1 = padding on the left."""
        place = self.bounds[users + 1][:, None] + np.arange(-length, 0)
        known = place >= self.bounds[users][:, None]
        return np.where(known, self.items[np.where(known, place, 0)], -1)


def cut_stretches(sequences: Sequences, length: int, *, overlap: bool = True) -> tuple[Rows, Rows]:
    """Cut histories into stretches and what follows each of their events.

    The stretches of a user overlap by a quarter of the length, and what follows in an overlap is a target of
    the earlier stretch alone, so that all but the first have a history to begin with.

    Parameters
    ----------
    overlap
        False keeps each user's latest stretch only, as SASRec's code does.

    Returns
    -------
    events : (w, length) int64 item rows, -1 = padding on the left
    targets : (w, length) int64 item rows, those after the events; -1 = none

    Raises
    ------
    ValueError
        If nobody has two items.
    """
    shared = length // 4
    events, targets = [], []
    for user in range(len(sequences)):
        history = sequences.history(user)
        stop = len(history)
        while stop >= 2:
            start = max(0, stop - 1 - length)
            part = history[start:stop]
            known = shared if start and overlap else 0
            events.append(_padded(part[:-1], length))
            targets.append(_padded(part[1 + known :], length))
            stop = start + 1 + known if known else 0
    if not events:
        raise ValueError("sequences must hold a history of at least two items, got none")
    return np.stack(events), np.stack(targets)


def first_met(columns: Rows, n: int) -> NDArray[np.int16]:
    """Where each of n items first stands in some stretches; in one without it, at its length.

    Parameters
    ----------
    columns : (w, length) int64 in [0, n), -1 = padding

    Returns
    -------
    first : (w, n)
    """
    w, length = columns.shape
    first = np.full((w, n + 1), length, np.int16)  # the last one is that of padding
    for at in range(length - 1, -1, -1):
        first[np.arange(w), columns[:, at]] = at
    return first[:, :-1]


def _padded(items: Rows, length: int) -> Rows:
    out = np.full(length, -1, np.int64)
    out[length - len(items) :] = items
    return out


def attribute_edges(attributes: Mapping[int, Sequence[int]], n_items: int, n_neighbours: int) -> Edges:
    """Attributes of items as knowledge-graph neighbours, the most frequent of an item first.

    How often an attribute is given to an item is the relation: 1 + floor(log2(count)), at most 6.

    Parameters
    ----------
    attributes
        Attribute codes from 1 of item rows from 0, with repetition.
    """
    entities = np.zeros((n_items, n_neighbours), np.int64)
    relations = np.zeros_like(entities)
    for item, codes in attributes.items():
        code, count = np.unique(np.asarray(codes, np.int64), return_counts=True)
        order = np.argsort(-count, kind="stable")[:n_neighbours]
        entities[item, : len(order)] = code[order]
        relations[item, : len(order)] = 1 + np.minimum(np.log2(count[order]).astype(np.int64), 5)
    return Edges(entities, relations, entities > 0)


def bar_history(scores: Scores, sequences: Sequences, users: Rows) -> Scores:
    """Put what users met below everything else, in place: scores (len(users), n_items)."""
    sizes = np.diff(sequences.bounds)[users]
    row = np.repeat(np.arange(len(users)), sizes)
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    scores[row, sequences.items[np.repeat(sequences.bounds[users], sizes) + place]] = LOWEST
    return scores


def target_ranks(scores: Scores, targets: Rows) -> Rows:
    """Places of the targets, from 0, ties by row: (n,).

    Parameters
    ----------
    scores : (n, n_items), -inf = not ranked
    targets : (n,); one that is not ranked comes last
    """
    own = np.take_along_axis(scores, targets[:, None], 1)
    tied = (scores == own) & (np.arange(scores.shape[1]) < targets[:, None])
    places: Rows = np.where(own[:, 0] == LOWEST, scores.shape[1], ((scores > own) | tied).sum(1))
    return places


def place_metrics(places: Rows) -> dict[str, NDArray[np.float64]]:
    """Hit rate at 5, 10 and 20 and NDCG at 10 and 20 of single targets, per user: (n,) each."""
    gain = 1.0 / np.log2(places + 2.0)
    hits = {f"HR@{k}": (places < k).astype(np.float64) for k in (5, 10, 20)}
    return {**hits, **{f"NDCG@{k}": np.where(places < k, gain, 0.0) for k in (10, 20)}}
