from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_core.data.datasets import Item
from model_core.data.vocabulary import Vocabulary
from model_core.graph.kge import KgeConfig, train_embeddings
from model_core.graph.knowledge_graph import (
    SIDES,
    KnowledgeGraph,
    Side,
    Split,
    frequency_scores,
    rank_triples,
    ranking_quality,
    split_triples,
)
from model_core.graph.node_embeddings import FAMILIES, NodeEmbeddings, fit_name_map, initial_weights
from model_core.network.config import ModelConfig
from model_core.network.item_encoder import ItemEncoder

N_ITEMS, N_GROUPS = 60, 6


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def items() -> list[Item]:
    """Items of a group share a maker, who works in one country with actors of the group."""
    rng = np.random.default_rng(0)
    made = []
    for item in range(N_ITEMS):
        group = item % N_GROUPS
        actors = [f"actor {group} {number}" for number in rng.choice(4, 3, replace=False)]
        attributes = {"maker": [f"maker {group}"], "country": [f"country {group // 2}"], "actor": actors}
        made.append(Item(str(item), f"Film {item}", attributes))
    return made


def graph() -> KnowledgeGraph:
    return KnowledgeGraph.of(items())


def config(model: str = "distmult", **changes: object) -> KgeConfig:
    base = KgeConfig(
        model=model, dim=16, epochs=40, batch_size=64, negatives=64, learning_rate=0.02, penalty=0.05
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def mrr(scores, split: Split) -> float:  # type: ignore[no-untyped-def]
    ranks = rank_triples(scores, split.test, graph().triples)
    return float(np.mean([ranking_quality(ranks[side])["mrr"] for side in SIDES]))


def test_items_and_entities_of_one_name_are_two_nodes() -> None:
    made = KnowledgeGraph.from_triples(
        [("1", "like", "a"), ("a", "in", "1"), ("1", "like", "a"), ("2", "in", "1")], ["1", "2", "3"]
    )
    assert (made.items, made.entities, made.relations) == (("1", "2"), ("a", "1"), ("like", "in"))
    assert made.triples.tolist() == [[0, 0, 2], [2, 1, 3], [1, 1, 3]]


def test_a_graph_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one triple, got none"):
        KnowledgeGraph.of([Item("1", "no edges")])
    with pytest.raises(ValueError, match="head must be an item or the tail of a triple, got 'x'"):
        KnowledgeGraph.from_triples([("1", "like", "a"), ("x", "like", "a")], ["1"])


def test_the_parts_are_disjoint_complete_and_leave_every_name_in_training() -> None:
    made = graph()
    split = split_triples(made, seed=3)
    together = np.concatenate((split.train, split.valid, split.test))
    assert sorted(map(tuple, together)) == sorted(map(tuple, made.triples))
    assert len(np.unique(split.train[:, [0, 2]])) == made.n_nodes
    assert len(np.unique(split.train[:, 1])) == len(made.relations)
    assert abs(len(split.test) - 0.1 * len(made.triples)) <= 1
    np.testing.assert_array_equal(split.test, split_triples(made, seed=3).test)
    assert not np.array_equal(split.test, split_triples(made, seed=4).test)


def test_two_relations_of_a_pair_are_never_parted() -> None:
    pairs = [(str(item), f"e{(item + step) % 5}") for item in range(50) for step in range(3)]
    triples = [(item, relation, entity) for item, entity in pairs for relation in ("a", "b")]
    made = KnowledgeGraph.from_triples(triples, map(str, range(50)))
    split = split_triples(made, test=0.3)
    assert len(split.test) >= 10
    trained = set(map(tuple, split.train[:, [0, 2]].tolist()))
    assert not trained.intersection(map(tuple, split.test[:, [0, 2]].tolist()))


def test_unseen_nodes_are_only_in_the_test() -> None:
    made = graph()
    unseen = np.array([1, 2, N_ITEMS + 3])
    split = split_triples(made, unseen=unseen)
    for part in (split.train, split.valid):
        assert not np.isin(part[:, [0, 2]], unseen).any()
    assert (np.isin(split.test[:, [0, 2]], unseen).sum(1) == 1).all()
    with pytest.raises(ValueError, match="must leave triples to train on"):
        split_triples(made, unseen=np.arange(made.n_nodes))
    with pytest.raises(ValueError, match=r"sum to less than 1, got 0\.5 and 0\.5"):
        split_triples(made, valid=0.5, test=0.5)


def test_ranks_are_filtered_and_ties_are_averaged() -> None:
    known = np.array([[0, 0, 3], [0, 0, 4], [1, 0, 4], [0, 1, 4]])

    def scores(given: Tensor, relations: Tensor, side: Side) -> Tensor:
        return torch.tensor([[0.0, 5.0, 1.0, 9.0, 1.0]]).expand(len(given), -1)

    ranks = rank_triples(scores, known[1:2], known)
    # Tail 4: node 3 is true, 1 is better, 2 is as good. Head 0: 1 is true; 3, 2 and 4 are better.
    assert ranks["tail"].tolist() == [2.5]
    assert ranks["head"].tolist() == [4.0]
    assert ranking_quality(np.array([1.0, 2.5])) == {"mrr": 0.7, "hits@1": 0.5, "hits@3": 1.0, "hits@10": 1.0}


def test_batches_do_not_change_ranks_and_match_the_definition() -> None:
    made = graph()
    table = torch.randn(made.n_nodes, made.n_nodes, generator=torch.Generator().manual_seed(0)).round()
    split = split_triples(made)
    truths = set(map(tuple, made.triples.tolist()))

    def scores(given: Tensor, relations: Tensor, side: Side) -> Tensor:
        return table[given] + relations[:, None] * table[(given + 1) % made.n_nodes]

    ranks = rank_triples(scores, split.test, made.triples, batch_size=7)
    assert not (table == -torch.inf).any()
    for (head, relation, tail), by_tail, by_head in zip(
        split.test.tolist(), ranks["tail"], ranks["head"], strict=True
    ):
        for side, given, own, rank in (("tail", head, tail, by_tail), ("head", tail, head, by_head)):
            row = scores(torch.tensor([given]), torch.tensor([relation]), side)[0].tolist()  # type: ignore[arg-type]
            others = [
                row[node]
                for node in range(made.n_nodes)
                if ((given, relation, node) if side == "tail" else (node, relation, given)) not in truths
            ]
            assert rank == 1 + sum(x > row[own] for x in others) + sum(x == row[own] for x in others) / 2


def test_a_constant_scorer_earns_nothing_and_nan_is_refused() -> None:
    made, split = graph(), split_triples(graph())
    assert mrr(lambda given, relations, side: torch.zeros(len(given), made.n_nodes), split) < 0.04
    with pytest.raises(ValueError, match="scores must not be NaN"):
        mrr(lambda given, relations, side: torch.full((len(given), made.n_nodes), torch.nan), split)
    with pytest.raises(ValueError, match="at least one triple to rank"):
        rank_triples(lambda given, relations, side: given, made.triples[:0], made.triples)


@pytest.mark.parametrize("model", FAMILIES)
def test_scores_of_all_nodes_are_pygs_scores_of_single_triples(model: str) -> None:
    family = FAMILIES[model]
    torch.manual_seed(0)
    peer = family.build(7, 3, 8)
    head, relation, tail = torch.randint(7, (5,)), torch.randint(3, (5,)), torch.randint(7, (5,))
    with torch.no_grad():
        scores = family.scores(*family.tables(peer))
        expected = peer(head, relation, tail)
        for side, given, own in (("tail", head, tail), ("head", tail, head)):
            found = scores(given, relation, side).gather(1, own[:, None])[:, 0]  # type: ignore[arg-type]
            torch.testing.assert_close(found, expected, atol=1e-3 if family.distance else 1e-6, rtol=1e-4)


@pytest.mark.parametrize("model", FAMILIES)
def test_every_model_beats_the_floor(model: str) -> None:
    made, split = graph(), split_triples(graph())
    told = []
    trained = train_embeddings(
        made, split, config(model), device="cpu", report=lambda stage, done: told.append((stage, done))
    )
    floor = mrr(frequency_scores(split.train, made.n_nodes, len(made.relations)), split)
    assert mrr(trained.embeddings.scores(), split) > 1.5 * floor
    assert told[0] == ("embed", 1 / 40)
    assert told[-1] == ("embed", 1.0)
    assert trained.embeddings.nodes.shape == (made.n_nodes, 16)
    assert trained.embeddings.edges.shape == (len(made.relations), 16)


def test_training_stops_early_and_keeps_the_best() -> None:
    made, split = graph(), split_triples(graph())
    trained = train_embeddings(made, split, config(epochs=500, every=1, patience=3), device="cpu")
    scores = [point.mrr for point in trained.curve]
    assert len(scores) < 500
    assert max(scores) == scores[-4]
    ranks = rank_triples(trained.embeddings.scores(), split.valid, made.triples)
    assert np.mean([1 / ranks[side] for side in SIDES]) == pytest.approx(max(scores))


def test_one_seed_gives_one_result_and_leaves_the_global_one_alone() -> None:
    made, split = graph(), split_triples(graph(), test=0.0)
    state = torch.random.get_rng_state()
    first, again, other = (
        train_embeddings(made, split, config(epochs=2, seed=seed), device="cpu").embeddings.nodes
        for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_validation_the_last_epoch_counts() -> None:
    made = graph()
    split = split_triples(made, valid=0.0, test=0.0)
    assert len(split.train) == len(made.triples)
    trained = train_embeddings(made, split, config(epochs=12), device="cpu")
    assert [point.epoch for point in trained.curve] == [5, 10, 12]
    assert np.isnan(trained.curve[-1].mrr)


def test_what_cannot_be_trained_says_why() -> None:
    made, split = graph(), split_triples(graph())
    with pytest.raises(ValueError, match="at least one triple to train on"):
        train_embeddings(made, replace(split, train=split.train[:0]), config())
    with pytest.raises(ValueError, match="loss must be finite, got (nan|inf)"):
        train_embeddings(made, split, config(learning_rate=1e30), device="cpu")
    with pytest.raises(ValueError, match="model must be one of .*, got 'transh'"):
        KgeConfig(model="transh")
    with pytest.raises(ValueError, match="dim must be even and at least 2, got 5"):
        KgeConfig(dim=5)


def test_a_node_without_training_has_the_mean_vector_of_its_kind() -> None:
    made = graph()
    split = split_triples(made, unseen=np.array([0, N_ITEMS]))
    nodes = train_embeddings(made, split, config(epochs=2), device="cpu").embeddings.nodes
    np.testing.assert_allclose(nodes[0], nodes[1:N_ITEMS].mean(0), atol=1e-6)
    np.testing.assert_allclose(nodes[N_ITEMS], nodes[N_ITEMS + 1 :].mean(0), atol=1e-6)


def embeddings() -> NodeEmbeddings:
    rng = np.random.default_rng(0)
    nodes, edges = rng.normal(2.0, 3.0, (5, 4)), rng.normal(size=(2, 4))
    return NodeEmbeddings(
        "complex", ("1", "é\0"), ("1", "a", "b"), ("r", "s"), np.float32(nodes), np.float32(edges)
    )


def test_embeddings_are_saved_whole_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    saved = embeddings()
    saved.save(tmp_path / "a.npz")
    loaded = NodeEmbeddings.load(tmp_path / "a.npz")
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (loaded.model, loaded.items, loaded.entities) == (saved.model, saved.items, saved.entities)
    np.testing.assert_array_equal(loaded.nodes, saved.nodes)


def test_what_is_no_embedding_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", names=np.frombuffer(b"[1, 2, 3, 4]", np.uint8))
    (tmp_path / "text.npz").write_bytes(b"no zip")
    for name in ("other.npz", "text.npz", "missing.npz"):
        with pytest.raises(ValueError, match="must hold node embeddings"):
            NodeEmbeddings.load(tmp_path / name)
    with pytest.raises(ValueError, match="nodes must be finite"):
        embeddings().with_nodes(np.array([1]), np.full((1, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"edges must have shape \(2, 4\), got \(2, 3\)"):
        replace(embeddings(), edges=np.zeros((2, 3), np.float32))


def encoder_of(vocabulary: Vocabulary, dim: int) -> ItemEncoder:
    torch.manual_seed(0)
    names = (vocabulary.item_rows, vocabulary.entity_rows, vocabulary.relation_rows)
    return ItemEncoder(ModelConfig(dim=dim, text_dim=3), *map(len, names))


def test_tables_start_from_embeddings_where_names_are_known() -> None:
    vocabulary = Vocabulary({"x": 1, "1": 2}, {"b": 1, "y": 2, "1": 3}, {"s": 1, "r": 2, "t": 3})
    encoder = encoder_of(vocabulary, 4)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    weights = initial_weights(embeddings(), vocabulary, encoder)
    vectors = embeddings().nodes[[4, 2]]  # entities b and 1
    centred = vectors - vectors.mean(0)
    np.testing.assert_allclose(
        weights["entities.weight"][[1, 3]], centred * (4**-0.5 / centred.std()), rtol=1e-5
    )
    for table, rows in (("items", [0, 1]), ("entities", [0, 2]), ("relations", [0, 3])):
        assert torch.equal(weights[f"{table}.weight"][rows], before[f"{table}.weight"][rows])
    assert weights["relations.weight"][[1, 2]].std(correction=0) == pytest.approx(0.5)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    encoder.load_state_dict(weights, strict=False)
    assert torch.equal(encoder.entities.weight, weights["entities.weight"])
    with pytest.raises(ValueError, match="must have the encoder's width 8, got 4"):
        initial_weights(embeddings(), vocabulary, encoder_of(vocabulary, 8))


def test_a_name_says_where_its_node_is() -> None:
    rng = np.random.default_rng(0)
    text, weights = rng.normal(size=(200, 12)), rng.normal(size=(12, 4))
    vectors = text @ weights + 3.0 + rng.normal(scale=0.5, size=(200, 4))
    fitted = fit_name_map(np.float32(text[:150]), np.float32(vectors[:150]))
    error = np.square(fitted.vectors(np.float32(text[150:])) - vectors[150:]).mean()
    assert error < 0.4 < 0.1 * np.square(vectors[:150].mean(0) - vectors[150:]).mean()
    with pytest.raises(ValueError, match="at least 2 names must have vectors, got 1 and 1"):
        fit_name_map(np.float32(text[:1]), np.float32(vectors[:1]))


def test_the_penalty_of_a_name_map_is_that_of_the_least_error_left_one_out() -> None:
    rng = np.random.default_rng(1)
    text = np.float32(rng.normal(size=(40, 30)))
    vectors = np.float32(text[:, :1] + rng.normal(size=(40, 2)))
    penalties = (0.01, 3.0, 30.0, 1e4)
    errors = []
    for penalty in penalties:
        left_out = []
        for row in range(40):
            rest = np.arange(40) != row
            one = fit_name_map(text[rest], vectors[rest], [penalty])
            left_out.append(np.square(one.vectors(text[row : row + 1]) - vectors[row]).sum())
        errors.append(sum(left_out))
    chosen = fit_name_map(text, vectors, penalties)
    best = fit_name_map(text, vectors, [penalties[int(np.argmin(errors))]])
    np.testing.assert_array_equal(chosen.weights, best.weights)
