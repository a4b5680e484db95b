import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.benchmarks.rivals.graph_encoder import RULES, JoinedGraph
from tests.benchmarks.rivals.graph_recommender import (
    GraphConfig,
    train_graph,
    validation_ndcg,
    without_facts,
)

N_USERS, N_ITEMS, N_GROUPS = 60, 60, 4
BRISK = {"dim": 16, "epochs": 40, "negatives": 40, "facts": 60, "knowledge": 0.5, "learning_rate": 0.05}
Bools = NDArray[np.bool_]


def world() -> tuple[JoinedGraph, Bools, Bools, Bools]:
    """Users like items of one group, and facts name an item's group; nobody has met one of the last third.

    Returns the graph, and what of their group users met, validate on, and would like of the unmet items.
    """
    rng = np.random.default_rng(0)
    taste, group = np.arange(N_USERS) % N_GROUPS, np.arange(N_ITEMS) % N_GROUPS
    liked = taste[:, None] == group
    unmet = np.arange(N_ITEMS) >= 40
    drawn = rng.random((N_USERS, N_ITEMS))
    train = liked & ~unmet & (drawn < 0.5)
    validation = liked & ~unmet & (drawn >= 0.5)
    facts = np.stack(
        (N_USERS + np.arange(N_ITEMS), np.zeros(N_ITEMS, np.int64), N_USERS + N_ITEMS + group), 1
    )
    users, items = np.nonzero(train)
    sizes = {"n_users": N_USERS, "n_items": N_ITEMS, "n_nodes": N_USERS + N_ITEMS + N_GROUPS}
    return JoinedGraph.join(users, items, facts, **sizes), train, validation, liked & unmet


@pytest.mark.parametrize("rule", RULES)
def test_facts_place_items_that_nobody_has_met(rule: str) -> None:
    graph, train, validation, unmet = world()
    met = np.ones_like(train)
    met[:, 40:] = False
    ndcg = {}
    for name, side in (("facts", graph), ("none", without_facts(graph))):
        trained = train_graph(side, train, validation, GraphConfig(rule=rule, **BRISK), device="cpu")
        ndcg[name] = validation_ndcg(torch.as_tensor(trained.scores()), met, unmet)
    assert ndcg["facts"] > 0.9
    assert ndcg["none"] < 0.7


def test_the_step_of_the_best_validation_is_kept() -> None:
    graph, train, validation, _ = world()
    trained = train_graph(graph, train, validation, GraphConfig(every=2, **BRISK), device="cpu")
    best = max(ndcg for _, ndcg in trained.curve)
    assert validation_ndcg(torch.as_tensor(trained.scores()), train, validation) == pytest.approx(best)
    assert best > trained.curve[0][1]


def test_training_ends_when_validation_no_longer_gains() -> None:
    graph, train, validation, _ = world()
    config = GraphConfig(every=1, patience=2, learning_rate=1e-9, dim=8)
    assert len(train_graph(graph, train, validation, config, device="cpu").curve) <= 10


def test_a_seed_decides_the_vectors_and_leaves_the_global_generator_alone() -> None:
    graph, train, validation, _ = world()
    before = torch.get_rng_state()
    first, again, other = (
        train_graph(graph, train, validation, GraphConfig(dim=8, epochs=3, seed=seed), device="cpu")
        for seed in (1, 1, 2)
    )
    assert torch.get_rng_state().equal(before)
    np.testing.assert_array_equal(first.items, again.items)
    assert np.abs(first.items - other.items).max() > 1e-3


def test_the_loss_of_facts_changes_the_vectors_of_entities_and_so_of_items() -> None:
    graph, train, validation, _ = world()
    with_it, without = (
        train_graph(
            graph, train, validation, GraphConfig(dim=8, epochs=5, knowledge=weight), device="cpu"
        ).items
        for weight in (1.0, 0.0)
    )
    assert np.abs(with_it - without).max() > 1e-3


def test_vectors_have_unit_length_and_progress_is_told() -> None:
    graph, train, validation, _ = world()
    told: list[float] = []
    trained = train_graph(
        graph,
        train,
        validation,
        GraphConfig(dim=8, epochs=3),
        device="cpu",
        report=lambda stage, done: told.append(done),
    )
    for vectors in (trained.users, trained.items):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_the_graph_without_facts_holds_users_and_items_alone() -> None:
    graph, train, _, _ = world()
    bare = without_facts(graph)
    assert bare.n_nodes == N_USERS + N_ITEMS
    assert len(bare.targets) == 2 * train.sum()
    assert max(bare.targets.max(), bare.sources.max()) < bare.n_nodes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "mean"}, r"rule must be one of \['linear', 'attention'\], got 'mean'"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"knowledge": -1.0}, "knowledge must be at least 0, got -1.0"),
    ],
)
def test_a_setting_out_of_range_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphConfig(**change)  # type: ignore[arg-type]


def test_parts_of_another_shape_or_without_an_interaction_are_refused() -> None:
    graph, train, validation, _ = world()
    with pytest.raises(ValueError, match=r"validation must have shape \(60, 60\), got \(60, 59\)"):
        train_graph(graph, train, validation[:, 1:], device="cpu")
    with pytest.raises(ValueError, match="train must hold at least one interaction, got none"):
        train_graph(graph, np.zeros_like(train), validation, device="cpu")
