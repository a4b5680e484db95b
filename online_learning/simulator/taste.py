"""Users' tastes, fitted on real ratings: a low-rank model, and its click probabilities."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

RANK, SWEEPS, REGULARISATION = 16, 8, 0.1
SHRINKAGE = 5.0
"""Ratings of the mean that a user's and an item's own mean are mixed with."""
PIVOT, STEEPNESS, CEILING = 4.0, 2.0, 0.8
"""A film that would be rated PIVOT is clicked half as surely as the best, CEILING, once it is looked at."""


@dataclass(frozen=True, slots=True)
class Tastes:
    """Users and items of a rating model: rating = mean + user_bias + item_bias + users . items.

    Attributes
    ----------
    users : (U, d) float64, items : (I, d) float64
    user_bias : (U,) float64, item_bias : (I,) float64
    mean : of all ratings
    groups : (I, G) float64, what an item is one of (its genres); rows sum to 1, or to 0 with no group
    popularity : (I,) float64, ratings of an item in the data, logarithmic, in [0, 1]
    """

    users: NDArray[np.float64]
    items: NDArray[np.float64]
    user_bias: NDArray[np.float64]
    item_bias: NDArray[np.float64]
    mean: float
    groups: NDArray[np.float64]
    popularity: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        ratings: NDArray[Any],
        groups: NDArray[np.bool_],
        *,
        rng: np.random.Generator,
        rank: int = RANK,
        sweeps: int = SWEEPS,
    ) -> Self:
        """Fit on ratings, by alternating least squares on what the biases leave over.

        The penalty on a row grows with its ratings (Zhou, Wilkinson, Schreiber & Pan, "Large-scale parallel
        collaborative filtering for the Netflix Prize", AAIM 2008).

        Parameters
        ----------
        users, items : (n,) int64 from 0, ratings : (n,) float; one row a rating, on a scale of 1 to 5
        groups : (I, G) bool, for every item, rated or not
        rng : of where the fit begins
        """
        ratings = np.asarray(ratings, np.float64)
        if not users.shape == items.shape == ratings.shape or not len(ratings):
            raise ValueError(
                "users, items and ratings must have one length of at least 1, "
                f"got {users.shape}, {items.shape}, {ratings.shape}"
            )
        if not np.isfinite(ratings).all():
            raise ValueError(f"ratings must be finite, got {ratings[~np.isfinite(ratings)][0]}")
        shape = (int(users.max()) + 1, len(groups))
        mean = float(ratings.mean())
        item_bias = _shrunk(items, ratings - mean, shape[1])
        user_bias = _shrunk(users, ratings - mean - item_bias[items], shape[0])
        left = ratings - mean - item_bias[items] - user_bias[users]
        rated = csr_array((np.ones(len(left)), (users, items)), shape=shape)
        values = csr_array((left, (users, items)), shape=shape)
        of_items = rng.normal(scale=0.1, size=(shape[1], rank))
        for _ in range(sweeps):
            of_users = _solve(rated, values, of_items)
            of_items = _solve(rated.T, values.T, of_users)
        weights = groups / np.maximum(groups.sum(axis=1, keepdims=True), 1)
        count = np.log1p(np.bincount(items, minlength=shape[1]))
        return cls(of_users, of_items, user_bias, item_bias, mean, weights, count / count.max())


def click_probability(rating: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how surely a rested user clicks, once it is looked at, what they would rate so."""
    return np.asarray(CEILING / (1.0 + np.exp(STEEPNESS * (PIVOT - rating))))


def _shrunk(rows: NDArray[np.int64], values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(rows, values, n) / (np.bincount(rows, minlength=n) + SHRINKAGE))


def _solve(rated: Any, values: Any, other: NDArray[np.float64]) -> NDArray[np.float64]:
    # All rows at once: the gram of a row is the sum of outer products of what it rated.
    rank = other.shape[1]
    outer = (other[:, :, None] * other[:, None, :]).reshape(len(other), -1)
    gram = (rated @ outer).reshape(-1, rank, rank)
    count = np.maximum(rated.sum(axis=1), 1.0)
    gram += REGULARISATION * count[:, None, None] * np.eye(rank)
    return np.asarray(np.linalg.solve(gram, (values @ other)[..., None])[..., 0])
