import numpy as np
import pytest

from model_core.training.stored_rows import StoredRows


def test_rows_in_a_file_read_as_those_of_an_array() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(20, 3, 5)).astype(np.float16)
    stored = StoredRows(20, (3, 5), np.float16)
    for at in (slice(0, 7), slice(7, 7), slice(7, 20)):
        stored[at] = array[at]
    for rows in (np.array([3, 19, 3, 0]), np.zeros(0, np.int64)):
        np.testing.assert_array_equal(stored[rows], array[rows])
        assert stored[rows].dtype == array.dtype
    assert len(stored) == 20


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one after another, got shape \(2, 4\)"):
        StoredRows(5, (3,), np.bool_)[0:2] = np.zeros((2, 4), np.bool_)
