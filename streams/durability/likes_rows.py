"""What users liked last as rows of `policy-state`: written by who owns the partition, read by all."""

from collections.abc import Iterable

import numpy as np

from streams.kafka.columns import Record
from streams.state import rows as changelog
from streams.state.item_index import ItemIndex
from streams.state.likes import MOST_LIKES, Keys, Likes, Times
from streams.state.own_likes import follow_likes
from streams.state.profiles import Profiles
from streams.state.rows import LIKES_PREFIX, SCHEMA_VERSION, Liked, Row, Taken, joined, likes_key

TOPIC = "policy-state"
USERS_AT_ONCE = 8192
ROW_BYTES = 8 * MOST_LIKES
KEY_BYTES = len(LIKES_PREFIX) + 2 + 8
NOTHING = Liked(SCHEMA_VERSION, b"", b"")


def take_likes(likes: Likes, partition: int, *, most: int) -> Taken:
    """Take the rows of so many users at most whose likes have changed since they were last taken."""
    keys = [likes.dirty.pop() for _ in range(min(most, len(likes.dirty)))]
    asked = np.array(keys, np.uint64)
    there, items, times = likes.of(asked)
    rows: list[Row] = [(likes_key(partition, key), None) for key in asked[~there].tolist()]
    sizes = 8 * np.count_nonzero(times, axis=1)
    item_bytes, time_bytes = items.astype("<u8").tobytes(), times.astype("<i8").tobytes()
    for k, (key, size) in enumerate(zip(asked[there].tolist(), sizes.tolist(), strict=True)):
        piece = slice(k * ROW_BYTES, k * ROW_BYTES + size)
        value = Liked(SCHEMA_VERSION, item_bytes[piece], time_bytes[piece])
        rows.append((likes_key(partition, key), changelog.encode(value)))
    return Taken(rows, lambda: likes.dirty.update(keys))


def read_likes(records: Iterable[Record]) -> tuple[Keys, Keys, Times]:
    """Return what `Likes.put` takes of rows, of one user the last.

    Raises
    ------
    ValueError
        If a row is damaged or of a newer schema.
    """
    newest = {record.key or b"": record.value for record in records}
    keys, items, times = [], [], []
    for key, value in newest.items():
        if len(key) != KEY_BYTES:
            raise ValueError(f"{TOPIC} row {key!r} is damaged: its key has {len(key)} bytes, not {KEY_BYTES}")
        row = NOTHING if value is None else changelog.decode(Liked, TOPIC, key, value)
        if not len(row.items) == len(row.times) <= ROW_BYTES or len(row.items) % 8:
            raise ValueError(f"{TOPIC} row {key!r} is damaged: its columns do not fit together")
        keys.append(key[-8:])
        items.append(row.items.ljust(ROW_BYTES, b"\0"))
        times.append(row.times.ljust(ROW_BYTES, b"\0"))
    shape = len(keys), MOST_LIKES
    return joined(keys, ">u8"), joined(items, "<u8").reshape(shape), joined(times, "<i8").reshape(shape)


def settle_likes(profiles: Profiles, index: ItemIndex) -> None:
    """After a restore, let rows that are not as the users' events and marks say be written anew.

    So it is where likes were not kept before, or are not kept any more, and where somebody was put into
    quarantine by other means than this worker's.
    """
    likes = profiles.likes
    users = np.flatnonzero(~profiles.ids.gone).astype(np.int32)
    if profiles.stances is None:
        users = users[:0]
    known = set(profiles.ids.hashes[users].tolist())
    likes.dirty.update(likes.forget(np.array([key for key in likes.keys if key not in known], np.uint64)))
    for begin in range(0, len(users), USERS_AT_ONCE):
        follow_likes(profiles, index, users[begin : begin + USERS_AT_ONCE])
