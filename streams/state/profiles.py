"""Profiles: what a partition's users did and stated, folded from `clicks` and `users`.

A pure fold, event by event, whatever the batches. It remembers, per user, the offset up to which clicks
have been applied, so what is read again changes nothing.

What is durable may lag: users' rows and item statistics are flushed at different moments. So that an event
that a user's row has seen can still be paired for an item's row that has not, the ring keeps offsets, and
the pairs are found again. Three rules make this exact after a crash at any point: rows of a flush are durable
all or none, its item rows taken last; an offset is committed when both kinds of rows cover it; and while
`covisits_first` is set, no users' rows become durable without item rows.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.robust.influence import NO_BOUND, Bound
from model_core.signals.reserved import with_room
from streams.state import fold_kernels, history_kernels, ring_memory, rings
from streams.state import profile_kernels as kernels
from streams.state.erasures import Erasures
from streams.state.id_table import IdTable
from streams.state.likes import Likes
from streams.state.quarantine import Quarantine
from streams.state.rings import CHUNK
from streams.state.rows import Life, chunk_key, stated_key
from streams.state.stated import NO_FRIENDS, Stated, Statements

MAX_HISTORY = 65_535 * CHUNK - 1


class Pairs(NamedTuple):
    """Events that item statistics may lack, each with those of its user before it.

    The arrays are those that `CoVisitation.observe` takes.
    """

    items: NDArray[np.int32]
    positive: NDArray[np.bool_]
    windows: NDArray[np.int32]
    windows_positive: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]


class Profiles:
    """The users of one partition; a user is a row, which another one may have once that one is forgotten.

    Parameters
    ----------
    history_limit
        Events kept per user, a multiple of 16; between this and 15 fewer can be read back.
    actions
        Names of the action codes, in order.
    positive
        Those of the actions that are positive responses.

    Attributes
    ----------
    likes : what users liked last, see `own_likes`; the other workers' partitions have such, too
    stances : (n_actions,) int8, see `own_likes`; None where nobody's likes are kept
    """

    def __init__(
        self, partition: int, *, history_limit: int, actions: Sequence[str], positive: Collection[str]
    ) -> None:
        if history_limit % CHUNK or not CHUNK <= history_limit <= MAX_HISTORY:
            raise ValueError(f"history_limit must be a multiple of {CHUNK} from {CHUNK}, got {history_limit}")
        if unknown := set(positive) - set(actions):
            raise ValueError(f"positive must name some of the actions, got {sorted(unknown)}")
        self.partition = partition
        self.actions = tuple(actions)
        self.positive = np.array([name in positive for name in actions], np.bool_)
        self.n_slots = history_limit // CHUNK
        self.ids = IdTable()
        self.stated = Statements()
        self.erasures = Erasures()
        self.quarantine = Quarantine()
        self.position = -1
        self.flush_names = True  # the changelog lacks the names of the action codes, or `logs`
        self.logs = b""  # which logs the offsets in rows are of: a `LogsRow`
        self.tombstones: set[bytes] = set()
        self.likes = Likes()
        self.stances: NDArray[np.int8] | None = None
        self._n_begun = 0  # rows of users that say that there is nothing yet
        self.rings = ring_memory.reserved(len(self.actions))

    # Users

    @property
    def n_users(self) -> int:
        """Rows of users, forgotten ones included."""
        return len(self.ids)

    @property
    def n_live(self) -> int:
        """Users known."""
        return self.ids.n_live

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are in use: more is reserved."""
        return self.ids.nbytes + ring_memory.used_bytes(self.rings, len(self.ids))

    @property
    def newest_offset(self) -> int:
        """Offset of the newest click that users' rows have seen, -1 if there is none."""
        return int(self.rings.users[: self._n_begun, rings.OFFSET].max(initial=-1))

    def user_ids(self, start: int = 0) -> list[str]:
        """Ids of the rows from `start` on."""
        return [self.ids.text(row) for row in range(start, len(self.ids))]

    def row_of(self, user_id: str) -> int:
        """Row of a user, -1 if unknown."""
        return self.ids.row_of(user_id)

    def rows_of(self, user_ids: Sequence[str]) -> NDArray[np.int32]:
        """Rows of users, made where there are none: (n,) int32. Not to be kept across `erase`, `drop`."""
        rows = self.ids.rows_of_texts(user_ids)
        self._begin_users()
        return rows

    def rows_of_bytes(
        self, data: NDArray[np.uint8], spans: NDArray[np.int64], hashes: NDArray[np.uint64]
    ) -> NDArray[np.int32]:
        """Rows of users as `rows_of`, by the bytes of their ids; see `IdTable.rows_of`."""
        rows = self.ids.rows_of(data, spans, hashes)
        self._begin_users()
        return rows

    def _begin_users(self) -> None:
        """Begin the rows of users that have just been made."""
        n, r = len(self.ids), self.rings
        if n > min(len(r.users), len(r.counts)):  # where addresses are limited, one may have more room
            self.rings = r = r._replace(users=with_room(r.users, n), counts=with_room(r.counts, n))
        if n > self._n_begun:
            r.users[self._n_begun : n, rings.OFFSET] = r.users[self._n_begun : n, rings.HEAD] = -1
            self._n_begun = n
        if self.quarantine.marks:
            fresh = self.ids.fresh.tolist()
            self.quarantine.meet(fresh, [self.ids.text(row) for row in fresh])
        if self.erasures.marks:
            for row in self.ids.fresh.tolist():
                if (mark := self.erasures.of(self.ids.text(row))) is not None:
                    r.users[row, rings.OFFSET] = mark.clicks_offset

    def reserve(self, *, chunks: int, cells: int = 0) -> None:
        """Make room for so many more chunks, with their keys, and cells."""
        self.rings = ring_memory.grown(self.rings, chunks=chunks, cells=cells)

    # Fold

    def append(
        self,
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        actions: NDArray[np.uint8],
        times: NDArray[np.int64],
        event_keys: NDArray[np.uint64],
        offsets: NDArray[np.int64],
        *,
        window: int,
        bound: Bound = NO_BOUND,
    ) -> tuple[NDArray[np.uint8], Pairs]:
        """Append clicks to their users' events, in order; see `fold_clicks` for what it takes.

        Returns
        -------
        outcomes : (n,) uint8
        pairs : what is to be counted of them, each event that counts by `bound` with up to `window` before it
        """
        n = len(users)
        bound = bound.within(CHUNK * (self.n_slots - 1) + 1, window)
        self.reserve(chunks=n, cells=n)
        outcomes, paired = np.empty(n, np.uint8), np.empty(n, np.int64)
        windows, windows_positive = np.empty((n, window), np.int32), np.empty((n, window), np.bool_)
        n_paired = fold_kernels.fold(
            self.rings, self.n_slots, self.positive, users, items, actions, times, event_keys,
            offsets, outcomes, paired, windows, windows_positive, bound, self.quarantine.spans,
        )  # fmt: skip
        self.position = max(self.position, int(offsets.max(initial=-1)))
        chosen = paired[:n_paired]
        return outcomes, Pairs(
            items[chosen], self.positive[actions[chosen]], windows[:n_paired], windows_positive[:n_paired],
            offsets[chosen], times[chosen],
        )  # fmt: skip

    def save_logs(self, row: bytes) -> None:
        """Let the next flush say which logs the offsets in rows are of."""
        self.logs, self.flush_names = row, True

    def set_stated(
        self,
        user_id: str,
        *,
        attributes: dict[str, str],
        preferences: list[str],
        blocked: NDArray[np.int32],
        offset: int,
        timestamp_ms: int = 0,
        friends: NDArray[np.uint64] = NO_FRIENDS,
    ) -> bool:
        """Take over what a user states; False if the record at `offset` had been applied before."""
        mark = self.erasures.of(user_id)
        if mark is not None and offset <= mark.users_offset:
            return False
        row = int(self.rows_of([user_id])[0])
        stated = Stated(offset, attributes, preferences, blocked, timestamp_ms, friends)
        return self.stated.take(row, stated)

    def pairs_of(self, row: int, *, window: int, bound: Bound = NO_BOUND) -> Pairs:
        """Return what item statistics have counted of a user, as far as the events are kept.

        Of a user with more events than are kept, the first window of these is not known any more.
        """
        n = int(self.rings.users[row, rings.STORED])
        items, actions = np.empty(n, np.int32), np.empty(n, np.uint8)
        times, offsets = np.empty(n, np.int64), np.empty(n, np.int64)
        history_kernels.stored(self.rings, row, items, actions, times, offsets)
        users, keys = np.full(n, row, np.int32), np.zeros(n, np.uint64)
        _, pairs = self.append(users, items, actions, times, keys, offsets, window=window, bound=bound)
        return pairs

    def is_erased_by(self, user_id: str, offset: int) -> bool:
        """Tell whether the record at an offset of `users`, an erasure, has something to erase that is not.

        False where the user has been erased by it, or has said something later.
        """
        row, mark = self.row_of(user_id), self.erasures.of(user_id)
        known = max(self.stated.of(row).offset, -1 if mark is None else mark.users_offset + 1)
        return not 0 <= offset < known

    def erase(
        self,
        user_id: str,
        offset: int = -1,
        *,
        passed: int = -1,
        erased_ms: int = 0,
        closed_ms: int = -1,
        settled: bool = True,
    ) -> bool:
        """Forget a user; False if there is no row to forget. The next flush must send item rows, too.

        Clicks folded so far, and `users` records up to `offset`, do not bring the user back when they are
        read again; later ones begin a new user, whom an erasure that is read again spares. The counts of
        items keep what the user added to them: see `Shard.erase`. `passed` is the last offset that has been
        read, of no click perhaps: what says that it was made up to there is the erased user's. `closed_ms`
        and `settled` are as of `Life`; one who has no row is marked where something is to be settled.
        """
        if not self.is_erased_by(user_id, offset):
            return False
        self.quarantine.forget_name(user_id)
        row = self.row_of(user_id)
        if row >= 0:
            self.drop(np.array([row], np.int32))
        if row >= 0 or not settled:
            life = Life(max(self.position, passed), offset, closed_ms, settled)
            self.erasures.add(user_id, life, erased_ms=erased_ms)
        return row >= 0

    def drop(self, rows: NDArray[np.int32]) -> None:
        """Let users be unknown; they begin anew when they come back. Items keep what was counted.

        What is dropped must be durable, or it may partly come back when its clicks are read again.
        """
        if self.stances is not None:
            self.likes.dirty.update(self.likes.forget(self.ids.hashes[rows]))
        for row in rows.tolist():
            user_id = self.ids.text(row)
            self.tombstones.update(chunk_key(user_id, slot) for slot in self.slots_of(row))
            self.tombstones.add(stated_key(user_id))
            self.ids.forget(row)
            self.stated.forget(row)
        self.quarantine.leave(rows.tolist())
        kernels.release(self.rings, rows)
        self.rings.heap[rings.COVISITS_FIRST] = 1

    def forget_erasures(self, *, before_ms: int, now_ms: int) -> int:
        """Take back the marks of users erased before a time, and delete their rows; return how many."""
        keys = self.erasures.forget(before_ms=before_ms, now_ms=now_ms)
        self.tombstones |= keys
        return len(keys)

    def last_ms(self, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Times of users' last events or statements, event time: (n,) int64 ms; any thread may ask."""
        out = np.zeros(len(rows), np.int64)
        kernels.last_times(self.rings, rows, out)
        return np.maximum(out, self.stated.last_ms(rows, len(self.ids)))

    def slots_of(self, row: int) -> list[int]:
        """Slots of a user's chunks."""
        links, first = self.rings.links, int(self.rings.users[row, rings.HEAD])
        slots, chunk = [], first
        while chunk >= 0:
            slots.append(int(links[chunk, rings.SLOT]))
            chunk = int(links[chunk, rings.NEXT])
            if chunk == first:
                break
        return slots

    def mark_items(self, out: NDArray[np.bool_]) -> None:
        """Write True into out (N,) at the items that users have met or blocked, and maybe at a few more.

        Any thread may do so. What is folded or stated meanwhile may be missed.
        """
        kernels.mark_items(self.rings, out)
        self.stated.mark_blocked(out)

    # Flush; the rows are made by `profile_rows`

    @property
    def n_dirty(self) -> int:
        """Chunks of events changed and not taken yet."""
        return int(self.rings.heap[rings.DIRTY])

    def take_chunks(self, most: int | None = None) -> NDArray[np.int32]:
        """Chunks that have changed, so many at most, which are clean from now on."""
        r, n = self.rings, self.n_dirty
        taken = n if most is None else min(most, n)
        chunks = r.dirty_chunks[:taken].copy()
        r.dirty[chunks] = False
        r.dirty_chunks[: n - taken] = r.dirty_chunks[taken:n]
        r.heap[rings.DIRTY] = n - taken
        return chunks

    @property
    def covisits_first(self) -> bool:
        """Whether users' rows must not become durable without the item rows."""
        return bool(self.rings.heap[rings.COVISITS_FIRST])

    def covisits_taken(self) -> None:
        """Note that item rows are being taken; if they do not get confirmed, call `covisits_failed`."""
        self.rings.heap[rings.TAKEN] += 1
        self.rings.heap[rings.COVISITS_FIRST] = 0

    def covisits_failed(self) -> None:
        """Note that item rows that were taken have not been confirmed: the next flush must send them."""
        self.rings.heap[rings.COVISITS_FIRST] = 1

    # Reads

    def history(self, row: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Item rows, action codes and times (ms) of a user's last events, oldest first: (n,) int64 each."""
        items, actions, times = self.histories(np.array([row], np.int32), last)
        n = int(min(last, self.rings.users[row, rings.STORED])) if row >= 0 else 0
        return items[0, last - n :], actions[0, last - n :], times[0, last - n :]

    def histories(
        self, rows: NDArray[np.int32], last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Item rows, action codes and times of users' last events: (len(rows), last) int64 each.

        Most recent last; padding on the left is -1, for the times 0. A row of -1 is an unknown user.
        """
        shape = (len(rows), last)
        items, actions, times = (
            np.full(shape, -1, np.int64),
            np.full(shape, -1, np.int64),
            np.zeros(shape, np.int64),
        )
        history_kernels.read(self.rings, rows.astype(np.int32, copy=False), items, actions, times)
        return items, actions, times

    def recent_positives(self, row: int, positive: NDArray[np.bool_], last: int) -> NDArray[np.int64]:
        """Item rows of a user's last events whose action is in the mask, oldest first."""
        out = np.empty(last, np.int64)
        found = history_kernels.latest(self.rings, row, positive, out) if row >= 0 else 0
        return out[last - found :]

    def seen_mask(self, row: int, action_is_seen: NDArray[np.bool_], out: NDArray[np.bool_]) -> None:
        """Write False into out (N,) at the items the user has seen, by the actions that count as such."""
        if row >= 0:
            history_kernels.seen(self.rings, row, action_is_seen, out)

    def counts(self, row: int) -> NDArray[np.int32]:
        """Events of a user ever, per action code: (n_actions,) int32."""
        return np.array(self.rings.counts[row])

    def events(self, row: int) -> int:
        """Events of a user ever."""
        return int(self.rings.users[row, rings.N])

    def events_of(self, user_id: str) -> int:
        """Events of a user ever, 0 of a stranger."""
        row = self.row_of(user_id)
        return 0 if row < 0 else self.events(row)
