"""Releases with real graphs: the one that tests train, and others made of it."""

import json
import resource
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from model_core.network.config import TrainConfig
from model_core.release.folder import EASE, ITEM_ENCODER, MANIFEST, RANKER, USER, sign_manifest
from model_core.signals.ease import Ease
from model_core.training.train import train_release
from tests.model_core.tiny import CONFIG, WEIGHTS, corpus, dataset

MATCHED = "match"  # what an item is to be like, of the outputs of the user's graph
NO_TEXTS = {"name": "none", "fingerprint": ""}


def train_tiny(out: Path) -> None:
    """Train the release that all tests share."""
    train_release(corpus(dataset()), WEIGHTS, out, config=CONFIG, train=TrainConfig(epochs=2, threads=1))


def variant(
    base: Path, folder: Path, *, gain: float = 1.0, files: Mapping[str, bytes] | None = None, **said: Any
) -> Path:
    """Write a release whose weights are multiplied by `gain`, and whose manifest says other things.

    Parameters
    ----------
    files : other contents of some files
    """
    shutil.copytree(base, folder)
    for name in (ITEM_ENCODER, USER, RANKER) if gain != 1.0 else ():
        graph = onnx.load(folder / name)
        for weights in graph.graph.initializer:
            if weights.data_type == onnx.TensorProto.FLOAT:
                values = numpy_helper.to_array(weights)
                weights.CopyFrom(numpy_helper.from_array(values * values.dtype.type(gain), weights.name))
        onnx.save(graph, folder / name)
    for name, contents in (files or {}).items():
        (folder / name).write_bytes(contents)
    manifest = json.loads((folder / MANIFEST).read_text())
    sign_manifest(folder, {**manifest, "text_encoder": NO_TEXTS, **said})
    return folder


def pushing(base: Path, folder: Path) -> Path:
    """Write a release like `base` that wants the same few items for everybody."""
    model = onnx.load(base / USER)
    (dim,) = (
        one.type.tensor_type.shape.dim[1].dim_value for one in model.graph.output if one.name == MATCHED
    )
    wanted = 1e3 * np.random.default_rng(0).normal(size=dim).astype(np.float32)
    _replaced(model.graph, MATCHED, {"nil": np.zeros((), np.float32), "wanted": wanted})
    model.graph.node.extend(
        [
            onnx.helper.make_node("Mul", [f"{MATCHED}_before", "nil"], ["nothing"]),
            onnx.helper.make_node("Add", ["nothing", "wanted"], [MATCHED]),
        ]
    )
    return variant(base, folder, files={USER: model.SerializeToString()})


@contextmanager
def no_large_files(nbytes: int) -> Iterator[None]:
    """Let this process write files of so many bytes at most, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _replaced(graph: Any, output: str, constants: Mapping[str, Any]) -> None:
    """Call an output of a graph `<output>_before`, and give the graph some constants."""
    graph.initializer.extend([numpy_helper.from_array(value, name) for name, value in constants.items()])
    for one in graph.node:
        one.output[:] = [f"{name}_before" if name == output else name for name in one.output]
        one.input[:] = [f"{name}_before" if name == output else name for name in one.input]


def forgetful(base: Path, folder: Path) -> Path:
    """Write a release like `base` whose statistics and networks know next to nothing."""
    n = Ease.load(base / EASE).n_items
    Ease(np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)).save(
        folder.with_suffix(".npz")
    )
    return variant(base, folder, gain=0.01, files={EASE: folder.with_suffix(".npz").read_bytes()})


def slow(base: Path, folder: Path, *, width: int = 700, times: int = 8) -> Path:
    """Write a release that ranks as `base` does, after multiplying matrices for nothing."""
    model = onnx.load(base / RANKER)
    graph, made = model.graph, []

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        made.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    square = np.random.default_rng(0).random((width, width), np.float32) / width
    zero = np.zeros((), np.float32)
    output = graph.output[0].name
    _replaced(graph, output, {"w": square, "nil": zero})
    mean = node("ReduceMean", [graph.input[0].name], "w_mean", keepdims=0)
    product = node("Mul", ["w", mean], "w0")
    for at in range(times):
        product = node("MatMul", [product, "w"], f"w{at + 1}")
    nothing = node("Mul", [node("ReduceMean", [product], "w_sum", keepdims=0), "nil"], "w_nothing")
    node("Add", [f"{output}_before", nothing], output)
    graph.node.extend(made)
    return variant(base, folder, files={RANKER: model.SerializeToString()})
