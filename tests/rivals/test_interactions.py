import numpy as np
import pytest
import torch
from torch_geometric.nn import LGConv

from tests.benchmarks.rivals.interactions import (
    Interactions,
    choose_targets,
    interaction_graph,
    neighbour_graph,
)

N_USERS, N_ITEMS = 60, 40


def pairs(users: object, items: object) -> Interactions:
    return Interactions(np.asarray(users, np.int64), np.asarray(items, np.int64), N_USERS, N_ITEMS)


def test_without_discount_the_graph_is_that_of_lightgcn() -> None:
    rng = np.random.default_rng(0)
    train = pairs(*np.nonzero(rng.random((N_USERS, N_ITEMS)) < 0.1))
    items = train.items + N_USERS
    edges = torch.from_numpy(np.stack((np.r_[train.users, items], np.r_[items, train.users])))
    x = torch.randn(N_USERS + N_ITEMS, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(interaction_graph(train, 0.0) @ x, LGConv()(x, edges))


def test_the_discount_divides_what_busy_users_tell_items_and_nothing_else() -> None:
    busy = pairs([0, 0, 0, 0, 1], [0, 1, 2, 3, 0])
    plain, discounted = (interaction_graph(busy, power).to_dense() for power in (0.0, 0.5))
    ratio = (discounted / plain)[plain > 0].unique()
    assert ratio.tolist() == [0.5, 1.0]
    torch.testing.assert_close(discounted[N_USERS:, 0], plain[N_USERS:, 0] / 2)
    torch.testing.assert_close(discounted[:N_USERS], plain[:N_USERS])


def test_neighbours_are_the_nearest_by_cosine_and_never_the_item_itself() -> None:
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    features[7] = np.nan
    got = neighbour_graph(features, 4, block=8).to_dense().numpy()
    known = np.flatnonzero(np.arange(30) != 7)
    unit = features[known] - features[known].mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    like = unit @ unit.T
    np.fill_diagonal(like, -1)
    expected = np.zeros((30, 30), np.float32)
    for row, nearest in zip(known, np.argsort(-like, axis=1)[:, :4], strict=True):
        expected[row, known[nearest]] = 0.25
    np.testing.assert_array_equal(got, expected)


def test_neighbours_refuses_more_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"k must be in \[1, 4\], the other items with features, got 5"):
        neighbour_graph(np.eye(5, dtype=np.float32), 5)


def test_targets_are_at_most_half_of_a_users_items_and_drawn_anew() -> None:
    sizes = np.array([1, 2, 3, 5, 20])
    data = pairs(np.repeat(np.arange(5), sizes), np.concatenate([np.arange(size) for size in sizes]))
    rng = np.random.default_rng(0)
    drawn = [choose_targets(data, 3, rng) for _ in range(200)]
    for target in drawn:
        assert np.bincount(data.users[target], minlength=5)[:5].tolist() == [0, 1, 1, 2, 3]
    np.testing.assert_allclose(np.mean(drawn, axis=0)[-20:], 3 / 20, atol=0.1)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 1], [0], r"users and items must be of one length, got \(2,\), \(1,\)"),
        ([0, 60], [0, 1], r"users must be in \[0, 60\), got 0 .. 60"),
        ([0, 1], [-1, 1], r"items must be in \[0, 40\), got -1 .. 1"),
    ],
)
def test_rows_outside_the_matrix_are_refused(users: list[int], items: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairs(users, items)
