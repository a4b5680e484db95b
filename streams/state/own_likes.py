"""What users of an owned partition liked last, as their events and the marks of quarantine say."""

import numpy as np
from numpy.typing import NDArray

from streams.state import history_kernels
from streams.state.item_index import ItemIndex
from streams.state.likes import MOST_LIKES
from streams.state.profiles import Profiles


def follow_likes(profiles: Profiles, index: ItemIndex, users: NDArray[np.int32]) -> None:
    """Bring the likes of users up to date, where likes are kept; those that have changed are dirty then.

    Parameters
    ----------
    users : (n,) int32 rows, repeats allowed
    """
    if profiles.stances is None or not len(users):
        return
    users = np.unique(users)
    items, times = np.zeros((len(users), MOST_LIKES), np.int32), np.zeros((len(users), MOST_LIKES), np.int64)
    history_kernels.liked(
        profiles.rings, users, profiles.stances, profiles.quarantine.spans, items, times
    )  # fmt: skip
    keys = np.where(times > 0, index.keys[items], np.uint64(0))
    profiles.likes.dirty.update(profiles.likes.put(profiles.ids.hashes[users], keys, times))


def stances(weights: dict[str, float], positive: tuple[str, ...]) -> NDArray[np.int8]:
    """Which actions are a like (1) and which speak against an item (-1): (n_actions,) int8.

    Parameters
    ----------
    weights : of the actions, by their names
    """
    codes = (1 if name in positive else -(weight < 0) for name, weight in weights.items())
    return np.fromiter(codes, np.int8, len(weights))
