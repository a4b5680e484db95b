"""Candidates for simulated users, as a recommender sees them, and what its slates come to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.simulator.config import SimulatorConfig
from online_learning.simulator.taste import Tastes, click_probability
from online_learning.simulator.users import Reaction, Rows, Users
from online_learning.types import Candidates

FEATURES = (
    "constant",
    "predicted click of a rested user",
    "weariness of the item's groups",
    "predicted click times weariness",
    "popularity",
    "mean weariness of the candidates",
    "slates without a click",
    "share of the session",
    "unknown user or item",
)
"""What `Simulator.candidates` says of each candidate. A recommender can know all of it: a fitted taste, and
what it has shown so far."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a step, for each of b users.

    Attributes
    ----------
    reaction : what they did
    expected : (b,) float64, clicks that the slate was worth, and best : of the myopic optimum
    """

    reaction: Reaction
    expected: NDArray[np.float64]
    best: NDArray[np.float64]


class Simulator:
    """n users side by side, each with candidates of their own, until all have finished.

    An item that a user clicked is no candidate of theirs again.

    Parameters
    ----------
    n : users, drawn from `tastes` with replacement
    rng : of everything; the same state gives the same users and candidates

    Attributes
    ----------
    here : (b,) int64, the users who have not finished; all else is about them, in this order
    """

    def __init__(self, tastes: Tastes, config: SimulatorConfig, *, n: int, rng: np.random.Generator) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        self.config = config
        self._tastes = tastes
        self._rng = rng
        self._cold = rng.random(len(tastes.items)) < config.cold_items
        self.users = Users(tastes, config, rng.integers(0, len(tastes.users), n), rng=rng)
        self.here = np.arange(n)
        self._predicted = self._predict()
        self._pool = self._draw_pool()
        self._gone = np.zeros(self._pool.shape, np.bool_)
        self._columns = self._draw_columns()

    @property
    def items(self) -> Rows:
        """The candidates: (b, C) int64, item rows."""
        return np.take_along_axis(self._pool[self.here], self._columns, axis=1)

    @property
    def candidates(self) -> Candidates:
        """The candidates as a recommender sees them; scores are popularities. See `FEATURES`."""
        users, items, here = self.users, self.items, self.here
        predicted = np.take_along_axis(self._predicted[here], items, axis=1)
        weary = users.weariness(here, items)
        popularity = self._tastes.popularity[items]
        features = np.empty((*items.shape, len(FEATURES)), np.float32)
        features[..., 0] = 1.0
        features[..., 1] = predicted
        features[..., 2] = weary
        features[..., 3] = predicted * weary
        features[..., 4] = popularity
        features[..., 5] = weary.mean(axis=1, keepdims=True)
        features[..., 6] = np.minimum(users.patience_lost[here] / 4.0, 1.0)[:, None]
        features[..., 7] = (users.slates[here] / self.config.max_slates)[:, None]
        features[..., 8] = users.cold[here, None] | self._cold[items]
        valid = ~np.take_along_axis(self._gone[here], self._columns, axis=1)
        return Candidates(popularity.astype(np.float32), features, valid, arms=items.astype(np.uint64))

    def step(self, index: NDArray[np.int64]) -> Outcome:
        """Show each user who is here a slate of their candidates; who has not finished gets new ones.

        Parameters
        ----------
        index : (b, K) int64, columns of `candidates`, -1 where a position is empty
        """
        users, here, items = self.users, self.here, self.items
        chosen = np.take_along_axis(items, np.maximum(index, 0), axis=1)
        slates = np.where(index >= 0, chosen, -1)
        expected = users.expected_clicks(here, slates)
        best = users.best_expected_clicks(here, items, index.shape[1])
        reaction = users.react(here, slates)
        row, position = np.nonzero(reaction.clicks)
        self._gone[here[row], self._columns[row, index[row, position]]] = True
        self.here = here[~reaction.finished]
        self._columns = self._draw_columns()
        return Outcome(reaction, expected, best)

    def _predict(self) -> NDArray[np.float64]:
        users, tastes = self.users, self._tastes
        items = np.where(self._cold[:, None], 0.0, tastes.items)
        item_bias = np.where(self._cold, 0.0, tastes.item_bias)
        rating = tastes.mean + users.known_bias[:, None] + item_bias + users.known @ items.T
        return click_probability(rating)

    def _draw_pool(self) -> Rows:
        n, n_items = self._predicted.shape
        size = min(self.config.pool, n_items)
        if size < self.config.candidates:
            raise ValueError(f"candidates must be at most the items, {n_items}, got {self.config.candidates}")
        keys = self._rng.random((n, n_items))
        best = np.argpartition(-self._predicted, size // 2 - 1, axis=1)[:, : size // 2]
        np.put_along_axis(keys, best, 2.0, axis=1)
        return np.asarray(np.argpartition(-keys, size - 1, axis=1)[:, :size])

    def _draw_columns(self) -> Rows:
        gone, size = self._gone[self.here], self.config.candidates
        keys = self._rng.random(gone.shape) + gone
        return np.asarray(np.argpartition(keys, size - 1, axis=1)[:, :size])
