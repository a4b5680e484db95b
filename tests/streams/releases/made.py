"""Releases with real graphs: the one that tests train, and others made of it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from model_core.network.config import TrainConfig
from model_core.release.folder import ITEM_ENCODER, MANIFEST, RANKER, USER, sign_manifest
from model_core.training.train import train_release
from tests.model_core.tiny import CONFIG, WEIGHTS, corpus, dataset

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
