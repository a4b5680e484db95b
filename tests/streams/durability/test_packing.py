"""Rows written by kernels are, byte for byte, those that msgspec writes of the same structs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from streams.durability.covisit_rows import take_covisits
from streams.durability.digest import fold_batch
from streams.durability.profile_rows import take_profiles
from streams.events import Click
from streams.kafka.packed_rows import PackedRows
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.state.rows import ACTIONS_KEY, CoVisits, UserChunk, chunk_key, decode, encode

ACTIONS = ("view", "click", "like")


@given(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=3),
    st.sampled_from([1, 12, 31, 32, 255, 256, 70_000]),
    st.sampled_from([0, 127, 128, 255, 256, 2**16, 2**32, 2**60, -1, -33, -200, -40_000, -(2**40)]),
    st.integers(1, 70),
)
def test_a_users_rows(name: str, repeat: int, first_ms: int, n: int) -> None:
    user = name * repeat
    index, profiles = ItemIndex(), Profiles(0, history_limit=32, actions=ACTIONS, positive=["like"])
    log = [
        (k, Click(event_id=f"{k}", user_id=user, item_id=f"i{k % 5}", action="like", timestamp_ms=first_ms))
        for k in range(n)
    ]
    fold_batch(profiles, CoVisitation(window=2), index, log)
    rows = [row for row in take_profiles(profiles, index).rows if row[0] != ACTIONS_KEY]

    assert len(rows) == min(2, (n + 15) // 16)
    for key, value in rows:
        assert value is not None
        row = decode(UserChunk, "user-state", key, value)
        assert encode(row) == value
        assert key == chunk_key(user, (row.n - 1) // 16 % 2)
        assert (row.user_id, row.first_ms) == (user, first_ms)
        assert np.frombuffer(row.counts, "<i4").tolist() == [0, 0, row.n]


@pytest.mark.parametrize("n", [2, 30, 1000])
@pytest.mark.parametrize("applied", [3, 2**40])
def test_an_items_rows(n: int, applied: int) -> None:
    index, covisits = ItemIndex(), CoVisitation(neighbours=4096, window=n)
    rows = index.rows_of([f"i{k}" for k in range(n + 1)])
    covisits.grow(index.keys)
    flags = np.ones((1, n), np.bool_)
    covisits.observe(rows[:1], flags[0, :1], rows[None, 1:], flags, np.array([applied], np.int64))
    values = [value for _, value in take_covisits(covisits, index, 300).rows if value is not None]

    decoded = [decode(CoVisits, "policy-state", b"", value) for value in values]
    assert [encode(row) for row in decoded] == values
    assert max(len(row.others) for row in decoded) == 8 * n


def test_packed_rows_lie_between_the_others_and_are_packed_once() -> None:
    packed = []

    def pack() -> tuple[np.ndarray, np.ndarray]:
        packed.append(True)
        return np.frombuffer(b"abcdef", np.uint8), np.array([[0, 1, 3], [3, 4, 6]], np.int64)

    rows = PackedRows(2, pack, before=[(b"first", b"1")], after=[(b"last", None)])
    assert len(rows) == 4
    assert packed == []
    for _ in range(2):
        assert list(rows) == [(b"first", b"1"), (b"a", b"bc"), (b"d", b"ef"), (b"last", None)]
    assert packed == [True]
    assert (b"d", b"ef") in rows
