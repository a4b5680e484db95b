"""Profiles from their changelog rows, put in place as they are read."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from model_core.signals.reserved import room, with_room
from streams.durability import restore_kernels, unpacking
from streams.durability.profile_rows import TOPIC
from streams.durability.unpacking import (
    CHUNK_SUFFIX,
    EVENTS,
    KIND,
    LEFT,
    OTHER,
    READ,
)
from streams.kafka.columns import RecordColumns
from streams.state import profile_kernels as kernels
from streams.state import rows as changelog
from streams.state.id_table import IdTable
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.state.rings import CELL, CHUNK, OWNER, SLOT, USED
from streams.state.rows import (
    ACTIONS_KEY,
    ERASED_PREFIX,
    META_PREFIX,
    QUARANTINE_PREFIX,
    Actions,
    Erased,
    Quarantined,
    UserChunk,
    UserStated,
    chunk_key,
    joined,
)
from streams.state.stated import Stated

STATED_AT_ONCE = 500
LIKELY_CHUNKS = 1 << 22


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that have been read and are not in place yet.

    found : (n, 9) int64, see `unpacking.read_chunks`
    chunks : (n,) int32, the chunk of each row
    item_keys : (n_events,) uint64, of the rows that were read, one row after the other
    """

    records: RecordColumns
    found: NDArray[np.int64]
    chunks: NDArray[np.int32]
    item_keys: NDArray[np.uint64]


class Restore:
    """Rebuilds empty profiles from their changelog: `add` its records in order, then `finish`.

    Until then a row's chunk is found by the row's key, and the newest row of a key overwrites the others.

    `add` is `read`, `items` and `place`. Only `items` and `finish_stated` touch what is not this partition's:
    all else may be called in another thread, one call at a time.
    """

    def __init__(self, profiles: Profiles, index: ItemIndex) -> None:
        if profiles.n_users:
            raise ValueError(f"profiles of partition {profiles.partition} must be empty to be restored")
        self._profiles = profiles
        self._index = index
        self._keys = IdTable()
        # Of each chunk: its kind; events ever, first event's time, newest offset; keys of its events.
        self._kinds = room(0, np.uint8, likely=LIKELY_CHUNKS)
        self._heads = room(0, np.int64, width=(3,), likely=LIKELY_CHUNKS)
        self._event_keys = room(0, np.uint64, width=(CHUNK,), likely=LIKELY_CHUNKS)
        self._counts = room(0, np.int32, width=(len(profiles.actions),), likely=LIKELY_CHUNKS)
        self._left: dict[int, bytes] = {}  # by chunk
        self._others: dict[bytes, bytes] = {}
        self._codes = np.zeros(0, np.uint8)

    def add(self, records: RecordColumns) -> None:
        """Take in changelog records; the latest of each key counts."""
        batch = self.read(records)
        self.place(batch, self.items(batch))

    def read(self, records: RecordColumns) -> Batch:
        """Find out what the records are, and give each row its chunk."""
        n, data, table = len(records), records.data, np.ascontiguousarray(records.table)
        found, spans = np.empty((n, 9), np.int64), np.empty((n, 2), np.int64)
        hashes, n_actions = np.empty(n, np.uint64), self._counts.shape[1]
        n_chunks = unpacking.read_chunks(data, table, n_actions, found, spans, hashes)
        if n_chunks < n:
            self._keep_others(records, np.flatnonzero(found[:, KIND] == OTHER))
            if self._counts.shape[1] != n_actions:
                unpacking.read_chunks(data, table, self._counts.shape[1], found, spans, hashes)
            records, found = self._only(records, found)
        chunks = self._keys.rows_of(data, spans[:n_chunks], hashes[:n_chunks])
        is_read = found[:, KIND] == READ
        sizes = (found[is_read, EVENTS] - 1) % CHUNK + 1
        self._reserve(int((sizes + CELL - 1).sum()) // CELL)
        keys = np.empty(int(sizes.sum()), np.uint64)
        unpacking.chunk_items(data, found, keys)
        return Batch(records, found, chunks, keys)

    def items(self, batch: Batch) -> NDArray[np.int32]:
        """Rows of the items of a batch, made where there are none: (n_events,) int32."""
        return self._index.rows_of_keys(batch.item_keys)

    def place(self, batch: Batch, items: NDArray[np.int32]) -> None:
        """Put the rows of a batch into their chunks."""
        restore_kernels.place(
            self._profiles.rings, batch.records.data, batch.found, batch.chunks, items, self._kinds,
            self._heads, self._counts, self._event_keys,
        )  # fmt: skip
        for row in np.flatnonzero(batch.found[:, KIND] == LEFT).tolist():
            chunk, value = int(batch.chunks[row]), batch.records[row].value
            if self._kinds[chunk] == LEFT and value is not None:
                self._left[chunk] = value

    def finish(self) -> None:
        """Put the rows in place; none of them is dirty, unless its key has changed with `history_limit`.

        Raises
        ------
        ValueError
            If a row is damaged or of a newer schema, or an action was taken out of the configuration.
        """
        self.finish_left()
        self.finish_chunks()
        for _ in self.finish_stated():
            pass

    @staticmethod
    def _only(records: RecordColumns, found: NDArray[np.int64]) -> tuple[RecordColumns, NDArray[np.int64]]:
        kept = found[:, KIND] != OTHER
        table = records.table[kept]
        return RecordColumns(records.topic, records.partition, records.raw, table), found[kept]

    def _keep_others(self, records: RecordColumns, rows: NDArray[np.int64]) -> None:
        for row in rows.tolist():
            record = records[row]
            if record.key is None:
                continue
            if record.value is None:
                self._others.pop(record.key, None)
                continue
            self._others[record.key] = record.value
            if record.key == ACTIONS_KEY:
                self._count_actions(len(changelog.decode(Actions, TOPIC, record.key, record.value).names))

    def _count_actions(self, n: int) -> None:
        """Expect so many counters from now on: rows with as many as before will have been replaced."""
        if n != self._counts.shape[1]:
            self._counts = room(len(self._counts), np.int32, width=(n,), likely=LIKELY_CHUNKS)
            self._kinds[self._kinds == READ] = LEFT

    def _reserve(self, cells: int) -> None:
        """Make room for the chunks of all keys, and for so many more cells."""
        chunks, heap = len(self._keys), self._profiles.rings.heap
        self._profiles.reserve(chunks=chunks - int(heap[USED]), cells=cells)
        heap[USED] = chunks
        self._kinds = with_room(self._kinds, chunks)
        self._heads = with_room(self._heads, chunks)
        self._event_keys = with_room(self._event_keys, chunks)
        self._counts = with_room(self._counts, chunks)

    # What is done when all rows are there

    def finish_left(self) -> None:
        """Let msgspec read what the kernels left."""
        self._codes = self._action_codes()
        self._count_actions(len(self._codes))
        left = np.flatnonzero(self._kinds[: len(self._keys)] == LEFT).tolist()
        keys = [self._keys.bytes_of(chunk) for chunk in left]
        rows: list[tuple[bytes, bytes]] = []
        for chunk, key in zip(left, keys, strict=True):
            value = self._left.get(chunk)
            if value is None:
                raise _damaged(key)
            rows.append((key, changelog.encode(changelog.decode(UserChunk, TOPIC, key, value))))
        self._left = {}
        if rows:
            self.add(RecordColumns.of_rows(rows))
        for chunk, key in zip(left, keys, strict=True):
            if self._kinds[chunk] != READ:
                raise _damaged(key)

    def finish_chunks(self) -> None:
        """Make the chunks their users'."""
        profiles, n = self._profiles, len(self._keys)
        live = np.flatnonzero(self._kinds[:n] == READ)
        users = profiles.rows_of_bytes(*self._names(live))
        order = np.lexsort((self._heads[live, 0], users))
        chunks, users = live[order], users[order]
        keep = np.empty(len(chunks), np.bool_)
        restore_kernels.readable(users, self._heads[chunks, 0], profiles.n_slots, keep)
        kept = chunks[keep].astype(np.int32)
        profiles.reserve(chunks=len(kept))  # as many blocks of keys at most
        slab, spans = self._keys.slab
        moved = np.zeros(len(kept), np.bool_)
        bad = kernels.link(
            profiles.rings, profiles.n_slots, kept, users[keep], self._heads, self._counts, self._event_keys,
            self._codes, slab, spans, moved,
        )  # fmt: skip
        if bad >= 0:
            raise _damaged(self._keys.bytes_of(bad))
        free = np.ones(n, np.bool_)
        free[kept] = False
        kernels.free_chunks(profiles.rings, np.flatnonzero(free).astype(np.int32))
        if len(kept):
            profiles.position = max(profiles.position, int(self._heads[kept, 2].max()))
        self._rename(kept, kept[moved], chunks[~keep])
        if profiles.flush_names:
            kernels.mark_chunks(profiles.rings, kept)

    def finish_stated(self) -> Iterator[None]:
        """Take over what users stated; pauses every `STATED_AT_ONCE` users."""
        for done, (key, value) in enumerate(self._others.items()):
            if not key.startswith(META_PREFIX):
                self._stated(changelog.decode(UserStated, TOPIC, key, value))
            if done % STATED_AT_ONCE == 0:
                yield
        self._others = {}

    def _action_codes(self) -> NDArray[np.uint8]:
        """Code of today of every code in the rows."""
        names, value = self._profiles.actions, self._others.get(ACTIONS_KEY)
        if value is None:
            return np.arange(len(names), dtype=np.uint8)
        head = changelog.decode(Actions, TOPIC, ACTIONS_KEY, value)
        stored, self._profiles.logs = head.names, head.logs
        if missing := [name for name in stored if name not in names]:
            raise ValueError(
                f"actions must keep {missing}, which user-state has events of (a weight of 0 will do)"
            )
        self._profiles.flush_names = stored != list(names)
        return np.array([names.index(name) for name in stored], np.uint8)

    def _names(
        self, chunks: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]]:
        """Ids of the chunks' users: their bytes, where each lies, and its hash."""
        for key, value in self._others.items():
            if key.startswith(ERASED_PREFIX):
                self._profiles.erasures.put(key, changelog.decode(Erased, TOPIC, key, value))
            elif key.startswith(QUARANTINE_PREFIX):
                mark = changelog.decode(Quarantined, TOPIC, key, value)
                self._profiles.quarantine.load([(key, mark)])
            elif key.startswith(META_PREFIX) and key != ACTIONS_KEY:
                # It may say, as marks of quarantine do, that other rows do not count as they stand.
                raise ValueError(
                    f"{TOPIC} row {key!r} is of a kind that this worker does not know; a later version has "
                    "written it"
                )
        slab, names = self._keys.slab
        data = slab[:]
        data.flags.writeable = False
        spans = names[chunks] - np.array([0, CHUNK_SUFFIX])
        hashes, plain = np.empty(len(chunks), np.uint64), np.empty(len(chunks), np.bool_)
        restore_kernels.hash_names(data, spans, hashes, plain)
        for i in np.flatnonzero(~plain).tolist():
            key = self._keys.bytes_of(int(chunks[i]))
            try:
                hashes[i] = xxhash.xxh3_64_intdigest(key[:-CHUNK_SUFFIX].decode().encode())
            except UnicodeDecodeError as error:
                raise ValueError(f"{TOPIC} row {key!r} is damaged: {error}") from None
        return data, spans, hashes

    def _stated(self, row: UserStated) -> None:
        user = int(self._profiles.rows_of([row.user_id])[0])
        blocked = self._index.rows_of_keys(joined([row.blocked], "<u8").astype(np.uint64))
        self._profiles.stated[user] = Stated(
            row.offset, row.attributes, row.preferences, blocked, row.timestamp_ms,
            joined([row.friends], "<u8"),
        )  # fmt: skip

    def _rename(self, kept: NDArray[np.int32], moved: NDArray[np.int32], dropped: NDArray[np.int64]) -> None:
        """After a change of `history_limit`, let the next flush move rows to their new keys."""
        if not len(moved) and not len(dropped):
            return
        profiles, links = self._profiles, self._profiles.rings.links
        wanted = {
            chunk_key(profiles.ids.text(owner), slot)
            for owner, slot in links[kept][:, [OWNER, SLOT]].tolist()
        }
        keys = {self._keys.bytes_of(chunk) for chunk in (*kept.tolist(), *dropped.tolist())}
        profiles.tombstones.update(keys - wanted)
        kernels.mark_chunks(profiles.rings, moved)


def _damaged(key: bytes) -> ValueError:
    return ValueError(f"{TOPIC} row {key!r} is damaged: its columns do not fit together")
