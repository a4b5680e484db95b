"""The arrays of users' rings: what is taken is somebody's or free, never both."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.reserved import Growing, room, with_room
from streams.durability.digest import fold_batch
from streams.durability.profile_restore import Restore
from streams.durability.profile_rows import all_rows
from streams.events import Click
from streams.kafka.columns import RecordColumns
from streams.state import ring_memory, rings
from streams.state.fold_kernels import DUPLICATE, REPLAYED
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles

START = 1_700_000_000_000
LIMIT = 96  # six chunks


def make():
    return Profiles(0, history_limit=LIMIT, actions=("view", "like"), positive=("like",))


def click(offset, user, *, event_id=None, item=None):
    return offset, Click(
        event_id=event_id or f"e{offset}", user_id=user, item_id=item or f"i{offset % 7}", action="like",
        timestamp_ms=START + offset % 2**40,
    )  # fmt: skip


@pytest.fixture(params=["reserved", "copied when it grows"], autouse=True)
def capacity(request, monkeypatch):
    if request.param != "reserved":
        for name in ("LIKELY_USERS", "LIKELY_CHUNKS", "LIKELY_EVENTS"):
            monkeypatch.setattr(ring_memory, name, 1)


def free_list(first, after):
    found = []
    while first > 0:
        found.append(first)
        first = after(first)
    return found


def check(profiles, events):
    """Every cell and block is one chunk's or free; users have what they did, and their newest chunks keys."""
    r = profiles.rings
    cells, blocks = Counter(), Counter()
    for user, done in events.items():
        row = profiles.row_of(user)
        assert (row < 0) == (not done)
        if row < 0:
            continue
        slots = profiles.slots_of(row)
        chunk, chunks = int(r.users[row, rings.HEAD]), []
        for _ in slots:
            chunks.append(chunk)
            chunk = int(r.links[chunk, rings.PREV])
        for age, chunk in enumerate(chunks):
            assert (r.links[chunk, rings.KEYS] > 0) == (age <= rings.DEDUPE_CHUNKS)
            blocks.update([int(r.links[chunk, rings.KEYS])] if age <= rings.DEDUPE_CHUNKS else [])
            cells.update(cell for cell in r.cells[chunk].tolist() if cell)
            size = (int(r.users[row, rings.N]) - 1) % rings.CHUNK + 1 if age == 0 else rings.CHUNK
            held = [int(r.cells[chunk, k // rings.CELL]) * rings.CELL + k % rings.CELL for k in range(size)]
            bits = {rings.sign_bit(item) for item in r.items[held].tolist()}
            low, high = (int(half) & 0xFFFFFFFF for half in r.links[chunk, [rings.SIGN, rings.SIGN + 1]])
            assert {bit for bit in range(64) if (high << 32 | low) >> bit & 1} == bits
            hours = (r.stamps[held] >> rings.ACTION_BITS) // rings.HOUR_MS
            assert r.links[chunk, rings.SINCE] == hours.min()
        if len(done) <= LIMIT:
            assert len(slots) == -(-len(done) // 16)
            assert sum(np.count_nonzero(r.cells[chunk]) for chunk in chunks) == -(-len(done) // 4)
        _, _, times = profiles.history(row, LIMIT)
        assert times.tolist() == done[len(done) - len(times) :]
        assert len(times) >= min(len(done), LIMIT - 15)
    heap = r.heap
    cells.update(free_list(int(heap[rings.CELLS_FREE]), lambda cell: int(r.items[cell * rings.CELL])))
    blocks.update(free_list(int(heap[rings.KEYS_FREE]), lambda block: int(r.keys[block, 0])))
    assert cells == Counter(range(1, int(heap[rings.CELLS_USED])))
    assert blocks == Counter(range(1, int(heap[rings.KEYS_USED])))


steps = st.tuples(
    st.sampled_from(["click", "click", "click", "drop", "erase", "restore"]),
    st.sampled_from("abc"),
    st.integers(1, 70),
)


@given(st.lists(steps, max_size=12))
def test_cells_and_keys_are_a_chunks_or_free_whatever_comes_goes_and_is_restored(todo):
    profiles, covisits, index = make(), CoVisitation(neighbours=16, window=2), ItemIndex()
    events = {user: [] for user in "abc"}
    offset = 0
    for step, user, n in todo:
        if step == "click":
            log = [click(offset + k, user) for k in range(n)]
            offset += n
            fold_batch(profiles, covisits, index, log)
            events[user] += [event.timestamp_ms for _, event in log]
        elif step == "restore":
            restored = make()
            restore = Restore(restored, index)
            restore.add(RecordColumns.of_rows(all_rows(profiles, index)))
            restore.finish()
            assert sorted(all_rows(restored, index)) == sorted(all_rows(profiles, index))
            profiles = restored
        elif profiles.row_of(user) >= 0:
            if step == "drop":
                profiles.drop(np.array([profiles.row_of(user)], np.int32))
            else:
                profiles.erase(user)
            events[user] = []
        check(profiles, events)


@given(
    st.lists(st.sampled_from([1, 2, 2**31, 2**32 - 1, 2**32, 2**40]), min_size=1, max_size=60),
    st.integers(0, 59),
)
def test_events_are_known_again_however_far_their_offsets_lie_apart(gaps, repeated):
    profiles, covisits, index = make(), CoVisitation(neighbours=16, window=2), ItemIndex()
    offsets = np.cumsum(gaps).tolist()
    fold_batch(profiles, covisits, index, [click(offset, "u") for offset in offsets])

    outcomes = fold_batch(
        profiles,
        covisits,
        index,
        [click(offsets[-1], "u"), click(offsets[-1] + 1, "u", event_id=f"e{offsets[-1]}")],
    )

    assert outcomes == [REPLAYED, DUPLICATE]
    known = offsets[-rings.CHUNK * 2 :]
    again = known[repeated % len(known)]
    assert fold_batch(profiles, covisits, index, [click(offsets[-1] + 2, "u", event_id=f"e{again}")]) == [
        DUPLICATE
    ]
    newest = profiles.rings.bases[profiles.rings.users[0, rings.HEAD]]
    assert 0 <= offsets[-1] - newest <= rings.FARTHEST

    restored = make()
    restore = Restore(restored, index)
    restore.add(RecordColumns.of_rows(all_rows(profiles, index)))
    restore.finish()
    assert sorted(all_rows(restored, index)) == sorted(all_rows(profiles, index))


def test_users_are_begun_where_only_one_array_has_room_for_more():
    profiles = make()
    short = profiles.rings.counts[:4].copy()
    profiles.rings = profiles.rings._replace(counts=short)
    index, covisits = ItemIndex(), CoVisitation(neighbours=16, window=2)
    fold_batch(profiles, covisits, index, [click(offset, f"u{offset}") for offset in range(1, 40)])
    assert [int(profiles.counts(row).sum()) for row in range(39)] == [1] * 39


@given(st.lists(st.integers(0, 300), max_size=8), st.sampled_from([0, 1, 64, 5_000]))
def test_an_array_with_room_keeps_what_is_in_it_and_what_is_new_is_zero(sizes, likely):
    array = room(1, np.int32, width=(3,), likely=likely)
    model: list[list[int]] = []
    for size in sizes:
        array = with_room(array, len(model) + size)
        assert not array[len(model) : len(model) + size].any()
        new = [[len(model) + k] * 3 for k in range(size)]
        array[len(model) : len(model) + size] = np.array(new, np.int32).reshape(-1, 3)
        model += new
    assert array[: len(model)].tolist() == model


def test_room_is_more_than_the_machine_has_and_where_that_is_refused_what_is_needed():
    array = room(1, np.int64, likely=1 << 38)
    assert len(array) == 1 << 38
    array[1 << 37] = 1
    assert array[1 << 37] == 1

    assert len(room(10, np.int64, likely=1 << 55)) < 100


@given(st.lists(st.integers(0, 300), max_size=8), st.sampled_from([0, -1]), st.sampled_from([1, 64, 5_000]))
def test_an_array_that_grows_keeps_its_rows_and_fills_the_new_ones(sizes, fill, likely):
    growing, model = Growing(np.int32, width=(2,), fill=fill, likely=likely), []
    for size in sizes:
        array = growing.reach(len(model) + size)
        assert array[len(model) :].tolist() == [[fill, fill]] * size
        array[len(model) :] = len(model)
        model += [[len(model)] * 2] * size
        assert array.tolist() == model
