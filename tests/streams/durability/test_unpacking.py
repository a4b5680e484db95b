"""Rows read by kernels say what they say to msgspec; what it refuses ends in an error that names the row."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.durability.covisit_restore import read_covisits
from streams.durability.profile_restore import Restore
from streams.durability.profile_rows import all_rows
from streams.kafka.columns import RecordColumns
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.state.rows import (
    ACTIONS_KEY,
    SCHEMA_VERSION,
    Actions,
    CoVisits,
    UserChunk,
    chunk_key,
    covisit_key,
    decode,
    encode,
)

ACTIONS = ("view", "click", "like")

names = st.builds(
    lambda text, repeat: text * repeat,
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=4),
    st.sampled_from([1, 8, 40, 300]),
)
whole = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 127, 128, 255, 256, -32, -33, -129, 10**12])


def draw_offsets(draw: Any, rng: np.random.Generator, size: int) -> Any:
    """Offsets of a user's events: they increase, mostly within what a chunk can tell apart."""
    farthest = draw(st.sampled_from([2**10, 2**31, 2**34, 2**60]))
    return draw(st.integers(0, 2**61)) + np.cumsum(rng.integers(1, farthest // 16, size))


def kept(row: UserChunk) -> UserChunk:
    """What is kept of a row: events that lie 2**32 offsets and more back have their offset cut off there."""
    offsets = np.frombuffer(row.offsets, "<i8")
    return msgspec.structs.replace(row, offsets=np.maximum(offsets, offsets[-1] - (2**32 - 1)).tobytes())


@st.composite
def chunks(draw: Any) -> UserChunk:
    n = draw(st.integers(1, 40) | st.integers(1, 2**31 - 1) | st.sampled_from([255, 256, 65_536]))
    size = (n - 1) % 16 + 1
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return UserChunk(
        v=SCHEMA_VERSION,
        user_id=draw(names),
        n=n,
        first_ms=draw(whole),
        counts=rng.integers(0, 2**31, 3).astype("<i4").tobytes(),
        items=rng.integers(0, 2**64, size, np.uint64).astype("<u8").tobytes(),
        actions=rng.integers(0, 3, size).astype(np.uint8).tobytes(),
        times=rng.integers(10**11, 10**13, size).astype("<i8").tobytes(),
        keys=rng.integers(0, 2**64, size, np.uint64).astype("<u8").tobytes(),
        offsets=draw_offsets(draw, rng, size).astype("<i8").tobytes(),
    )


def key_of(row: UserChunk) -> bytes:
    return chunk_key(row.user_id, (row.n - 1) // 16 % 4)


def restored(rows: list[tuple[bytes, bytes | None]]) -> dict[bytes, bytes | None]:
    """What the rows have become, as rows."""
    profiles = Profiles(0, history_limit=64, actions=ACTIONS, positive=["like"])
    index = ItemIndex()
    restore = Restore(profiles, index)
    restore.add(RecordColumns.of_rows(rows))
    restore.finish()
    return dict(all_rows(profiles, index))


def by_msgspec(key: bytes, value: bytes) -> UserChunk:
    """Read a row as Python does, with every check that there is."""
    row = decode(UserChunk, "user-state", key, value)
    sizes = [len(row.items), len(row.times), len(row.keys), len(row.offsets)]
    good = (
        row.v == SCHEMA_VERSION
        and 0 < row.n < 2**63
        and len(row.actions) == (row.n - 1) % 16 + 1
        and set(sizes) == {8 * len(row.actions)}
        and len(row.counts) == 4 * len(ACTIONS)
        and max(row.actions) < len(ACTIONS)
        and -(2**63) <= row.first_ms < 2**63
        and key[:-3] == row.user_id.encode()
        and bool(np.all(np.diff(np.frombuffer(row.offsets, "<i8").astype(object)) > 0))
        and bool(np.all(np.abs(np.frombuffer(row.times, "<i8").astype(object)) < 2**55))
    )
    if not good:
        raise ValueError("is damaged")
    return row


@given(st.lists(chunks(), max_size=5, unique_by=lambda row: row.user_id))
def test_rows_of_any_users_come_back_byte_for_byte(rows: list[UserChunk]) -> None:
    written = [(key_of(row), encode(row)) for row in rows]
    assert restored(written) == {key_of(row): encode(kept(row)) for row in rows}


@given(chunks(), st.data())
def test_a_damaged_row_is_what_msgspec_says_it_is(row: UserChunk, data: Any) -> None:
    key, value = key_of(row), bytearray(encode(row))
    for _ in range(data.draw(st.integers(1, 2))):
        # Most of a row are numbers that may be any; what can break it stands at its beginning.
        place = data.draw(st.integers(0, min(len(value), 80) - 1) | st.integers(0, len(value) - 1))
        value[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 8, len(value) - 1]))
    damaged = bytes(value[: len(value) - cut]) + data.draw(st.sampled_from([b"", b"", b"\0"]))
    try:
        expected = by_msgspec(key, damaged)
    except ValueError:
        with pytest.raises(ValueError, match=r"user-state row .* (is damaged|has schema version)"):
            restored([(key, damaged)])
    else:
        assert list(restored([(key, damaged)]).values()) == [encode(kept(expected))]


@given(st.binary(max_size=60))
def test_junk_in_the_place_of_a_row_is_an_error(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"user-state row b'u.*' (is damaged|has schema version)"):
        restored([(chunk_key("u", 0), junk)])


@given(chunks(), st.lists(st.sampled_from(["good", "bad", "gone"]), min_size=1, max_size=6))
def test_only_the_last_record_of_a_key_counts(row: UserChunk, records: list[str]) -> None:
    key, value = key_of(row), encode(row)
    rows = [(key, {"good": value, "bad": b"junk", "gone": None}[record]) for record in records]
    if records[-1] == "bad":
        with pytest.raises(ValueError, match="is damaged"):
            restored(rows)
    else:
        assert restored(rows) == ({key: encode(kept(row))} if records[-1] == "good" else {})


def test_a_row_in_other_msgpack_than_ours_is_read_as_well() -> None:
    row = UserChunk(
        SCHEMA_VERSION, "u", 1, 5, b"\0" * 12, b"i" * 8, b"\1", b"\0" * 8, b"k" * 8, b"\1" + b"\0" * 7
    )
    ours = encode(row)
    longer = b"\xdc\x00\x0b" + ours[1:] + b"\xc0"  # a longer array than is needed, and a field of its own
    assert restored([(chunk_key("u", 0), longer)]) == {chunk_key("u", 0): ours}


def test_rows_with_as_many_counters_as_before_a_change_of_the_actions_must_have_been_replaced() -> None:
    def row(n_actions: int) -> bytes:
        return encode(
            UserChunk(SCHEMA_VERSION, "u", 1, 5, b"\0" * 4 * n_actions, b"i" * 8, b"\1", *[b"\0" * 8] * 3)
        )

    key, names = chunk_key("u", 0), (ACTIONS_KEY, encode(Actions(SCHEMA_VERSION, ["view", "click"])))
    narrow = (key, row(2))
    assert len(restored([(key, row(3)), names, narrow])) == 1
    assert len(restored([names, (key, row(3)), narrow])) == 1
    for rows in ([names, (key, row(3))], [(key, row(3)), names], [names, narrow, (key, row(3))]):
        with pytest.raises(ValueError, match=r"row b'u.*' is damaged: its columns do not fit together"):
            restored(rows)


def test_a_row_under_the_key_of_another_user_is_damaged() -> None:
    row = UserChunk(SCHEMA_VERSION, "u", 1, 5, b"\0" * 12, b"i" * 8, b"\1", *[b"\0" * 8] * 3)
    with pytest.raises(ValueError, match=r"row b'v\\x00\\x00\\x00' is damaged"):
        restored([(chunk_key("v", 0), encode(row))])


@st.composite
def item_rows(draw: Any) -> tuple[int, CoVisits]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(0, 40))
    numbers = st.integers(0, 2**63 - 1) | st.integers(0, 300)
    others, counts = rng.integers(0, 2**64, size, np.uint64), rng.integers(1, 2**31, size)
    row = CoVisits(
        SCHEMA_VERSION, draw(numbers), draw(numbers), others.astype("<u8").tobytes(),
        counts.astype("<i4").tobytes(),
    )  # fmt: skip
    return draw(st.integers(0, 2**64 - 1)), row


@given(st.lists(item_rows(), max_size=6), st.integers(0, 3))
def test_rows_of_items_are_read_as_msgspec_reads_them(rows: list[tuple[int, CoVisits]], last: int) -> None:
    rows = [*rows, *rows[:last]]
    records = [(covisit_key(7, key), encode(row)) for key, row in rows]
    found, rest = read_covisits(RecordColumns.of_rows([(b"statistics\0\0\7", b"x"), *records]))

    newest = dict(rows)
    assert [record.value for record in rest] == [b"x"]
    assert sorted(found.keys.tolist()) == sorted(newest)
    for i, key in enumerate(found.keys.tolist()):
        part = slice(int(found.bounds[i]), int(found.bounds[i + 1]))
        assert found.applied[i] == newest[key].applied
        assert found.popularity[i] == newest[key].popularity
        assert found.others[part].astype("<u8").tobytes() == newest[key].others
        assert found.counts[part].astype("<i4").tobytes() == newest[key].counts


@given(item_rows(), st.data())
def test_a_damaged_row_of_an_item_is_what_msgspec_says_it_is(named: tuple[int, CoVisits], data: Any) -> None:
    key, value = covisit_key(7, named[0]), bytearray(encode(named[1]))
    place = data.draw(st.integers(0, min(len(value), 30) - 1))
    value[place] = data.draw(st.integers(0, 255))
    records = RecordColumns.of_rows([(key, bytes(value))])
    try:
        row = decode(CoVisits, "policy-state", key, bytes(value))
        sizes, numbers = (2 * len(row.counts), len(row.others)), (row.applied, row.popularity)
        if row.v != SCHEMA_VERSION or len(set(sizes)) > 1 or len(row.counts) % 4 or max(numbers) >= 2**63:
            raise ValueError("is damaged")
    except ValueError:
        with pytest.raises(ValueError, match=r"policy-state row .* (is damaged|has schema version)"):
            read_covisits(records)
    else:
        found, _ = read_covisits(records)
        assert (found.applied[0], found.popularity[0]) == (row.applied, row.popularity)
        assert found.others.astype("<u8").tobytes() == row.others


def test_rows_in_other_msgpack_than_ours_do_not_lose_their_neighbours() -> None:
    row = CoVisits(SCHEMA_VERSION, 3, 4, b"o" * 8, b"c" * 4)
    plain, longer = encode(row), msgspec.msgpack.encode([*msgspec.structs.astuple(row), None])
    found, _ = read_covisits(RecordColumns.of_rows([(covisit_key(0, 1), plain), (covisit_key(0, 2), longer)]))
    assert sorted(found.keys.tolist()) == [1, 2]
    assert found.counts.tobytes() == b"cccccccc"
