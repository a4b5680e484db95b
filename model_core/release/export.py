"""Both graphs as ONNX files, checked against torch before anyone may serve them."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.network.config import ModelConfig
from model_core.network.item_encoder import ItemEncoder
from model_core.network.ranker import Ranker
from model_core.release.folder import ITEM_ENCODER, RANKER
from model_core.release.scorer import open_session

OPSET = 18
TOLERANCE = 1e-4
RANKER_OUTPUTS = ("rows", "valid", "probability", "logits", "features")


def export_release(
    folder: Path, encoder: ItemEncoder, ranker: Ranker, *, largest_batch: int = 32, n_items: int = 1000
) -> dict[str, float]:
    """Write both graphs and compare them with torch at batch 1 and the largest.

    Returns
    -------
    differences
        Largest absolute difference of each graph from torch.

    Raises
    ------
    ValueError
        If a graph has a fixed batch or catalogue size, differs by `TOLERANCE` or more, or ranks another
        set of ten first.
    """
    torch.backends.mha.set_fastpath_enabled(False)
    encoder, ranker = encoder.cpu().eval(), ranker.cpu().eval()
    n_items = max(n_items, ranker.config.n_candidates)
    many = example_items(encoder, largest_batch)
    dims = {"n": torch.export.Dim("n", min=1)}
    _export(folder / ITEM_ENCODER, encoder, many, {name: {0: "n"} for name in many}, ("vectors",), dims)
    requests = example_requests(ranker, encoder.entities.num_embeddings, largest_batch, n_items)
    shapes: dict[str, dict[int, str]] = {name: {0: "b"} for name in requests}
    shapes |= {"items": {0: "n"}, "signals": {0: "b", 2: "n"}, "eligible": {0: "b", 1: "n"}}
    # Fewer items than are retrieved cannot be traced; the scorer pads its catalogue to as many.
    dims = {"b": torch.export.Dim("b", min=1), "n": torch.export.Dim("n", min=ranker.config.n_candidates)}
    _export(folder / RANKER, ranker, requests, shapes, RANKER_OUTPUTS, dims)
    return {
        "item_encoder": max(_compare_items(folder, encoder, size) for size in (1, largest_batch)),
        "ranker": max(_compare_ranker(folder, ranker, encoder, size, n_items) for size in (1, largest_batch)),
    }


def _export(
    path: Path,
    module: nn.Module,
    inputs: dict[str, Tensor],
    shapes: dict[str, dict[int, str]],
    outputs: Sequence[str],
    dims: dict[str, Any],
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it names each op library it lacks
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about dimensions that share a name, as they should
        program = torch.onnx.export(
            module,
            (),
            kwargs=inputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={
                name: {axis: dims[dim] for axis, dim in axes.items()} for name, axes in shapes.items()
            },
        )
    assert program is not None
    program.save(str(path), external_data=False)
    model = onnx.load(str(path))
    for value in model.graph.input:
        for axis in shapes[value.name]:
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise ValueError(f"{path.name} axis {axis} of {value.name!r} must be symbolic, is fixed")
    if model.opset_import[0].version != OPSET:
        raise ValueError(f"{path.name} must use opset {OPSET}, got {model.opset_import[0].version}")


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


def example_requests(
    ranker: Ranker, n_entities: int, b: int, n_items: int, seed: int = 0, vectors: Tensor | None = None
) -> dict[str, Tensor]:
    """Random requests, among them users without any history and users with a full one."""
    rng = torch.Generator().manual_seed(seed)
    config: ModelConfig = ranker.config
    length = torch.randint(0, config.history_length + 1, (b,), generator=rng)
    history = torch.randint(0, n_items, (b, config.history_length), generator=rng)
    padding = torch.arange(config.history_length).unsqueeze(0) < (config.history_length - length).unsqueeze(1)
    age = torch.rand(b, config.history_length, generator=rng).cumsum(1).flip(1) * 1e5
    n_actions = len(ranker.action_own)
    items = torch.randn(n_items, config.dim, generator=rng) if vectors is None else vectors
    return {
        "items": items,
        "history": history.masked_fill(padding, -1),
        "history_actions": torch.randint(0, n_actions + 1, history.shape, generator=rng) * ~padding,
        "history_age_s": age,
        "user_entities": torch.randint(0, n_entities, (b, config.n_affinities), generator=rng),
        "user_entity_weights": torch.rand(b, config.n_affinities, generator=rng),
        "signals": torch.rand(b, config.n_signals, n_items, generator=rng) * 3,
        "eligible": torch.rand(b, n_items, generator=rng) < 0.9,
    }


def _compare_items(folder: Path, encoder: ItemEncoder, n: int) -> float:
    inputs = example_items(encoder, n, seed=1)
    with torch.inference_mode():
        wanted = encoder(**inputs).numpy()
    session = open_session(folder / ITEM_ENCODER, threads=1, exact=True)
    got = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return _check(ITEM_ENCODER, got, wanted)


def _compare_ranker(folder: Path, ranker: Ranker, encoder: ItemEncoder, b: int, n_items: int) -> float:
    with torch.inference_mode():
        vectors = encoder(**example_items(encoder, n_items, seed=2))
        inputs = example_requests(ranker, encoder.entities.num_embeddings, b, n_items, 3, vectors)
        wanted = [value.numpy() for value in ranker(**inputs)]
    session = open_session(folder / RANKER, threads=1, exact=True)
    got = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    difference = 0.0
    for request in range(b):
        # Items that tie at the edge of retrieval may be taken in another order: compare by item.
        common, ours, theirs = np.intersect1d(got[0][request], wanted[0][request], return_indices=True)
        if len(common) < 0.99 * got[0].shape[1]:
            raise ValueError(f"{RANKER} must retrieve torch's candidates, got {len(common)} in common")
        for left, right in zip(got[2:], wanted[2:], strict=True):
            difference = max(difference, _check(RANKER, left[request, ours], right[request, theirs]))
        _check_top_ten([value[request] for value in got[:3]], [value[request] for value in wanted[:3]])
    return difference


def _check_top_ten(got: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> None:
    """Compare rows, valid, probability of a request: items that differ by rounding may change places."""
    scores = dict(zip(wanted[0].tolist(), np.where(wanted[1], wanted[2], -1.0).tolist(), strict=True))
    tenth = sorted(scores.values())[-10:][0]
    rows = got[0][np.argsort(-np.where(got[1], got[2], -1.0), kind="stable")[:10]].tolist()
    worst = min(scores.get(row, -1.0) for row in rows)
    if worst < tenth - TOLERANCE:
        raise ValueError(f"{RANKER} must rank torch's ten best first, got one of {worst:.6f} < {tenth:.6f}")


def _check(name: str, got: NDArray[Any], wanted: NDArray[Any]) -> float:
    difference = float(np.abs(got.astype(np.float64) - wanted).max(initial=0.0))
    if not difference < TOLERANCE:
        raise ValueError(f"{name} must agree with torch to {TOLERANCE}, got {difference:.2e}")
    return difference
