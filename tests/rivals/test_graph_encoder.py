import logging
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from tests.benchmarks.rivals.graph_encoder import (
    RULES,
    GraphEncoder,
    JoinedGraph,
    Neighbours,
    sample_neighbours,
)

DIM = 16
N_USERS, N_ITEMS, N_NODES = 12, 10, 40  # nodes 35 and above occur in no edge
INPUTS = ("vectors", "sources", "relations", "weights")


def graph(seed: int = 0) -> JoinedGraph:
    rng = np.random.default_rng(seed)
    taste = np.unique(rng.integers((0, 0), (N_USERS - 1, N_ITEMS), (60, 2)), axis=0)  # the last user has none
    facts = np.unique(
        rng.integers((N_USERS, 0, N_USERS + N_ITEMS), (N_USERS + N_ITEMS, 3, 35), (70, 3)), axis=0
    )
    own = np.stack((rng.integers(0, N_USERS - 1, 15), np.full(15, 3), rng.integers(22, 35, 15)), axis=1)
    return JoinedGraph.join(
        taste[:, 0],
        taste[:, 1],
        np.concatenate((facts, np.unique(own, axis=0))),
        n_users=N_USERS,
        n_items=N_ITEMS,
        n_nodes=N_NODES,
    )


def encoder(rule: str) -> GraphEncoder:
    """Build one whose relations differ, as they do after training."""
    torch.manual_seed(1)
    built = GraphEncoder(DIM, graph().n_relations, layers=2, rule=rule)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith(("scales", "relations.weight")):
                parameter.add_(torch.randn_like(parameter))
    return built.eval()


def vectors(n: int = N_NODES) -> torch.Tensor:
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(2))


def triples(neighbours: Neighbours) -> list[tuple[int, int, int]]:
    target, column = np.nonzero(neighbours.weights)
    columns = (target, neighbours.relations[target, column], neighbours.sources[target, column])
    return sorted(zip(*(values.tolist() for values in columns), strict=True))


def test_every_interaction_and_fact_leads_both_ways() -> None:
    joined = JoinedGraph.join(
        np.array([1]), np.array([2]), np.array([[4, 0, 5], [0, 1, 5]]), n_users=2, n_items=3, n_nodes=6
    )
    edges = zip(joined.targets.tolist(), joined.relations.tolist(), joined.sources.tolist(), strict=True)
    assert sorted(edges) == [(0, 4, 5), (1, 0, 4), (4, 1, 1), (4, 2, 5), (5, 3, 4), (5, 5, 0)]
    assert joined.n_relations == 6


def test_a_fact_about_an_unknown_node_is_refused() -> None:
    with pytest.raises(ValueError, match=r"facts' nodes must be in \[0, 6\), got 4 to 6"):
        JoinedGraph.join(np.array([1]), np.array([2]), np.array([[4, 0, 6]]), n_users=2, n_items=3, n_nodes=6)


def test_no_more_neighbours_than_asked_for_by_each_relation_and_direction() -> None:
    joined = graph()
    drawn = triples(sample_neighbours(joined, 2, np.random.default_rng(0)))
    whole = list(
        zip(joined.targets.tolist(), joined.relations.tolist(), joined.sources.tolist(), strict=True)
    )
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(whole)
    _, sizes = np.unique([edge[:2] for edge in drawn], axis=0, return_counts=True)
    _, wanted = np.unique([edge[:2] for edge in whole], axis=0, return_counts=True)
    assert sizes.tolist() == np.minimum(wanted, 2).tolist()


def test_a_sample_depends_on_its_generator_alone() -> None:
    first, again, other = (
        triples(sample_neighbours(graph(), 2, np.random.default_rng(seed))) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_weights_are_those_of_degrees_in_the_sample() -> None:
    neighbours = sample_neighbours(graph(), 2, np.random.default_rng(0))
    known = neighbours.weights > 0
    degree = known.sum(1, keepdims=True)
    heard = np.bincount(neighbours.sources[known], minlength=N_NODES)[neighbours.sources]
    expected = np.where(known, 1 / np.sqrt(np.maximum(degree * heard, 1)), 0)
    np.testing.assert_allclose(neighbours.weights, expected, rtol=1e-6)


def test_at_least_one_neighbour_must_be_asked_for() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        sample_neighbours(graph(), 0, np.random.default_rng(0))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("k", [1, 3, 100])
def test_padded_and_sparse_form_agree_with_isolated_nodes_and_padding(rule: str, k: int) -> None:
    neighbours = sample_neighbours(graph(), k, np.random.default_rng(5))
    assert (neighbours.weights == 0).all(1).sum() >= 6, "no isolated node is tested"
    model = encoder(rule)
    with torch.no_grad():
        padded = model(vectors(), *neighbours.tensors())
        sparse = model.sparse(vectors(), neighbours.edges())
    assert padded.dtype == torch.float32
    torch.testing.assert_close(padded, sparse, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_a_relation_changes_what_a_neighbour_says(rule: str) -> None:
    neighbours = sample_neighbours(graph(), 3, np.random.default_rng(5))
    model = encoder(rule)
    sources, relations, weights = neighbours.tensors()
    with torch.no_grad():
        told = model(vectors(), sources, relations, weights)
        otherwise = model(vectors(), sources, (relations + 1) % graph().n_relations, weights)
    linked = torch.as_tensor((neighbours.weights > 0).any(1))
    assert ((told - otherwise).abs().amax(1) > 1e-3).equal(linked)


@pytest.mark.parametrize("rule", RULES)
def test_what_pads_a_row_changes_nothing(rule: str) -> None:
    neighbours = sample_neighbours(graph(), 3, np.random.default_rng(5))
    empty = neighbours.weights == 0
    other = Neighbours(
        np.where(empty, 7, neighbours.sources), np.where(empty, 2, neighbours.relations), neighbours.weights
    )
    model = encoder(rule)
    with torch.no_grad():
        assert model(vectors(), *neighbours.tensors()).equal(model(vectors(), *other.tensors()))


def onnx_run(session: onnxruntime.InferenceSession, inputs: tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
    feed = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
    output: NDArray[np.float32] = session.run(None, feed)[0]
    return output


@pytest.mark.parametrize("rule", RULES)
def test_the_onnx_graph_equals_the_padded_form_for_any_number_of_nodes(rule: str, tmp_path: Path) -> None:
    model = encoder(rule)
    inputs = (vectors(), *sample_neighbours(graph(), 3, np.random.default_rng(5)).tensors())
    nodes, width = torch.export.Dim("nodes", min=1), torch.export.Dim("width", min=1)
    shapes = ({0: nodes}, *({0: nodes, 1: width} for _ in INPUTS[1:]))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about dimensions that share a name, as they should
        program = torch.onnx.export(
            model, inputs, dynamo=True, verbose=False, input_names=list(INPUTS), dynamic_shapes=shapes
        )
    assert program is not None
    program.save(str(tmp_path / "graph.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    assert [value.shape[0] for value in session.get_inputs()] == ["nodes"] * 4
    for k, n in ((3, N_NODES), (1, N_NODES), (100, 55)):
        sources, relations, weights = sample_neighbours(graph(), k, np.random.default_rng(6)).tensors()
        more = [
            torch.cat((part, part.new_zeros(n - N_NODES, part.shape[1]))) for part in (sources, relations)
        ]
        inputs = (vectors(n), *more, torch.cat((weights, weights.new_zeros(n - N_NODES, weights.shape[1]))))
        with torch.no_grad():
            expected = model(*inputs).numpy()
        np.testing.assert_allclose(onnx_run(session, inputs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "mean"}, r"rule must be one of \['linear', 'attention'\], got 'mean'"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphEncoder(DIM, 4, **change)  # type: ignore[arg-type]
