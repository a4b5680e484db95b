from pathlib import Path

import numpy as np
import pytest

from model_core.data import datasets
from model_core.data.datasets import load_recbole

ROWS = [f"u{row % 4}\ti{row % 3}\t{row % 5}\t{1000 - row}" for row in range(10)]


def write(folder: Path, rows: list[str], end: str = "\n") -> Path:
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows, ""]
    (folder / "log.inter").write_bytes(end.join(lines).encode())
    return folder


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_read_in_parts_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    whole = load_recbole(write(tmp_path, ROWS, end)).interactions
    assert whole.timestamps_ms.tolist() == [1000 * second for second in range(991, 1001)]
    assert whole.positions is None
    monkeypatch.setattr(datasets, "LINES", 3)
    parts = load_recbole(tmp_path).interactions
    for name in ("user_ids", "item_ids", "ratings", "timestamps_ms"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        assert getattr(parts, name).dtype == getattr(whole, name).dtype


def test_a_line_with_other_fields_is_named_in_whatever_part_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "LINES", 3)
    with pytest.raises(ValueError, match=r"log\.inter line 12 must have 4 fields, got 2"):
        load_recbole(write(tmp_path, [*ROWS, "u1\ti1"]))
