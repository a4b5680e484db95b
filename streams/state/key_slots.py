"""Rows found by 64-bit keys, which are hashes already: a table of open addressing, in compiled loops."""

import numba
import numpy as np
from numpy.typing import NDArray

FREE, FORGOTTEN = -1, -2  # slots without a row; a search goes on past the second

Slots = NDArray[np.int32]
Keys = NDArray[np.uint64]

njit = numba.njit(cache=True, nogil=True)


@njit
def find(slots: Slots, keys: Keys, wanted: Keys) -> NDArray[np.int32]:
    """Rows of keys, -1 = not there: (n,) int32.

    Parameters
    ----------
    slots : (a power of two,) int32, rows; some must be FREE
    keys : (rows,) uint64, of each row
    """
    rows = np.empty(len(wanted), np.int32)
    mask = np.uint64(len(slots) - 1)
    for i in range(len(wanted)):
        slot = wanted[i] & mask
        while slots[slot] != FREE and (slots[slot] < 0 or keys[slots[slot]] != wanted[i]):
            slot = (slot + np.uint64(1)) & mask
        rows[i] = slots[slot]
    return rows


@njit
def enter(slots: Slots, keys: Keys, rows: NDArray[np.int32]) -> None:
    """Let rows that are not there be found by their keys."""
    mask = np.uint64(len(slots) - 1)
    for row in rows:
        slot = keys[row] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row


@njit
def take_out(slots: Slots, keys: Keys, rows: NDArray[np.int32]) -> None:
    """Let rows that are there be found no more."""
    mask = np.uint64(len(slots) - 1)
    for row in rows:
        slot = keys[row] & mask
        while slots[slot] != row:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = FORGOTTEN
