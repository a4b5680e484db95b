"""Histories as the graph reads them: from the left, and no longer than the longest of a batch."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.release.batches import ScoreBatch

SHUT = np.float32(-60)
"""Added to the weight of what stands for padding; `model_core.network.stages.SHUT`, without PyTorch."""


@dataclass(frozen=True, slots=True)
class Histories:
    """B histories of T events at most, oldest first, padded at the end with 0.

    tokens : (B, T, dim) float32, vectors of the items; actions : (B, T) int64 codes
    gap_s : (B, T) float32, seconds since the event before, 0 of the first
    sizes : (B,) int64, events there are; idle_s : (B,) float32, seconds since the last one
    shut : (B, 1 + T) float32, `SHUT` for padding, else 0; the first is of the state before any event
    """

    tokens: NDArray[np.float32]
    actions: NDArray[np.int64]
    gap_s: NDArray[np.float32]
    sizes: NDArray[np.int64]
    idle_s: NDArray[np.float32]
    shut: NDArray[np.float32]


def from_the_left(batch: ScoreBatch, items: NDArray[np.float32]) -> Histories:
    """Move the histories of a batch, which are padded on the left, to the left."""
    sizes = (batch.history >= 0).sum(axis=1)
    b, t = len(sizes), max(1, int(sizes.max(initial=0)))
    moved = Histories(
        tokens=np.zeros((b, t, items.shape[1]), np.float32),
        actions=np.zeros((b, t), np.int64),
        gap_s=np.zeros((b, t), np.float32),
        sizes=sizes,
        idle_s=np.zeros(b, np.float32),
        shut=np.zeros((b, 1 + t), np.float32),
    )
    _move(
        batch.history, batch.history_actions, batch.history_age_s, items,
        moved.tokens, moved.actions, moved.gap_s, moved.idle_s, moved.shut,
    )  # fmt: skip
    return moved


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _move(
    history: NDArray[np.int64],
    codes: NDArray[np.int64],
    age_s: NDArray[np.float32],
    items: NDArray[np.float32],
    tokens: NDArray[np.float32],
    actions: NDArray[np.int64],
    gap_s: NDArray[np.float32],
    idle_s: NDArray[np.float32],
    shut: NDArray[np.float32],
) -> None:
    for b in range(len(history)):
        t = 0
        for at in range(history.shape[1]):
            if history[b, at] >= 0:
                tokens[b, t] = items[history[b, at]]
                actions[b, t] = codes[b, at]
                if t > 0:
                    gap_s[b, t] = max(idle_s[b] - age_s[b, at], np.float32(0))
                idle_s[b] = age_s[b, at]
                t += 1
        shut[b, 1 + t :] = SHUT


def warm() -> None:
    """Compile the kernel, or load it from the cache, so that no request waits for it."""
    nobody, one = np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32)
    moved = np.zeros((1, 1, 1), np.float32), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)
    _move(nobody, nobody, one, one, *moved, np.zeros(1, np.float32), np.zeros((1, 2), np.float32))
