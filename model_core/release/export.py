"""The graphs as ONNX files, checked against torch before anyone may serve them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.data.batches import POPULARITY, ScoreBatch, sparse_eligible, sparse_signals
from model_core.network.config import ModelConfig
from model_core.network.item_encoder import ItemEncoder
from model_core.network.ranker import Ranker
from model_core.network.stages import SHUT, served_stages
from model_core.release.exporter import IR_VERSION, OPSET, write_graph
from model_core.release.folder import (
    HISTORY,
    HISTORY_OUTPUTS,
    ITEM_ENCODER,
    MATCH,
    RANKER,
    RANKER_OUTPUTS,
    USER,
    USER_OUTPUTS,
)
from model_core.release.scorer import Graphs, open_session
from model_core.release.served import dense_inputs

TOLERANCE = 1e-4


def export_release(
    folder: Path, encoder: ItemEncoder, ranker: Ranker, *, largest_batch: int = 32, n_items: int = 1000
) -> dict[str, float]:
    """Write the graphs and `compare_graphs`.

    Returns
    -------
    differences
        Largest absolute difference of each graph from torch.

    Raises
    ------
    ValueError
        If a graph has a fixed batch or catalogue size, or is not what torch is.
    """
    torch.backends.mha.set_fastpath_enabled(False)
    encoder, ranker = encoder.cpu().eval(), ranker.cpu().eval()
    many = example_items(encoder, largest_batch)
    write_graph(folder / ITEM_ENCODER, encoder, many, {name: ("n",) for name in many}, ("vectors",))
    for name, stage, inputs, axes, outputs in _stages(ranker, encoder.entities.num_embeddings, largest_batch):
        write_graph(folder / name, stage, inputs, axes, outputs)
    _write_match(folder / MATCH, ranker.config.width)
    return compare_graphs(folder, encoder, ranker, largest_batch=largest_batch, n_items=n_items)


def compare_graphs(
    folder: Path, encoder: ItemEncoder, ranker: Ranker, *, largest_batch: int, n_items: int
) -> dict[str, float]:
    """Largest absolute difference of each graph from torch, at batch 1 and the largest.

    Raises
    ------
    ValueError
        If a graph differs by `TOLERANCE` or more, retrieves what torch would not, or ranks another set of ten
        first.
    """
    return {
        "item_encoder": max(_compare_items(folder, encoder, size) for size in (1, largest_batch)),
        "ranker": max(_compare_ranker(folder, ranker, encoder, size, n_items) for size in (1, largest_batch)),
    }


def _stages(ranker: Ranker, n_entities: int, b: int) -> list[tuple[Any, ...]]:
    """File, module, example inputs, their open axes and outputs of each graph that a request passes."""
    users = example_users(ranker, n_entities, b)
    history, user, candidate = (stage.eval() for stage in served_stages(ranker))
    asked = _history_inputs(users)
    age = users["history_age_s"]
    with torch.no_grad():
        states = history(**asked)
        asking = {
            "last": states[:, -1],
            "idle_s": age[:, -1],
            "told": users["mask"].any(1).float(),
            "user_entities": users["user_entities"],
            "user_entity_weights": users["user_entity_weights"],
        }
        read = dict(zip(USER_OUTPUTS, user(**asking), strict=True))
    candidates = example_candidates(ranker, states, read["user"])
    open_axes = {
        name: ("b", "t") if name in ("states", "shut") else ("b",) if name == "user" else ("b", "c")
        for name in candidates
    }
    return [
        (HISTORY, history, asked, dict.fromkeys(asked, ("b", "t")), HISTORY_OUTPUTS),
        (USER, user, asking, dict.fromkeys(asking, ("b",)), USER_OUTPUTS),
        (RANKER, candidate, candidates, open_axes, RANKER_OUTPUTS),
    ]


def _history_inputs(users: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of `HistoryStage` for some users: an example of the sizes, so nothing is moved to the left."""
    return {
        "tokens": users["tokens"],
        "actions": users["history_actions"],
        "gap_s": users["history_age_s"] * users["mask"],
    }


def _write_match(path: Path, dim: int) -> None:
    """Write the product of users and items, which ONNX Runtime makes on as many threads as it is told."""
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["match", "items"], ["product"], transB=1)],
        "match",
        [
            onnx.helper.make_tensor_value_info("match", floats, ["b", dim]),
            onnx.helper.make_tensor_value_info("items", floats, ["n", dim]),
        ],
        [onnx.helper.make_tensor_value_info("product", floats, ["b", "n"])],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION), str(path))


def example_items(encoder: ItemEncoder, n: int, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of the item encoder, with and without each part."""
    rng = torch.Generator().manual_seed(seed)
    config = encoder.config

    def rows(count: int, *shape: int) -> Tensor:
        return torch.randint(0, count, shape, generator=rng)

    inputs = {
        "id_rows": rows(encoder.items.num_embeddings, n),
        "text": torch.randn(n, config.text_dim, generator=rng) / config.text_dim**0.5,
        "text_mask": rows(2, n).bool(),
        "entities": rows(encoder.entities.num_embeddings, n, config.n_neighbours),
        "relations": rows(encoder.relations.num_embeddings, n, config.n_neighbours),
        "edge_mask": rows(2, n, config.n_neighbours).bool(),
    }
    for name, width in (("image", config.image_dim), ("audio", config.audio_dim)):
        if width:
            inputs[name] = torch.randn(n, width, generator=rng)
            inputs[f"{name}_mask"] = rows(2, n).bool()
    return inputs


def example_users(ranker: Ranker, n_entities: int, b: int, seed: int = 0) -> dict[str, Tensor]:
    """Random users, among them some without any history and some with a full one."""
    rng = torch.Generator().manual_seed(seed)
    config: ModelConfig = ranker.config
    shape = (b, config.history_length)
    length = torch.randint(0, config.history_length + 1, (b, 1), generator=rng)
    mask = torch.arange(config.history_length) >= config.history_length - length
    actions = torch.randint(0, len(ranker.action_own) + 1, shape, generator=rng)
    return {
        "tokens": torch.randn(*shape, config.width, generator=rng),
        "mask": mask,
        "history_actions": actions * mask,
        "history_age_s": torch.rand(shape, generator=rng).cumsum(1).flip(1) * 1e5,
        "user_entities": torch.randint(0, n_entities, (b, config.n_affinities), generator=rng),
        "user_entity_weights": torch.rand(b, config.n_affinities, generator=rng),
    }


def example_candidates(ranker: Ranker, states: Tensor, user: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Random candidates of users that `HistoryStage` and `UserStage` have read."""
    rng = torch.Generator().manual_seed(seed)
    config, b = ranker.config, len(user)
    padding = torch.rand(states.shape[:2], generator=rng) < 0.2
    return {
        "user": user,
        "states": states,
        "shut": padding * SHUT,
        "vectors": torch.randn(b, config.n_candidates, config.width, generator=rng),
        "retrieved": torch.randn(b, config.n_candidates, generator=rng),
        "head_gain": torch.rand(b, config.n_candidates, generator=rng),
        "signals": torch.rand(b, config.n_candidates, config.n_signals, generator=rng) * 3,
    }


def example_requests(ranker: Ranker, n_entities: int, b: int, n_items: int, seed: int = 0) -> ScoreBatch:
    """Random requests; of a tenth of all items a user may not be given one, and few have any signal."""
    users = example_users(ranker, n_entities, b, seed)
    rng = np.random.default_rng(seed)
    signals = rng.random((b, ranker.config.n_signals, n_items), np.float32) * 3
    signals *= rng.random(signals.shape) < 0.3
    signals[:, POPULARITY] = signals[0, POPULARITY]
    popularity, there, values = sparse_signals(signals)
    history = rng.integers(0, n_items, users["mask"].shape)
    return ScoreBatch(
        history=np.where(users["mask"].numpy(), history, -1),
        history_actions=users["history_actions"].numpy(),
        history_age_s=users["history_age_s"].numpy(),
        user_entities=users["user_entities"].numpy(),
        user_entity_weights=users["user_entity_weights"].numpy(),
        popularity=popularity,
        signals=there,
        signal_values=values,
        **sparse_eligible(rng.random((b, n_items)) < 0.9),
    )


def _compare_items(folder: Path, encoder: ItemEncoder, n: int) -> float:
    inputs = example_items(encoder, n, seed=1)
    with torch.inference_mode():
        wanted = encoder(**inputs).numpy()
    session = open_session(folder / ITEM_ENCODER, threads=1, exact=True)
    got = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return _check(ITEM_ENCODER, got, wanted)


def _compare_ranker(folder: Path, ranker: Ranker, encoder: ItemEncoder, b: int, n_items: int) -> float:
    """Serve random requests by the graphs, and by torch from dense arrays."""
    with torch.inference_mode():
        vectors = encoder(**example_items(encoder, n_items, seed=2))
        batch = example_requests(ranker, encoder.entities.num_embeddings, b, n_items, seed=3)
        graphs = Graphs(folder, n_candidates=ranker.config.n_candidates, threads=1, exact=True)
        scores = graphs.score(batch, vectors.numpy())
        got = [scores.rows, scores.valid, scores.scores, scores.logits, scores.features]
        dense = dense_inputs(batch)
        retrieval = _retrieval(ranker, vectors, dense)
        wanted = [value.numpy() for value in ranker(vectors, **dense)]
        # Items that tie at the edge of retrieval may be others: torch judges those that the graphs took.
        dense["eligible"] = torch.zeros_like(dense["eligible"])
        for request, (rows, valid) in enumerate(zip(scores.rows, scores.valid, strict=True)):
            dense["eligible"][request, rows[valid]] = True
        judged = [value.numpy() for value in ranker(vectors, **dense)]
    difference = 0.0
    for request in range(b):
        ours, theirs, of_ours = (
            [part[request][parts[1][request]] for part in parts] for parts in (got, wanted, judged)
        )
        worst, edge = (retrieval[request][rows].min(initial=np.inf) for rows in (ours[0], theirs[0]))
        if len(ours[0]) != len(theirs[0]) or worst < edge - TOLERANCE:
            raise ValueError(
                f"{RANKER} must retrieve torch's candidates, got one of {worst:.6f} < {edge:.6f}"
            )
        at, their_at = np.argsort(ours[0]), np.argsort(of_ours[0])
        for left, right in zip(ours[2:], of_ours[2:], strict=True):
            difference = max(difference, _check(RANKER, left[at], right[their_at]))
        told = (np.concatenate(pair) for pair in zip(theirs, of_ours, strict=True))
        rows, _, probability, *_ = told
        _check_top_ten(ours[0][:10], rows, probability)
    return difference


def _retrieval(ranker: Ranker, vectors: Tensor, dense: dict[str, Tensor]) -> NDArray[np.float32]:
    """Retrieval scores of all items for dense requests, by torch: (B, N)."""
    history = dense["history"]
    user, _, _, gains = ranker.read(
        vectors[history.clamp(min=0)],
        history >= 0,
        dense["history_actions"],
        dense["history_age_s"],
        dense["user_entities"],
        dense["user_entity_weights"],
    )
    scores: NDArray[np.float32] = ranker.retrieval(user, gains, vectors, dense["signals"]).numpy()
    return scores


def _check_top_ten(rows: NDArray[Any], wanted: NDArray[Any], probability: NDArray[Any]) -> None:
    """See that ten rows are the likeliest of those wanted: such as differ by rounding may change places."""
    scores = dict(zip(wanted.tolist(), probability.tolist(), strict=True))
    tenth = sorted(scores.values())[-10:][0]
    worst = min(scores.get(row, -1.0) for row in rows.tolist())
    if worst < tenth - TOLERANCE:
        raise ValueError(f"{RANKER} must rank torch's ten best first, got one of {worst:.6f} < {tenth:.6f}")


def _check(name: str, got: NDArray[Any], wanted: NDArray[Any]) -> float:
    difference = float(np.abs(got.astype(np.float64) - wanted).max(initial=0.0))
    if not difference < TOLERANCE:
        raise ValueError(f"{name} must agree with torch to {TOLERANCE}, got {difference:.2e}")
    return difference
