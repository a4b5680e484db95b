"""Histories as the graph reads them: from the left, and no longer than the longest of a batch."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
import xxhash
from numpy.typing import NDArray

from model_core.data.batches import ScoreBatch

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

    def take(self, requests: list[int]) -> "Histories":
        """Return some of the histories, no longer than their longest."""
        sizes = self.sizes[requests]
        t = max(1, int(sizes.max(initial=0)))
        return Histories(
            tokens=self.tokens[requests, :t],
            actions=self.actions[requests, :t],
            gap_s=self.gap_s[requests, :t],
            sizes=sizes,
            idle_s=self.idle_s[requests],
            shut=self.shut[requests, : 1 + t],
        )

    def key(self, request: int) -> bytes:
        """Return a digest of all that the graph reads of a history: equal ones have equal states."""
        n = self.sizes[request]
        digest = xxhash.xxh3_128(self.tokens[request, :n].data)
        digest.update(self.actions[request, :n].data)
        digest.update(self.gap_s[request, :n].data)
        return digest.digest()


# They take microseconds a request, and so keep the interpreter.
njit = numba.njit(cache=True, error_model="numpy")

STATES_BYTES = 32 << 20
"""States kept of histories read before: those of 2,400 users with 50 events, at 64 dimensions."""

Read = Callable[[Histories], NDArray[np.float32]]


class KnownStates:
    """A cache of the graph's states of histories, the latest ones: the time of a request is not in them.

    A history is known by its bytes, vectors of its items included, so nothing has to be forgotten when an
    item or a user changes. Least recently used go first.

    Parameters
    ----------
    read : runs the graph: (b, 1 + T, dim) float32 states of b histories of T events at most
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        # As bytes: NumPy lets go of the interpreter to copy an array, however small, and has to wait for it.
        self._known: OrderedDict[bytes, bytes] = OrderedDict()
        self._nbytes = 0

    def of(self, histories: Histories) -> NDArray[np.float32]:
        """Return the states of B histories: (B, 1 + T, dim) float32, 0 in padding."""
        keys = [histories.key(b) for b in range(len(histories.sizes))]
        unknown = {key: b for b, key in enumerate(keys) if key not in self._known}
        if unknown:
            all_new = len(unknown) == len(keys)  # and so in their order
            fresh = self._read(histories if all_new else histories.take(list(unknown.values())))
            for (key, b), states in zip(unknown.items(), fresh, strict=True):
                self._known[key] = states[: 1 + histories.sizes[b]].tobytes()
                self._nbytes += len(self._known[key])
        found = np.frombuffer(b"".join([self._known[key] for key in keys]), np.float32)
        for key in keys:
            self._known.move_to_end(key)
        while self._nbytes > STATES_BYTES:
            self._nbytes -= len(self._known.popitem(last=False)[1])
        out = np.empty((*histories.shut.shape, histories.tokens.shape[2]), np.float32)
        _spread(found.reshape(-1, out.shape[2]), histories.sizes, out)
        return out

    def forget(self) -> None:
        """Keep nothing, so that every history is read again: for measurements."""
        self._known.clear()
        self._nbytes = 0


def last_states(states: NDArray[np.float32], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the state after all events of each history: (B, dim) float32."""
    last = np.empty((len(sizes), states.shape[2]), np.float32)
    _last(states, sizes, last)
    return last


def from_the_left(batch: ScoreBatch, items: NDArray[np.float32]) -> Histories:
    """Move the histories of a batch, which are padded on the left, to the left."""
    b = len(batch.history)
    sizes = np.empty(b, np.int64)
    t = _count(batch.history, sizes)
    moved = Histories(
        tokens=np.empty((b, t, items.shape[1]), np.float32),
        actions=np.empty((b, t), np.int64),
        gap_s=np.empty((b, t), np.float32),
        sizes=sizes,
        idle_s=np.empty(b, np.float32),
        shut=np.empty((b, 1 + t), np.float32),
    )
    _move(
        batch.history, batch.history_actions, batch.history_age_s, items,
        moved.tokens, moved.actions, moved.gap_s, moved.idle_s, moved.shut,
    )  # fmt: skip
    return moved


@njit
def _count(history: NDArray[np.int64], sizes: NDArray[np.int64]) -> int:
    """Write how many events each history has, and return how many the longest has, 1 at least."""
    longest = 1
    for b in range(len(history)):
        n = 0
        for at in range(history.shape[1]):
            n += history[b, at] >= 0
        sizes[b] = n
        longest = max(longest, n)
    return longest


@njit
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
        idle_s[b] = np.float32(0)
        for at in range(history.shape[1]):
            if history[b, at] >= 0:
                tokens[b, t] = items[history[b, at]]
                actions[b, t] = codes[b, at]
                gap_s[b, t] = max(idle_s[b] - age_s[b, at], np.float32(0)) if t > 0 else np.float32(0)
                idle_s[b] = age_s[b, at]
                t += 1
        shut[b, : 1 + t], shut[b, 1 + t :] = np.float32(0), SHUT
        tokens[b, t:], actions[b, t:], gap_s[b, t:] = np.float32(0), 0, np.float32(0)


@njit
def _spread(states: NDArray[np.float32], sizes: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    """Write states that lie one request after the other, 1 + sizes[b] of each: (B, 1 + T, dim), padded."""
    begin = 0
    for b in range(len(sizes)):
        n = 1 + sizes[b]
        out[b, :n] = states[begin : begin + n]
        out[b, n:] = np.float32(0)
        begin += n


@njit
def _last(states: NDArray[np.float32], sizes: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    for b in range(len(sizes)):
        out[b] = states[b, sizes[b]]


def warm() -> None:
    """Compile the kernels, or load them from the cache, so that no request waits for them."""
    _count(np.zeros((1, 1), np.int64), np.zeros(1, np.int64))
    last_states(np.zeros((1, 1, 1), np.float32), np.zeros(1, np.int64))
    _spread(
        np.frombuffer(b"\0" * 4, np.float32).reshape(1, 1),
        np.zeros(1, np.int64),
        np.zeros((1, 1, 1), np.float32),
    )
    nobody, one = np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32)
    moved = np.zeros((1, 1, 1), np.float32), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)
    _move(nobody, nobody, one, one, *moved, np.zeros(1, np.float32), np.zeros((1, 2), np.float32))
