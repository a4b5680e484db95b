"""What users liked last as rows of `policy-state`: written by who owns the partition, read by all."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from streams.kafka.columns import Record
from streams.state import rows as changelog
from streams.state.item_index import ItemIndex
from streams.state.likes import MOST_LIKES, Keys, Likes, Times
from streams.state.own_likes import follow_likes
from streams.state.profiles import Profiles
from streams.state.rows import LIKES_PREFIX, SCHEMA_VERSION, Liked, Row, Taken, likes_key

TOPIC = "policy-state"
USERS_AT_ONCE = 8192
KEY_BYTES = len(LIKES_PREFIX) + 2 + 8


def take_likes(likes: Likes, partition: int, *, most: int) -> Taken:
    """Take the rows of so many users at most whose likes have changed since they were last taken."""
    keys = [likes.dirty.pop() for _ in range(min(most, len(likes.dirty)))]
    asked = np.array(keys, np.uint64)
    there, items, times = likes.of(asked)
    rows: list[Row] = [(likes_key(partition, key), None) for key in asked[~there].tolist()]
    rows += [
        (likes_key(partition, key), changelog.encode(_row(of_user, when)))
        for key, of_user, when in zip(asked[there].tolist(), items, times, strict=True)
    ]
    return Taken(rows, lambda: likes.dirty.update(keys))


def _row(items: Any, times: Any) -> Liked:
    n = int(np.count_nonzero(times))
    return Liked(SCHEMA_VERSION, items[:n].astype("<u8").tobytes(), times[:n].astype("<i8").tobytes())


def read_likes(records: Iterable[Record]) -> tuple[Keys, Keys, Times]:
    """Return what `Likes.put` takes of rows, of one user the last.

    Raises
    ------
    ValueError
        If a row is damaged or of a newer schema.
    """
    newest = {record.key or b"": record for record in records}
    keys = np.empty(len(newest), np.uint64)
    items = np.zeros((len(newest), MOST_LIKES), np.uint64)
    times = np.zeros((len(newest), MOST_LIKES), np.int64)
    for i, (key, record) in enumerate(newest.items()):
        if len(key) != KEY_BYTES:
            raise ValueError(f"{TOPIC} row {key!r} is damaged: its key has {len(key)} bytes, not {KEY_BYTES}")
        keys[i] = int.from_bytes(key[-8:], "big")
        if record.value is None:
            continue
        row = changelog.decode(Liked, TOPIC, key, record.value)
        if not len(row.items) == len(row.times) <= 8 * MOST_LIKES or len(row.items) % 8:
            raise ValueError(f"{TOPIC} row {key!r} is damaged: its columns do not fit together")
        n = len(row.items) // 8
        items[i, :n], times[i, :n] = np.frombuffer(row.items, "<u8"), np.frombuffer(row.times, "<i8")
    return keys, items, times


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
