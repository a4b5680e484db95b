"""The per-item signals of a request, as they stood at the time of each training sample.

A worker keeps co-visits and popularities up to date by itself and gives them to the ranker with every
request; training replays the log in time order, so a sample sees what the worker would have known before
it, never its own target.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

MAX_ITEMS = 8192  # the replay keeps a dense (n, n) float32 table


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalConfig:
    """How co-visits are counted and read.

    An event pairs its item with those of the user's `window` events before it; the d-th event before adds
    ``pair_decay ** (d - 1)``, times `pair_other` unless both are positive. The signal of item i is
    ``sum_r read_decay ** r * (1 or read_other) * C[h_r, i] / sqrt(popularity_i + 10)`` over the user's
    `read_window` last events h_r, r = 0 the most recent, 1 for a positive one; beside it goes
    ``log1p(popularity_i)``, counting positive events.
    """

    window: int = 20
    pair_decay: float = 0.9
    pair_other: float = 0.35
    read_window: int = 20
    read_decay: float = 0.85
    read_other: float = 0.5


@dataclass(frozen=True, slots=True)
class Log:
    """Interactions as rows, in time order.

    users, items : (n,) int32 rows from 0
    actions : (n,) int64 codes from 1 (0 = unknown)
    positive : (n,) bool
    times_ms : (n,) int64
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    actions: NDArray[np.int64]
    positive: NDArray[np.bool_]
    times_ms: NDArray[np.int64]
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.users)

    def first(self, n: int) -> "Log":
        """Return the first n events; rows of users and items stay as they are."""
        return Log(
            self.users[:n], self.items[:n], self.actions[:n], self.positive[:n], self.times_ms[:n],
            self.n_users, self.n_items,
        )  # fmt: skip


class SignalState:
    """Co-visits and popularity of a log replayed so far, in memory and dense: for training and evaluation.

    The worker's own tables hold the same numbers as long as no item has more neighbours than they keep.
    """

    def __init__(self, n_users: int, n_items: int, config: SignalConfig | None = None) -> None:
        if n_items > MAX_ITEMS:
            raise ValueError(f"a replay of signals takes at most {MAX_ITEMS} items, got {n_items}")
        config = config or SignalConfig()
        self.config = config
        self.n_items = n_items
        self.counts = np.zeros((n_items, n_items), np.float32)
        self.popularity = np.zeros(n_items, np.float32)
        self.recent = np.full((n_users, max(config.window, config.read_window)), -1, np.int32)
        self.recent_positive = np.zeros(self.recent.shape, np.bool_)
        self.seen = np.zeros((n_users, n_items), np.bool_)
        self._pair = (config.pair_decay ** np.arange(config.window)).astype(np.float32)
        self._read = (config.read_decay ** np.arange(config.read_window)).astype(np.float32)

    def fold(self, log: Log, start: int = 0, stop: int | None = None) -> None:
        """Take in log[start:stop]."""
        none = np.full(len(log), -1, np.int64)
        self.replay(log, np.zeros((1, 0), np.int32), none, none, 0, start=start, stop=stop)

    def replay(
        self,
        log: Log,
        columns: NDArray[np.int32],
        column_of: NDArray[np.int64],
        sample_of: NDArray[np.int64],
        n_samples: int,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Fold log[start:stop] and note what is known before each event that is a sample.

        Parameters
        ----------
        columns : (g, m) int32
            Groups of item rows whose signals are wanted.
        column_of, sample_of : (n,) int64
            Of each event, its group and its row in the result; -1 = not a sample.

        Returns
        -------
        signals : (n_samples, 2, 1 + m) float16
            Column 0 is the event's own item (the target), the others those of its group.
        seen : (n_samples, 1 + m) bool
            Items that the user had met before the event.
        """
        signals = np.zeros((n_samples, 2, 1 + columns.shape[1]), np.float16)
        seen = np.zeros(signals.shape[::2], np.bool_)
        end = len(log) if stop is None else stop
        for begin in range(start, end, 4096):  # numba knows no float16: one stretch at a time in float32
            part = slice(begin, min(begin + 4096, end))
            wanted = np.flatnonzero(sample_of[part] >= 0)
            rows = sample_of[part][wanted]
            place = np.full(part.stop - part.start, -1, np.int64)
            place[wanted] = np.arange(len(wanted))
            out = np.zeros((len(wanted), *signals.shape[1:]), np.float32)
            met = np.zeros(out.shape[::2], np.bool_)
            _replay(
                self.counts,
                self.popularity,
                self.recent,
                self.recent_positive,
                self.seen,
                log.users[part],
                log.items[part],
                log.positive[part],
                columns,
                column_of[part],
                place,
                out,
                met,
                self._pair,
                np.float32(self.config.pair_other),
                self._read,
                np.float32(self.config.read_other),
            )
            signals[rows] = out
            seen[rows] = met
        return signals, seen

    def read(self, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """Signals of every item for some users as things stand: (len(users), 2, n_items) float32."""
        out = np.empty((len(users), 2, self.n_items), np.float32)
        for row, user in enumerate(users):
            _score(
                self.counts,
                self.popularity,
                self.recent[user],
                self.recent_positive[user],
                self._read,
                np.float32(self.config.read_other),
                out[row, 0],
            )
        out[:, 1] = np.log1p(self.popularity)
        return out


@numba.njit(cache=True, fastmath=True)
def _score(counts, popularity, recent, positive, weights, other, out):  # type: ignore[no-untyped-def]
    out[:] = 0
    for back in range(len(weights)):
        item = recent[back]
        if item < 0:
            break
        weight = weights[back] * (np.float32(1) if positive[back] else other)
        for k in range(len(out)):
            out[k] += weight * counts[item, k]
    for k in range(len(out)):
        out[k] /= np.sqrt(popularity[k] + np.float32(10))


@numba.njit(cache=True)
def _replay(  # type: ignore[no-untyped-def]
    counts,
    popularity,
    recent,
    recent_positive,
    seen,
    users,
    items,
    positive,
    columns,
    column_of,
    sample_of,
    signals,
    met,
    pair,
    pair_other,
    read,
    read_other,
):
    scores = np.empty(len(popularity), np.float32)
    for event in range(len(users)):
        user, item = users[event], items[event]
        if sample_of[event] >= 0:
            _score(counts, popularity, recent[user], recent_positive[user], read, read_other, scores)
            group, sample = columns[column_of[event]], sample_of[event]
            for k in range(len(group) + 1):
                other = item if k == 0 else group[k - 1]
                signals[sample, 0, k] = scores[other]
                signals[sample, 1, k] = np.log1p(popularity[other])
                met[sample, k] = seen[user, other]
        for back in range(len(pair)):
            other = recent[user, back]
            if other < 0:
                break
            if other != item:
                both = positive[event] and recent_positive[user, back]
                weight = pair[back] * (np.float32(1) if both else pair_other)
                counts[item, other] += weight
                counts[other, item] += weight
        for back in range(recent.shape[1] - 1, 0, -1):
            recent[user, back] = recent[user, back - 1]
            recent_positive[user, back] = recent_positive[user, back - 1]
        recent[user, 0] = item
        recent_positive[user, 0] = positive[event]
        seen[user, item] = True
        popularity[item] += positive[event]
