import numpy as np
import pytest

from streams.state.item_index import ItemIndex, key_of, keys_of


def test_keys_are_portable():
    assert key_of("item") == 0x6CA8F7B0F03F9E41
    assert keys_of(["a", "b"]).tolist() == [key_of("a"), key_of("b")]


def test_rows_are_given_in_order_of_appearance_and_kept():
    index = ItemIndex()

    assert index.rows_of(["a", "b", "a"]).tolist() == [0, 1, 0]
    assert index.rows_of(["c", "b"]).tolist() == [2, 1]
    assert index.ids == ["a", "b", "c"]
    assert index.row_of("c") == 2
    assert index.row_of("d") == -1
    assert index.known_rows(["d", "c", "e", "a"]).tolist() == [2, 0]
    assert len(index) == 3


def test_a_row_made_from_a_key_takes_its_id_when_the_item_is_seen():
    index = ItemIndex()
    rows = index.rows_of_keys(keys_of(["b", "a", "b"]))

    assert rows[0] == rows[2] != rows[1]
    assert index.ids == ["", ""]
    assert index.rows_of(["a", "b", "c"]).tolist() == [rows[1], rows[0], 2]
    assert index.ids[rows[1]] == "a"


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_keys_follow_the_rows_as_they_grow(n):
    index = ItemIndex()
    names = [f"i{k}" for k in range(n)]
    index.rows_of(names)

    np.testing.assert_array_equal(index.keys, keys_of(names))
    np.testing.assert_array_equal(index.rows_of_keys(index.keys), np.arange(n))
