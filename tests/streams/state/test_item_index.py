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


def test_a_forgotten_item_is_unknown_and_its_row_still_says_which_it_was():
    index = ItemIndex()
    rows = index.rows_of([f"i{k}" for k in range(100)])
    index.forget(rows[20:40])

    assert index.row_of("i20") == -1
    assert index.find_keys(keys_of(["i20", "i40"])).tolist() == [-1, 40]
    assert (index.ids[20], index.keys[20]) == ("i20", key_of("i20"))
    assert (index.n_items, len(index)) == (80, 100)
    assert index.rows_of(["i20", "i41"]).tolist() == [100, 41]  # no row is given before it is released


def test_released_rows_are_given_to_items_whose_keys_have_the_same_low_bits():
    index = ItemIndex()
    names = [f"i{k}" for k in range(20_000)]
    rows = index.rows_of(names)
    low = index.keys % 256
    index.forget(rows[5_000:15_000])
    index.release(rows[5_000:15_000])
    later = [f"later-{k}" for k in range(9_000)]
    given = index.rows_of(later)

    reused = given < 20_000
    assert reused.sum() > 8_000
    assert np.unique(given).size == 9_000
    np.testing.assert_array_equal(index.keys[given[reused]] % 256, low[given[reused]])
    np.testing.assert_array_equal(index.find_keys(keys_of(later)), given)
    kept = [*range(5_000), *range(15_000, 20_000)]
    np.testing.assert_array_equal(index.find_keys(keys_of([names[k] for k in kept])), kept)
    assert index.n_items == 19_000


def test_items_come_and_go_in_the_same_memory():
    index = ItemIndex()
    for round_ in range(60):
        rows = index.rows_of([f"{round_}-{k}" for k in range(3_000)])
        index.forget(rows)
        index.release(rows)
    assert index.n_items == 0
    assert len(index) < 6_000  # of 180,000
    assert index.nbytes < 1_000_000


def test_items_that_nobody_has_described_have_no_more_rows_than_allowed():
    index = ItemIndex()
    index.max_undescribed = 3
    index.rows_of_keys(keys_of(["a"]))

    assert index.admit(["a", "b", "c", "d", "b"]).tolist() == [0, 1, 2, -1, 1]
    assert index.n_undescribed == 3
    index.n_described = 1
    assert index.admit(["e", "f", "d"]).tolist() == [3, -1, -1]
    assert index.rows_of(["g"]).tolist() == [4]  # what is described has a row in any case
    data = np.frombuffer(b"bhe", np.uint8)
    spans = np.array([[0, 1], [1, 1], [2, 1]], np.int64)
    assert index.rows_of_bytes(data, spans, keys_of(["b", "h", "e"])).tolist() == [1, -1, 3]
