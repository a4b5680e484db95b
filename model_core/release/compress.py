"""Smaller variants of a release: weights of 8 bits, or matrix products of 16."""

import json
import logging
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from model_core.release.folder import (
    HISTORY,
    ITEM_ENCODER,
    MANIFEST,
    RANKER,
    USER,
    Release,
    read_release,
    sign_manifest,
    whole_folder,
)

Precision = Literal["int8", "fp16"]

PRODUCTS = ("MatMul", "Gemm")


def compress_release(folder: Path, out: Path, precision: Precision) -> Release:
    """Write a variant of the release `folder` to the folder `out`, which appears complete or not at all.

    int8
        Weights of matrix products are stored as 8-bit integers, a scale a channel; inputs are quantised as
        they come (ONNX Runtime's dynamic quantisation). Only 7 bits are used: without VNNI, sums of products
        of all 8 saturate, which costs a tenth of a vector's length. Embedding tables stay as they are.
    fp16
        Matrix products run in half precision, between casts; all else stays in single: times in seconds and
        masked scores have no place in a half.

    The metrics are those of the release it was made from; measure it with ``slatestream evaluate``.

    Raises
    ------
    ValueError
        If the release cannot be read, is compressed already, or the precision is unknown.
    """
    if precision not in ("int8", "fp16"):
        raise ValueError(f"precision must be int8 or fp16, got {precision!r}")
    read_release(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if "precision" in manifest:
        raise ValueError(f"release {str(folder)!r} must be in full precision, is in {manifest['precision']}")
    if out.resolve() == folder.resolve():
        raise ValueError(f"out must be another folder than the release, got {str(out)!r}")
    with whole_folder(out) as partial:
        for name in manifest["files"]:
            if name in (ITEM_ENCODER, HISTORY, USER, RANKER):
                _convert(folder / name, partial / name, precision)
            else:
                shutil.copyfile(folder / name, partial / name)
        sign_manifest(partial, manifest | {"precision": precision})
    return read_release(out)


def _convert(source: Path, target: Path, precision: Precision) -> None:
    model = onnx.load(str(source))
    del model.graph.value_info[:]  # the exporter's notes on shapes, which fit no other weights
    if precision == "int8":
        logging.disable(logging.WARNING)  # it asks for a preparation that these graphs do not need
        try:
            quantize_dynamic(
                model,
                target,
                op_types_to_quantize=list(PRODUCTS),
                per_channel=True,
                weight_type=QuantType.QInt8,
                reduce_range=True,
            )
        finally:
            logging.disable(logging.NOTSET)
    else:
        _halve(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, str(target))


def _halve(graph: onnx.GraphProto) -> None:
    """Run each matrix product in half precision: weights stored so, other inputs cast, the output cast back.

    Done here because ONNX Runtime's own converter repeats names where one value feeds several products.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    halves: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in list(graph.node):
        if node.op_type not in PRODUCTS:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            if not name:
                continue
            if name not in halves:
                halves[name] = f"{name}_half"
                if name in stored:
                    values = numpy_helper.to_array(stored[name]).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(values, halves[name]))
                else:
                    nodes.append(helper.make_node("Cast", [name], [halves[name]], to=TensorProto.FLOAT16))
            node.input[place] = halves[name]
        (output,) = node.output
        node.output[0] = f"{output}_product"
        nodes += [node, helper.make_node("Cast", [node.output[0]], [output], to=TensorProto.FLOAT)]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
