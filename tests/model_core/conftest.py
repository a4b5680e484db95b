"""A tiny release, trained once a run."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_core.data.batches import ItemBatch
from model_core.release.scorer import Scorer
from tests.model_core.tiny import N_ITEMS, Texts
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once_a_run(tmp_path_factory, "tiny-release", train_tiny)


@pytest.fixture(scope="session")
def scorer(folder: Path) -> Scorer:
    return Scorer(folder)


@pytest.fixture(scope="session")
def vectors(scorer: Scorer) -> NDArray[np.float32]:
    release = scorer.release
    n, k = N_ITEMS, release.n_neighbours
    return scorer.encode_items(
        ItemBatch(
            text=Texts().encode([f"Item {i}" for i in range(n)]),
            text_mask=np.ones(n, np.bool_),
            image=np.zeros((n, 0), np.float32),
            image_mask=np.zeros(n, np.bool_),
            audio=np.zeros((n, 0), np.float32),
            audio_mask=np.zeros(n, np.bool_),
            entities=np.zeros((n, k), np.int64),
            relations=np.zeros((n, k), np.int64),
            edge_mask=np.zeros((n, k), np.bool_),
            id_rows=np.array([release.item_rows.get(f"i{i}", 0) for i in range(n)], np.int64),
        )
    )
