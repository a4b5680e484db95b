"""Users' stated attributes as entities that they are linked to: their part of the knowledge graph.

A stated entity is read as one that the user is near, beside those that their history is linked to, so it says
most where there is no history yet.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import User

MAX_STATED = 8
MIN_USERS = 5
"""Users who must state an attribute's value for a model to learn it; also, nobody is told apart by it."""
WEIGHT = 1.0
"""Of a stated entity; an entity that history is linked to weighs 1 for each recent positive event."""


def stated_names(attributes: Mapping[str, str], preferences: Sequence[str] = ()) -> list[str]:
    """Names of the entities that a user states: preferences as they are, attributes as "name=value".

    Numbers count by tens: "age" of "24" is "age=20s".
    """
    return [*preferences, *(f"{name}={_coarse(value)}" for name, value in attributes.items())]


def common_names(users: Iterable[User]) -> list[str]:
    """Names that enough users state, in order of appearance."""
    stated = (dict.fromkeys(stated_names(user.attributes, user.preferences)) for user in users)
    counts = Counter(name for names in stated for name in names)
    return [name for name, count in counts.items() if count >= MIN_USERS]


def stated_rows(names: Iterable[str], entity_rows: Mapping[str, int]) -> list[int]:
    """Rows of the stated entities that a release knows, `MAX_STATED` at most."""
    return [row for name in dict.fromkeys(names) if (row := entity_rows.get(name, 0))][:MAX_STATED]


def stack_stated(
    users: Iterable[User], user_ids: Sequence[str], entity_rows: Mapping[str, int]
) -> NDArray[np.int64]:
    """Stated entities of each of `user_ids`: (n_users, MAX_STATED) int64, 0 = padding."""
    of_user = {user.user_id: user for user in users}
    stacked = np.zeros((len(user_ids), MAX_STATED), np.int64)
    for at, user_id in enumerate(user_ids):
        if (user := of_user.get(user_id)) is not None:
            rows = stated_rows(stated_names(user.attributes, user.preferences), entity_rows)
            stacked[at, : len(rows)] = rows
    return stacked


def join_stated(
    stated: NDArray[np.int64], entities: NDArray[np.int64], weights: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Put stated entities before those of history; what does not fit is cut: (n, A) both.

    Parameters
    ----------
    stated : (n, MAX_STATED) int64; entities, weights : (n, A)
    """
    if not stated.any():
        return entities, weights
    joined = np.concatenate((stated, entities), axis=1)
    heavy = np.concatenate((np.where(stated > 0, np.float32(WEIGHT), np.float32(0)), weights), axis=1)
    order = np.argsort(joined == 0, axis=1, kind="stable")[:, : entities.shape[1]]
    return np.take_along_axis(joined, order, 1), np.take_along_axis(heavy, order, 1)


def _coarse(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return value
    return f"{int(number // 10 * 10)}s" if np.isfinite(number) else value
