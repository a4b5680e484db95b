"""Folds clicks into a partition's profiles and item statistics: what a worker does, in one call."""

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from streams.state.item_index import ItemIndex
from streams.state.profiles import Pairs, Profiles


def fold_clicks(
    profiles: Profiles,
    covisits: CoVisitation,
    index: ItemIndex,
    *,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    actions: NDArray[np.uint8],
    times: NDArray[np.int64],
    event_keys: NDArray[np.uint64],
    offsets: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Fold a partition's clicks into its profiles and its item statistics, in order.

    Parameters
    ----------
    users, items : (n,) int32
        Rows, from `Profiles.rows_of` and `ItemIndex.rows_of` just before.
    actions : (n,) uint8 codes; times : (n,) int64 ms; event_keys : (n,) uint64; offsets : (n,) int64
        Offsets increase.

    Returns
    -------
    outcomes : (n,) uint8
        APPLIED; BOUNDED: it is in the user's history and counts no further; HELD: the same, as the user is in
        quarantine; REPLAYED: the user's row had it;
        DUPLICATE: the event id is among the user's last 32 at least, nothing changed.
    """
    outcomes, pairs = profiles.append(
        users, items, actions, times, event_keys, offsets, window=covisits.window,
        bound=covisits.bound,
    )  # fmt: skip
    count_pairs(covisits, index, pairs)
    return outcomes


def count_pairs(covisits: CoVisitation, index: ItemIndex, pairs: Pairs) -> None:
    """Count what `Profiles.append` has paired."""
    covisits.grow(index.keys)
    covisits.observe(*pairs)
