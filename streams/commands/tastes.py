"""Tastes of simulated users, from a dataset."""

from typing import TYPE_CHECKING

import numpy as np

from model_core.data.datasets import Dataset

if TYPE_CHECKING:
    from online_learning.simulator.taste import Tastes


def fit_tastes(dataset: Dataset, *, seed: int) -> "Tastes":
    """Fit tastes on a dataset's ratings: users in order of their ids, items in that of the dataset.

    Raises
    ------
    ValueError
        If the dataset has no ratings.
    """
    from online_learning.simulator.taste import Tastes

    events = dataset.interactions
    row_of = {item.item_id: row for row, item in enumerate(dataset.items)}
    genres = sorted({genre for item in dataset.items for genre in item.genres})
    column = {genre: place for place, genre in enumerate(genres)}
    groups = np.zeros((len(dataset.items), max(1, len(genres))), np.bool_)
    for row, item in enumerate(dataset.items):
        groups[row, [column[genre] for genre in item.genres]] = True
    return Tastes.fit(
        np.unique(events.user_ids, return_inverse=True)[1].astype(np.int64),
        np.array([row_of[item_id] for item_id in events.item_ids.tolist()], np.int64),
        events.ratings,
        groups,
        rng=np.random.default_rng(seed),
    )
