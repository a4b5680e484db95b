"""The simulated users' ground truth: what each would click, hidden from the recommender.

A user's taste has two sources. Their held-out later ratings say it outright: an item they went on to
rate 4 or 5 is clicked almost surely once examined; one they rated lower hardly ever, and half the time
they say that they dislike it. For all other items it is estimated from the likes of everyone over the
whole time, by a truncated singular value decomposition of the user x item matrix of likes: an honest, if
optimistic, guess at what a user would have liked. The recommender learns from the earlier ratings and
from the simulated clicks only.

Positions are examined with probability 1 / log2(position + 2), the discount of DCG (Järvelin and
Kekäläinen 2002); an examined item is clicked with the user's probability for it (the position-based
model: Craswell et al. 2008, section 3).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import Dataset

LIKED = 4.0
"""A rating from here on is a like."""
CLICK_LIKED, CLICK_DISLIKED = 0.9, 0.02
LIKE_AFTER_CLICK = 0.9
SAY_DISLIKE = 0.5
FLOOR, SCALE, CEILING = 0.01, 0.6, 0.6
RANK = 20


@dataclass(frozen=True, slots=True)
class Population:
    """Users with a taste, over a catalogue.

    user_ids : (n_users,) str
    item_ids : (n_items,) str, the catalogue
    click : (n_users, n_items) float32, probability of a click once examined
    like : (n_users, n_items) float32, probability of a like once clicked
    dislike : (n_users, n_items) float32, probability of saying so of an examined item that is not clicked
    """

    user_ids: list[str]
    item_ids: list[str]
    click: NDArray[np.float32]
    like: NDArray[np.float32]
    dislike: NDArray[np.float32]


def examination(k: int) -> NDArray[np.float64]:
    """Probability that each of k positions is looked at, (k,) float64."""
    return np.asarray(1.0 / np.log2(np.arange(k) + 2.0))


def population(dataset: Dataset, *, until: float, n_users: int, seed: int, rank: int = RANK) -> Population:
    """Draw users who have held-out likes and work out their taste.

    Parameters
    ----------
    until
        Fraction of the interactions, in time order, that the recommender is given; the rest is held out.
    n_users
        How many users to draw, without replacement; fewer when fewer have ten held-out likes.
    rank
        Of the decomposition.
    """
    events = dataset.interactions
    item_ids = [item.item_id for item in dataset.items]
    user_ids, users = np.unique(events.user_ids, return_inverse=True)
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    items = np.array([row_of[item_id] for item_id in events.item_ids.tolist()])
    liked = events.ratings >= LIKED
    later = np.arange(len(events)) >= int(until * len(events))

    likes = np.zeros((len(user_ids), len(item_ids)), np.float32)
    likes[users[liked], items[liked]] = 1.0
    affinity = _low_rank(likes, rank)
    click = np.minimum(FLOOR + SCALE * affinity, CEILING)
    like = np.clip(affinity, 0.0, 1.0)
    dislike = np.zeros_like(click)
    good, bad = later & liked, later & ~liked
    click[users[bad], items[bad]] = CLICK_DISLIKED
    like[users[bad], items[bad]] = 0.0
    dislike[users[bad], items[bad]] = SAY_DISLIKE
    click[users[good], items[good]] = CLICK_LIKED
    like[users[good], items[good]] = LIKE_AFTER_CLICK

    held_out_likes = np.bincount(users[good], minlength=len(user_ids))
    able = np.flatnonzero(held_out_likes >= 10)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(able, min(n_users, len(able)), replace=False))
    return Population([str(user_ids[u]) for u in drawn], item_ids, click[drawn], like[drawn], dislike[drawn])


def _low_rank(likes: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """Best approximation of the matrix at this rank, cut to [0, 1]."""
    left, values, right = np.linalg.svd(likes, full_matrices=False)
    approximation = (left[:, :rank] * values[:rank]) @ right[:rank]
    return np.asarray(np.clip(approximation, 0.0, 1.0), np.float32)


@dataclass(frozen=True, slots=True)
class Draws:
    """The luck of one visit: the same for every slate that it is asked to judge.

    examined : (k,) float64 in [0, 1), by position
    clicked, answered : (n_items,) float64 in [0, 1), by item
    """

    examined: NDArray[np.float64]
    clicked: NDArray[np.float64]
    answered: NDArray[np.float64]


def draws(*, seed: int, user: int, visit: int, k: int, n_items: int) -> Draws:
    """Draw the luck of a user's visit; the same arguments give the same numbers."""
    rng = np.random.default_rng([seed, user, visit])
    return Draws(rng.random(k), rng.random(n_items), rng.random(n_items))


@dataclass(frozen=True, slots=True)
class Reaction:
    """A user's reaction to a slate: positions, in order; `liked` are among the clicked."""

    clicked: list[int]
    liked: list[int]
    disliked: list[int]


def react(users: Population, user: int, slate: NDArray[np.int64], luck: Draws) -> Reaction:
    """Show a slate to a user.

    Parameters
    ----------
    user
        Row of the population.
    slate : (n,) int64
        Item rows by position, n at most the k of `luck`.
    """
    n = len(slate)
    examined = luck.examined[:n] < examination(n)
    clicked = examined & (luck.clicked[slate] < users.click[user, slate])
    answer = luck.answered[slate]
    liked = clicked & (answer < users.like[user, slate])
    disliked = examined & ~clicked & (answer < users.dislike[user, slate])
    return Reaction(*(np.flatnonzero(mask).tolist() for mask in (clicked, liked, disliked)))
