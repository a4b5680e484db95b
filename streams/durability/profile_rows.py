"""Profiles to changelog rows and back."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from streams.durability import packing
from streams.durability import rows as changelog
from streams.durability.rows import (
    ACTIONS_KEY,
    ERASED_PREFIX,
    SCHEMA_VERSION,
    STATED_SUFFIX,
    Actions,
    Erased,
    PackedRows,
    Row,
    Taken,
    UserChunk,
    UserStated,
    bounds_of,
    chunk_key,
    joined,
    stated_key,
)
from streams.state import profile_kernels as kernels
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles, Stated

TOPIC = "user-state"


def take_profiles(profiles: Profiles, index: ItemIndex) -> Taken:
    """Take the rows of what changed since the last call, events in the order of their offsets."""
    rows: list[Row] = []
    names = profiles.flush_names
    if names:
        rows.append((ACTIONS_KEY, changelog.encode(Actions(SCHEMA_VERSION, list(profiles.actions)))))
        profiles.flush_names = False
    erased, profiles.dirty_erased = profiles.dirty_erased, set()
    rows += [(key, changelog.encode(profiles.erased[key])) for key in erased]
    r = profiles.rings
    chunks = r.dirty_chunks[: r.heap[kernels.DIRTY]].copy()
    r.dirty[chunks] = False
    r.heap[kernels.DIRTY] = 0
    pack = _packer(profiles, index, chunks)
    stated, profiles.dirty_stated = profiles.dirty_stated, set()
    after = [_stated_row(profiles, user, index) for user in sorted(stated)]
    tombstones, profiles.tombstones = profiles.tombstones, set()
    if tombstones:
        written = {key for key, _ in (*rows, *PackedRows(len(chunks), pack), *after)}
        after += [(key, None) for key in sorted(tombstones - written)]

    def put_back() -> None:
        profiles.flush_names |= names
        profiles.dirty_erased |= erased
        profiles.dirty_stated |= stated & profiles.stated.keys()  # a user may have been erased meanwhile
        profiles.tombstones |= tombstones
        kernels.mark_chunks(profiles.rings, chunks)

    return Taken(PackedRows(len(chunks), pack, before=rows, after=after), put_back)


def _stated_row(profiles: Profiles, user: int, index: ItemIndex) -> Row:
    said, user_id = profiles.stated[user], profiles.ids.text(user)
    blocked = index.keys[said.blocked].astype("<u8").tobytes()
    value = UserStated(SCHEMA_VERSION, user_id, said.offset, said.attributes, said.preferences, blocked)
    return stated_key(user_id), changelog.encode(value)


def all_rows(profiles: Profiles, index: ItemIndex) -> list[Row]:
    """Rows of all that is known of users: nothing counts as flushed."""
    r = profiles.rings
    used = int(r.heap[kernels.USED])
    chunks = np.flatnonzero(r.links[:used, kernels.OWNER] >= 0).astype(np.int32)
    rows = list(PackedRows(len(chunks), _packer(profiles, index, chunks)))
    return rows + [_stated_row(profiles, user, index) for user in sorted(profiles.stated)]


def _packer(
    profiles: Profiles, index: ItemIndex, chunks: NDArray[np.int32]
) -> Callable[[], tuple[packing.Data, NDArray[np.int64]]]:
    """Copy what chunks are now; return what makes rows of the copy."""
    r, n = profiles.rings, len(chunks)
    slab, starts = profiles.ids.slab
    owners = r.links[chunks, kernels.OWNER]
    copy = kernels.Chunks(
        heads=np.empty((n, 6), np.int64),
        counts=np.empty((n, len(profiles.actions)), np.int32),
        items=np.empty((n, kernels.CHUNK), np.int32),
        actions=np.empty((n, kernels.CHUNK), np.uint8),
        times=np.empty((n, kernels.CHUNK), np.int64),
        keys=np.empty((n, kernels.CHUNK), np.uint64),
        offsets=np.empty((n, kernels.CHUNK), np.int64),
        names=np.empty(int((starts[owners + 1] - starts[owners]).sum()), np.uint8),
    )
    kernels.gather(r, chunks, slab, starts, copy)
    item_keys = index.keys

    def pack() -> tuple[packing.Data, NDArray[np.int64]]:
        # Whatever prefix of the rows is durable is then a state that the partition was in.
        order = np.argsort(copy.heads[:, kernels.NEWEST], kind="stable")
        room = 2 * len(copy.names) + n * packing.CHUNK_BYTES + copy.counts.nbytes
        out, spans = np.empty(room, np.uint8), np.empty((n, 3), np.int64)
        times, keys, offsets = (packing.as_bytes(c) for c in (copy.times, copy.keys, copy.offsets))
        size = packing.pack_chunks(
            copy, order, times, keys, offsets, packing.as_bytes(item_keys), out, spans
        )  # fmt: skip
        return out[:size], spans

    return pack


class Restore:
    """Rebuilds empty profiles from their changelog: `add` its records in order, then `finish`."""

    def __init__(self, profiles: Profiles, index: ItemIndex) -> None:
        if profiles.n_users:
            raise ValueError(f"profiles of partition {profiles.partition} must be empty to be restored")
        self._profiles = profiles
        self._index = index
        self._latest: dict[bytes, bytes] = {}

    def add(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take in changelog records; the latest of each key counts."""
        for key, value in records:
            if value is None:
                self._latest.pop(key, None)
            else:
                self._latest[key] = value

    def finish(self) -> None:
        """Put the rows in place; none of them is dirty, unless its key has changed with `history_limit`.

        Raises
        ------
        ValueError
            If a row is damaged or of a newer schema, or an action was taken out of the configuration.
        """
        codes = self._action_codes(self._latest.pop(ACTIONS_KEY, None))
        chunks: list[tuple[bytes, bytes]] = []
        for key, value in self._latest.items():
            if key.startswith(ERASED_PREFIX):
                self._profiles.erased[key] = changelog.decode(Erased, TOPIC, key, value)
            elif key.endswith(STATED_SUFFIX):
                self._stated(changelog.decode(UserStated, TOPIC, key, value))
            else:
                chunks.append((key, value))
        self._latest = {}
        if chunks:
            self._chunks(chunks, codes)

    def _action_codes(self, value: bytes | None) -> NDArray[np.uint8]:
        """Code of today of every code in the rows."""
        names = self._profiles.actions
        if value is None:
            return np.arange(len(names), dtype=np.uint8)
        stored = changelog.decode(Actions, TOPIC, ACTIONS_KEY, value).names
        if missing := [name for name in stored if name not in names]:
            raise ValueError(
                f"actions must keep {missing}, which user-state has events of (a weight of 0 will do)"
            )
        self._profiles.flush_names = stored != list(names)
        return np.array([names.index(name) for name in stored], np.uint8)

    def _stated(self, row: UserStated) -> None:
        user = int(self._profiles.rows_of([row.user_id])[0])
        blocked = self._index.rows_of_keys(joined([row.blocked], "<u8").astype(np.uint64))
        self._profiles.stated[user] = Stated(row.offset, row.attributes, row.preferences, blocked)

    def _chunks(self, chunks: list[tuple[bytes, bytes]], codes: NDArray[np.uint8]) -> None:
        profiles = self._profiles
        decoded = changelog.decode_all(UserChunk, TOPIC, chunks)
        keys = [key for key, _ in chunks]
        _check(decoded, keys, len(codes))
        users = profiles.rows_of([row.user_id for row in decoded])
        n = np.array([row.n for row in decoded], np.int64)
        order = _readable(users, n, profiles.n_slots)
        rows = [decoded[i] for i in order.tolist()]
        users, n = users[order], n[order]
        sizes = np.array([len(row.actions) for row in rows], np.int64)
        offsets = joined((row.offsets for row in rows), "<i8").astype(np.int64)
        bounds = bounds_of(sizes)
        heads = np.stack(
            (n, sizes, np.array([row.first_ms for row in rows], np.int64), offsets[bounds[1:] - 1]), axis=1
        )
        counts = np.zeros((len(rows), len(profiles.actions)), np.int32)
        counts[:, codes] = joined((row.counts for row in rows), "<i4").reshape(len(rows), len(codes))
        items = self._index.rows_of_keys(joined((row.items for row in rows), "<u8").astype(np.uint64))
        profiles.reserve_chunks(len(rows))
        kernels.restore(
            profiles.rings, profiles.n_slots, users, heads, counts, bounds, items,
            codes[joined((row.actions for row in rows), "<u1")],
            joined((row.times for row in rows), "<i8").astype(np.int64),
            joined((row.keys for row in rows), "<u8").astype(np.uint64), offsets,
        )  # fmt: skip
        profiles.position = max(profiles.position, int(offsets.max()))
        self._rename([keys[i] for i in order.tolist()], keys)
        if profiles.flush_names:
            kernels.mark_chunks(profiles.rings, np.arange(len(rows), dtype=np.int32))

    def _rename(self, kept: list[bytes], keys: list[bytes]) -> None:
        """After a change of `history_limit`, let the next flush move rows to their new keys."""
        profiles, links = self._profiles, self._profiles.rings.links
        slots = joined((key[-2:] for key in kept), ">u2")
        moved = np.flatnonzero(slots != links[: len(kept), kernels.SLOT]).astype(np.int32)
        if not len(moved) and len(kept) == len(keys):
            return
        wanted = {
            chunk_key(profiles.ids.text(owner), slot)
            for owner, slot in links[: len(kept), [kernels.OWNER, kernels.SLOT]].tolist()
        }
        profiles.tombstones.update(set(keys) - wanted)
        kernels.mark_chunks(profiles.rings, moved)


def _check(rows: list[UserChunk], keys: list[bytes], n_actions: int) -> None:
    counts = 4 * n_actions
    fits = [
        len(row.items) == len(row.times) == len(row.keys) == len(row.offsets) == 8 * len(row.actions)
        and len(row.counts) == counts
        and len(row.actions) == (row.n - 1) % kernels.CHUNK + 1
        and row.n > 0
        and max(row.actions) < n_actions
        for row in rows
    ]
    if not all(fits):
        raise ValueError(
            f"{TOPIC} row {keys[fits.index(False)]!r} is damaged: its columns do not fit together"
        )


def _readable(users: NDArray[np.int32], n: NDArray[np.int64], n_slots: int) -> NDArray[np.int64]:
    """Rows of the chunks to restore, by user, oldest first: each user's newest chunks without a gap.

    A gap is a chunk that was not full when a later one was begun, or one that is not there: it comes from a
    smaller `history_limit` of before.
    """
    order = np.lexsort((n, users))
    owner, sequence = users[order].tolist(), ((n[order] - 1) // kernels.CHUNK).tolist()
    full = (n[order] % kernels.CHUNK == 0).tolist()
    keep = [True] * len(order)
    taken = 0
    for i in range(len(order) - 1, -1, -1):
        if i == len(order) - 1 or owner[i] != owner[i + 1]:
            taken = 1
        elif keep[i + 1] and sequence[i] == sequence[i + 1] - 1 and full[i] and taken < n_slots:
            taken += 1
        else:
            keep[i] = False
    return order[np.array(keep, np.bool_)]
