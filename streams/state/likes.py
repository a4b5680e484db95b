"""What users of a partition liked last: what is shown to those who named them as friends.

It follows from the users' events and the marks of quarantine, and is kept beside them because every worker
needs it of all partitions. Users are known by hashes of their ids alone.
"""

from collections.abc import Collection, Sequence
from threading import Lock

import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.state.key_slots import FREE, enter, find, take_out

MOST_LIKES = 8
"""Kept of a user."""

Keys = NDArray[np.uint64]
Times = NDArray[np.int64]


def user_keys(user_ids: Collection[str]) -> Keys:
    """Keys of users by which they are friends, distinct and ascending: (at most n,) uint64."""
    keys = {xxhash.xxh3_64_intdigest(user_id.encode()) for user_id in user_ids}
    return np.array(sorted(keys), np.uint64)


class Likes:
    """The last likes of each user, by the users' keys; any thread may call it.

    Attributes
    ----------
    dirty : keys of users whose rows on the changelog are others; written by the partition's owner alone
    """

    def __init__(self) -> None:
        self.dirty: set[int] = set()
        self._lock = Lock()
        self._slots = np.full(128, FREE, np.int32)  # never more than half taken
        self._n_taken = 0
        self._keys = np.zeros(32, np.uint64)
        self._items = np.zeros((32, MOST_LIKES), np.uint64)
        self._times = np.zeros((32, MOST_LIKES), np.int64)
        self._n = 0
        self._vacant: list[int] = []

    def __len__(self) -> int:
        return self._n - len(self._vacant)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(one.nbytes for one in (self._slots, self._keys, self._items, self._times))

    @property
    def keys(self) -> list[int]:
        """Keys of the users who like something."""
        with self._lock:
            found: list[int] = self._keys[self._live()].tolist()
        return found

    def put(self, keys: Keys, items: Keys, times: Times) -> list[int]:
        """Take what users like by now, and return the keys of those of whom it was something else.

        Parameters
        ----------
        keys : (n,) uint64, distinct
        items : (n, MOST_LIKES) uint64, keys of items, the newest first
        times : (n, MOST_LIKES) int64 ms, 0 = no item; a user without any is forgotten
        """
        with self._lock:
            some = times[:, 0] != 0
            rows = find(self._slots, self._keys, keys)
            known = np.flatnonzero(rows >= 0)
            at = rows[known]
            changed = some.copy()
            changed[known] = (self._items[at] != items[known]).any(axis=1)
            changed[known] |= (self._times[at] != times[known]).any(axis=1)
            self._remove(rows[changed & ~some])
            fresh = changed & some & (rows < 0)
            rows[fresh] = self._make(keys[fresh])
            written = rows[changed & some]
            self._items[written], self._times[written] = items[changed & some], times[changed & some]
        found: list[int] = keys[changed].tolist()
        return found

    def forget(self, keys: Keys) -> list[int]:
        """Forget users; return the keys of those who liked something."""
        nothing = np.zeros((len(keys), MOST_LIKES), np.int64)
        return self.put(keys, nothing.astype(np.uint64), nothing)

    def of(self, keys: Keys) -> tuple[NDArray[np.bool_], Keys, Times]:
        """Tell which users like something, and what: (n,) bool, and of these what `put` takes."""
        with self._lock:
            rows = find(self._slots, self._keys, keys)
            there = rows >= 0
            return there, self._items[rows[there]], self._times[rows[there]]

    # Under the lock

    def _live(self) -> NDArray[np.bool_]:
        live = np.zeros(len(self._keys), np.bool_)
        live[: self._n] = self._times[: self._n, 0] != 0
        return live

    def _remove(self, rows: NDArray[np.int32]) -> None:
        take_out(self._slots, self._keys, rows)
        self._keys[rows] = 0
        self._items[rows] = 0
        self._times[rows] = 0
        self._vacant += rows.tolist()

    def _make(self, keys: Keys) -> NDArray[np.int32]:
        """Rows for users who have none."""
        reused = [self._vacant.pop() for _ in range(min(len(keys), len(self._vacant)))]
        end = self._n + len(keys) - len(reused)
        rows = np.array([*reused, *range(self._n, end)], np.int32)
        if end > len(self._keys):
            room = 3 * end // 2
            self._keys = np.resize(self._keys, room)
            self._items = np.resize(self._items, (room, MOST_LIKES))
            self._times = np.resize(self._times, (room, MOST_LIKES))
        self._n = end
        self._keys[rows] = keys
        if 2 * (self._n_taken + len(rows)) > len(self._slots):
            live = self._n - len(self._vacant)
            self._slots = np.full(1 << (4 * live).bit_length(), FREE, np.int32)
            self._n_taken = live - len(rows)
            others = np.ones(self._n, np.bool_)
            others[[*self._vacant, *rows.tolist()]] = False
            enter(self._slots, self._keys, np.flatnonzero(others).astype(np.int32))
        enter(self._slots, self._keys, rows)
        self._n_taken += len(rows)
        return rows


def liked_by(likes: Sequence[Likes], friends: Keys, since_ms: int) -> tuple[Keys, NDArray[np.int64], Times]:
    """Items that friends have liked since a time: their keys, how many friends, and when the last one did.

    Parameters
    ----------
    likes : of all partitions; a user has likes in one of them at most
    friends : (n,) uint64, keys of users
    """
    items, times = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for part in likes:
        if not len(friends):
            break
        there, its_items, its_times = part.of(friends)
        friends = friends[~there]
        late = its_times >= max(1, since_ms)
        items.append(its_items[late])
        times.append(its_times[late])
    liked, when = np.concatenate(items), np.concatenate(times)
    order = np.argsort(liked)
    liked, when = liked[order], when[order]
    begins = np.flatnonzero(np.append(np.ones(min(1, len(liked)), np.bool_), liked[1:] != liked[:-1]))
    counts = np.diff(np.append(begins, len(liked)))
    return liked[begins], counts, np.maximum.reduceat(when, begins) if len(begins) else when
