import msgspec
import numpy as np
import pytest

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_reads import previous_items
from streams.durability.covisit_restore import restore_covisits
from streams.durability.covisit_rows import take_covisits
from streams.kafka.columns import RecordColumns
from streams.state.item_index import ItemIndex
from streams.state.rows import SCHEMA_VERSION, covisit_key


def observed(n=500, n_items=60):
    index = ItemIndex()
    index.rows_of([f"i{k}" for k in range(n_items)])
    covisits = CoVisitation(neighbours=32, window=5)
    covisits.grow(index.keys)
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 20, n).astype(np.int32), rng.integers(0, n_items, n).astype(np.int32)
    positive = rng.random(n) < 0.7
    windows = previous_items(users, items, positive, 5, 20)
    covisits.observe(items, positive, *windows, np.arange(n))
    return covisits, index


def content(covisits, index):
    rows = index.known_rows([f"i{k}" for k in range(60)])
    bounds, others, counts = covisits.neighbours_of(rows)
    keys = index.keys[others].tolist()
    pairs = [
        list(zip(keys[a:b], counts[a:b].tolist(), strict=True))
        for a, b in zip(bounds, bounds[1:], strict=False)
    ]
    return covisits.applied[rows].tolist(), covisits.popularity[rows].tolist(), pairs


def test_rows_bring_co_visits_back_under_other_row_numbers():
    covisits, index = observed()
    rows = list(take_covisits(covisits, index, 3).rows)
    assert {key for key, _ in rows} == {covisit_key(3, key) for key in index.keys.tolist()}
    assert list(take_covisits(covisits, index, 3).rows) == []

    other_index, other = ItemIndex(), CoVisitation(neighbours=32, window=5)
    restore_covisits(other, other_index, RecordColumns.of_rows(reversed(rows)))
    other_index.rows_of([f"i{k}" for k in range(60)])
    assert content(other, other_index) == content(covisits, index)
    assert list(take_covisits(other, other_index, 3).rows) == []


def test_after_a_tombstone_an_older_row_replaces_a_newer_one():
    covisits, index = observed(200)
    old = list(take_covisits(covisits, index, 3).rows)
    newer, newer_index = observed(400)
    rows = [row for key, value in old for row in ((key, None), (key, value))]
    restore_covisits(newer, newer_index, RecordColumns.of_rows(rows))
    assert content(newer, newer_index) == content(covisits, index)


def test_an_older_row_never_replaces_a_newer_one():
    covisits, index = observed(200)
    old = list(take_covisits(covisits, index, 0).rows)
    newer, newer_index = observed(500)
    before = content(newer, newer_index)
    restore_covisits(newer, newer_index, RecordColumns.of_rows(old))

    assert content(newer, newer_index) == before


def test_fewer_counters_keep_the_total():
    covisits, index = observed()
    rows = list(take_covisits(covisits, index, 0).rows)
    smaller, smaller_index = CoVisitation(neighbours=16, window=5), ItemIndex()
    restore_covisits(smaller, smaller_index, RecordColumns.of_rows(rows))

    total = sum(count for pairs in content(covisits, index)[2] for _, count in pairs)
    every = np.arange(60, dtype=np.int32)
    bounds, _, counts = smaller.neighbours_of(every)
    assert counts.sum() == total
    assert np.diff(bounds).max() == 16


def test_tombstones_and_no_rows_are_no_matter():
    covisits, index = CoVisitation(), ItemIndex()
    restore_covisits(covisits, index, RecordColumns.of_rows([(covisit_key(0, 1), None)]))
    restore_covisits(covisits, index, RecordColumns.of_rows([]))

    assert len(index) == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xc1", "is damaged"),
        (
            msgspec.msgpack.encode([SCHEMA_VERSION, 1, 1, b"x" * 8, b"y" * 5]),
            "its columns do not fit together",
        ),
        (msgspec.msgpack.encode([SCHEMA_VERSION + 1]), "has schema version 2; this worker reads up to 1"),
        (msgspec.msgpack.encode({"v": 1}), "is damaged"),
    ],
    ids=["bytes", "columns", "newer", "map"],
)
def test_rows_that_cannot_be_read_are_named(value, message):
    key = covisit_key(0, 7)
    good = msgspec.msgpack.encode([SCHEMA_VERSION, 1, 1, b"", b""])
    with pytest.raises(ValueError, match=rf"policy-state row b'covisit.*\\x07'.*{message}"):
        restore_covisits(
            CoVisitation(), ItemIndex(), RecordColumns.of_rows([(covisit_key(0, 8), good), (key, value)])
        )
