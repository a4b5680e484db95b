"""Profiles to changelog rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streams.durability import packing
from streams.kafka.packed_rows import PackedRows
from streams.state import profile_kernels as kernels
from streams.state import rows as changelog
from streams.state.item_index import ItemIndex
from streams.state.own_likes import follow_likes
from streams.state.profiles import Profiles
from streams.state.rings import CHUNK, OWNER, USED
from streams.state.rows import ACTIONS_KEY, SCHEMA_VERSION, Actions, Row, Taken, UserStated, stated_key

TOPIC = "user-state"


def take_profiles(profiles: Profiles, index: ItemIndex, *, most: int | None = None) -> Taken:
    """Take the rows of what changed since they were last taken, events in the order of their offsets.

    With `most`, so many rows of events at most, those first that changed first.
    """
    rows: list[Row] = []
    names = profiles.flush_names
    if names:
        head = Actions(SCHEMA_VERSION, list(profiles.actions), profiles.logs)
        rows.append((ACTIONS_KEY, changelog.encode(head)))
        profiles.flush_names = False
    erased, profiles.erasures.dirty = profiles.erasures.dirty, set()
    rows += [(key, changelog.encode(profiles.erasures.marks[key])) for key in erased]
    tombstones, profiles.tombstones = profiles.tombstones, set()
    rows += [(key, None) for key in sorted(tombstones)]  # first: a key may be written anew
    chunks = profiles.take_chunks(most)
    follow_likes(profiles, index, profiles.rings.links[chunks, OWNER])
    pack = _packer(profiles, index, chunks)
    stated, profiles.stated.dirty = profiles.stated.dirty, set()
    after = [_stated_row(profiles, user, index) for user in sorted(stated)]

    def put_back() -> None:
        profiles.flush_names |= names
        profiles.erasures.dirty |= erased & profiles.erasures.marks.keys()
        profiles.stated.dirty |= stated & profiles.stated.keys()  # a user may have been erased meanwhile
        profiles.tombstones |= tombstones
        kernels.mark_chunks(profiles.rings, chunks)

    return Taken(PackedRows(len(chunks), pack, before=rows, after=after), put_back)


def take_quarantine(profiles: Profiles) -> Taken:
    """Take the marks that have changed. They go last: all that has been taken before is of no later marks."""
    held = profiles.quarantine
    keys, held.dirty = held.dirty, set()
    rows: list[Row] = [(key, changelog.encode(held.marks[key])) for key in sorted(keys)]
    return Taken(rows, lambda: held.dirty.update(keys))


def _stated_row(profiles: Profiles, user: int, index: ItemIndex) -> Row:
    said, user_id = profiles.stated[user], profiles.ids.text(user)
    blocked = index.keys[said.blocked].astype("<u8").tobytes()
    value = UserStated(
        SCHEMA_VERSION, user_id, said.offset, said.attributes, said.preferences, blocked, said.timestamp_ms,
        said.friends.astype("<u8").tobytes(),
    )  # fmt: skip
    return stated_key(user_id), changelog.encode(value)


def all_rows(profiles: Profiles, index: ItemIndex) -> list[Row]:
    """Rows of all that is known of users: nothing counts as flushed."""
    return list(rows_of_users(profiles, index, np.ones(profiles.n_users, np.bool_)))


def rows_of_users(profiles: Profiles, index: ItemIndex, chosen: NDArray[np.bool_]) -> PackedRows:
    """Rows of all that is known now of the users that are marked in `chosen`, (n_users,)."""
    r = profiles.rings
    owners = r.links[: int(r.heap[USED]), OWNER]
    chunks = np.flatnonzero(owners >= 0).astype(np.int32)
    chunks = chunks[chosen[owners[chunks]]]
    stated = [_stated_row(profiles, user, index) for user in sorted(profiles.stated) if chosen[user]]
    return PackedRows(len(chunks), _packer(profiles, index, chunks), after=stated)


def _packer(
    profiles: Profiles, index: ItemIndex, chunks: NDArray[np.int32]
) -> Callable[[], tuple[packing.Data, NDArray[np.int64]]]:
    """Copy what chunks are now; return what makes rows of the copy."""
    r, n = profiles.rings, len(chunks)
    slab, spans = profiles.ids.slab
    owners = r.links[chunks, OWNER]
    copy = kernels.Chunks(
        heads=np.empty((n, 6), np.int64),
        counts=np.empty((n, len(profiles.actions)), np.int32),
        items=np.empty((n, CHUNK), np.int32),
        actions=np.empty((n, CHUNK), np.uint8),
        times=np.empty((n, CHUNK), np.int64),
        keys=np.empty((n, CHUNK), np.uint64),
        offsets=np.empty((n, CHUNK), np.int64),
        names=np.empty(int(spans[owners, 1].sum()), np.uint8),
    )
    kernels.gather(r, chunks, slab, spans, copy)
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
