"""A small transformer, and a log whose clicks follow from the titles."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from model_core.language.text_pairs import TextLog
from tests.tiny_encoder import KINDS, write_tiny_encoder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_encoder(folder)
    return str(folder)


@pytest.fixture(scope="session")
def log() -> TextLog:
    """60 items of three kinds; each of 60 users clicks items of one kind, one time in ten of any."""
    rng = np.random.default_rng(0)
    titles = [f"{KINDS[item % 3]} part {item}" for item in range(60)]
    users = rng.integers(60, size=1200)
    own = rng.integers(20, size=1200) * 3 + users % 3
    items = np.where(rng.random(1200) < 0.9, own, rng.integers(60, size=1200))
    clicked = np.ones(1200, np.bool_)
    return TextLog(titles, titles, users.astype(np.int32), items.astype(np.int32), clicked, False)
