from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.benchmarks.rivals.pairwise import PairwiseConfig, fit_pairwise

N_USERS, N_ITEMS, HALF = 40, 30, 15


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def taste() -> tuple[np.ndarray, np.ndarray]:
    """Half of the users like some of the first half of the items, the others of the second: two parts."""
    rng = np.random.default_rng(0)
    own = (np.arange(N_USERS)[:, None] % 2) == (np.arange(N_ITEMS) >= HALF)
    part = rng.random(own.shape)
    return own & (part < 0.5), own & (part >= 0.5) & (part < 0.75)


@pytest.mark.parametrize("layers", [0, 2])
def test_items_of_a_users_own_kind_come_before_others(layers: int) -> None:
    train, validation = taste()
    scores = fit_pairwise(train, validation, PairwiseConfig(layers=layers, dim=8, epochs=60, k=10))
    own = (np.arange(N_USERS)[:, None] % 2) == (np.arange(N_ITEMS) >= HALF)
    unmet = own & ~train
    better = [scores[user, unmet[user]].mean() > scores[user, ~own[user]].max() for user in range(N_USERS)]
    assert np.mean(better) > 0.9


def test_refuses_an_empty_part() -> None:
    train, _ = taste()
    with pytest.raises(ValueError, match="validation must hold at least one interaction, got none"):
        fit_pairwise(train, np.zeros_like(train), PairwiseConfig())
