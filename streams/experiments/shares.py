"""Selects a share of all users by the hash that assigns them to experiments."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from online_learning.experiments.assignment import takes_part
from streams.state.item_index import keys_of


def in_share(user_ids: Iterable[str], name: str, share: float) -> NDArray[np.bool_]:
    """Return who of users is in a share: (n,) bool, the same everywhere and at any time.

    A larger share of the same name has everybody that a smaller one has; those of two names are independent.
    """
    return takes_part(keys_of(user_ids), name, share)
