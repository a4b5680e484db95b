import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from model_core.evaluation.evaluate import lead, measure, recall_by_popularity
from model_core.training.checkpoint import Epoch
from model_core.training.plots import plot_calibration, plot_learning_curve, plot_recall_by_popularity


def test_recall_and_ndcg_are_those_computed_by_hand() -> None:
    relevant = np.zeros((2, 30), np.bool_)
    relevant[0, [3, 5, 7]] = True
    relevant[1, 0] = True
    top = np.stack((np.array([3, 9, 5, *range(20, 27)]), np.arange(10, 20)))
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert measure(top, relevant) == pytest.approx(
        {"recall@10": (2 / 3 + 0) / 2, "ndcg@10": (1 + 1 / np.log2(4)) / ideal / 2}
    )
    assert measure(top[:0], relevant[:0]) == {"recall@10": 0.0, "ndcg@10": 0.0}


def test_a_lead_is_certain_only_where_users_agree() -> None:
    relevant = np.eye(40, dtype=np.bool_)  # a user each, who likes one item
    hits, misses = np.arange(40)[:, None], (np.arange(40)[:, None] + 1) % 40
    half = np.where(np.arange(40)[:, None] < 20, hits, misses)
    other_half = np.where(half == hits, misses, hits)
    certain, other_way = lead(hits, half, relevant), lead(half, hits, relevant)
    even = lead(half, other_half, relevant)
    assert 0 < certain["lead_low"] < 0.5 < certain["lead_high"]
    assert other_way == pytest.approx({"lead_low": -certain["lead_high"], "lead_high": -certain["lead_low"]})
    assert even["lead_low"] < 0 < even["lead_high"]
    assert lead(hits[:1], half[:1], relevant[:1]) == {}


def test_recall_by_popularity_counts_each_item_in_its_bucket() -> None:
    counts = np.array([1, 1, 1, 1, 4], np.float32)  # two buckets of four likes each
    relevant = np.array([[True, True, False, False, True], [True, False, False, False, False]])
    top = np.array([[4, 0], [3, 4]])
    assert recall_by_popularity(top, relevant, counts, buckets=2) == [1 / 3, 1.0]


def size_of(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert zlib.crc32(data[12:29]) == struct.unpack(">I", data[29:33])[0]
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_pictures_are_drawn_whatever_there_is_to_show(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    p = rng.random(500).astype(np.float32)
    none = np.zeros(0, np.float32)
    path = tmp_path / "a.png"
    for draw in (
        lambda: plot_learning_curve(path, [Epoch(3.0, 2.0), Epoch(2.0, 1.0), Epoch(1.5, 1.2)]),
        lambda: plot_learning_curve(path, [Epoch(3.0, 0.0)]),
        lambda: plot_calibration(path, p, rng.random(500) < p),
        lambda: plot_calibration(path, none, none > 0),
        lambda: plot_calibration(path, np.full(40, 0.1, np.float32), np.zeros(40, np.bool_)),
        lambda: plot_recall_by_popularity(path, {"a": [0.1, 0.2, 0.3], "slatestream": [0.2, 0.2, 0.4]}),
    ):
        draw()
        assert size_of(path) == (768, 480)
        path.unlink()
