"""Users by what they did before the split, items by how popular they were: where a release does well."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_core.evaluation.topn import popularity_buckets
from model_core.signals.sample_signals import Log

HISTORY = {"no event": 0, "1 to 5": 1, "6 to 20": 6, "21 and more": 21}
"""Slices of users: label -> the least number of events before the split."""


def history_slice(log: Log, split: int, users: NDArray[np.int32]) -> NDArray[np.int64]:
    """Place in `HISTORY` of each user: (n,) int64."""
    events = np.bincount(log.users[:split], minlength=log.n_users)[users]
    return np.searchsorted(list(HISTORY.values()), events, side="right") - 1


def new_items(log: Log, split: int) -> NDArray[np.bool_]:
    """Items that nobody met before the split: (n_items,) bool."""
    met = np.bincount(log.items[:split], minlength=log.n_items) > 0
    return ~met


def popularity_slice(log: Log, split: int, *, buckets: int = 4) -> tuple[list[str], NDArray[np.int64]]:
    """Label items by their popularity before the split; each bucket but the first holds about as many likes.

    Returns
    -------
    labels
        New items, then the buckets from the rarest items to the most popular.
    bucket : (n_items,) int64, place in labels
    """
    liked = np.zeros((log.n_users, log.n_items), np.bool_)
    positive = log.positive[:split]
    liked[log.users[:split][positive], log.items[:split][positive]] = True
    bucket = popularity_buckets(liked, buckets) + 1
    bucket[new_items(log, split)] = 0
    size = np.bincount(bucket, minlength=buckets + 1)
    return ["new", *(f"{n} items" for n in size[1:].tolist())], bucket


def attribute_features(
    attributes: list[Mapping[str, list[str]]], *, relation: str = "genre", most: int = 512
) -> NDArray[np.float32] | None:
    """Attributes of items as columns of 0 and 1: (n_items, d), None where no item has an attribute.

    Parameters
    ----------
    relation
        Taken alone where any item has it; otherwise all attributes count.
    most
        Columns kept, those of the commonest values.
    """
    alone = any(relation in of_item for of_item in attributes)
    pairs = [
        (row, (name, value))
        for row, of_item in enumerate(attributes)
        for name, values in of_item.items()
        if name == relation or not alone
        for value in values
    ]
    if not pairs:
        return None
    names = sorted({pair for _, pair in pairs})
    column_of = {pair: column for column, pair in enumerate(names)}
    columns = np.array([column_of[pair] for _, pair in pairs])
    common = np.argsort(-np.bincount(columns, minlength=len(names)), kind="stable")[:most]
    place = np.full(len(names), -1, np.int64)
    place[common] = np.arange(len(common))
    features = np.zeros((len(attributes), len(common)), np.float32)
    rows, at = np.array([row for row, _ in pairs]), place[columns]
    features[rows[at >= 0], at[at >= 0]] = 1.0
    return features
