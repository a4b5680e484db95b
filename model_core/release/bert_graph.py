"""A BERT encoder (Devlin et al. 2019) written as an ONNX graph from its weights, without torch."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from model_core.release.folder import TEXT_ENCODER, TOKENIZER
from model_core.release.text_encoder import FINGERPRINT_KEY, INPUTS, MAX_TOKENS, NAME_KEY, fingerprint_of

CONFIG, WEIGHTS, TOKENIZER_CONFIG = "config.json", "model.safetensors", "tokenizer_config.json"
OPSET = 18
NOT_WEIGHTS = ("embeddings.position_ids",)

Weights = Mapping[str, NDArray[np.float32]]


def is_bert(source: Path) -> bool:
    """Tell whether a folder in Hugging Face layout holds a BERT that `export_bert` can write."""
    if not all((source / name).is_file() for name in (CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG)):
        return False
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def export_bert(source: Path, out: Path, *, name: str, max_tokens: int = MAX_TOKENS) -> None:
    """Write the two files of an exported encoder into the folder `out`.

    Raises
    ------
    ValueError
        If the weights are not those of a BERT encoder.
    """
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    weights = {
        key: value.astype(np.float32)
        for key, value in load_file(source / WEIGHTS).items()
        if key not in NOT_WEIGHTS
    }
    graph = _Graph(weights, heads=config["num_attention_heads"], epsilon=config["layer_norm_eps"])
    try:
        model = graph.encoder(config["num_hidden_layers"])
    except KeyError as error:
        raise ValueError(f"{str(source / WEIGHTS)!r} must hold a BERT encoder, lacks {error}") from None
    describe(model, name=name, fingerprint=fingerprint_of(weights))
    onnx.save(model, str(out / TEXT_ENCODER))
    said = json.loads((source / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
    limit = min(max_tokens, int(config["max_position_embeddings"]))
    pad = said["pad_token"]
    save_tokenizer(
        Tokenizer.from_file(str(source / TOKENIZER)),
        out,
        pad=pad if isinstance(pad, str) else pad["content"],
        max_tokens=limit,
    )


def describe(model: onnx.ModelProto, *, name: str, fingerprint: str) -> None:
    """Write into a graph's metadata what it was exported from."""
    helper.set_model_props(model, {NAME_KEY: name, FINGERPRINT_KEY: fingerprint})


def save_tokenizer(tokenizer: Tokenizer, out: Path, *, pad: str, max_tokens: int) -> None:
    """Write `tokenizer.json`, which cuts texts after `max_tokens` and pads each batch to its longest."""
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    tokenizer.save(str(out / TOKENIZER))


class _Graph:
    """Collects nodes; each method adds one layer and returns the name of what comes out of it.

    Shapes: b texts, t tokens, d the width of a token, h heads.
    """

    def __init__(self, weights: Weights, *, heads: int, epsilon: float) -> None:
        self._weights, self._heads, self._epsilon = weights, heads, epsilon
        self._width = weights["embeddings.word_embeddings.weight"].shape[1]
        self._nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, onnx.TensorProto] = {}

    def encoder(self, layers: int) -> onnx.ModelProto:
        """Compose the graph of an encoder with as many layers."""
        state = self._embeddings()
        minus = self._add("Sub", self._constant("one", np.float32(1)), self._mask())  # (b, t), 1 = padding
        bias = self._add("Mul", minus, self._constant("lowest", np.finfo(np.float32).min))
        bias = self._add("Unsqueeze", bias, self._constant("heads_queries", np.array([1, 2])))  # (b, 1, 1, t)
        for layer in range(layers):
            at = f"encoder.layer.{layer}"
            mixed = self._dense(f"{at}.attention.output.dense", self._attention(at, state, bias))
            state = self._norm(f"{at}.attention.output.LayerNorm", self._add("Add", mixed, state))
            wide = self._gelu(self._dense(f"{at}.intermediate.dense", state))
            narrow = self._dense(f"{at}.output.dense", wide)
            state = self._norm(f"{at}.output.LayerNorm", self._add("Add", narrow, state))
        self._pool(state)
        graph = helper.make_graph(
            self._nodes,
            "bert",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in INPUTS],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["b", self._width])],
            list(self._stored.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 10
        onnx.checker.check_model(model)
        return model

    def _add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._stored:
            self._stored[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _weight(self, name: str, *, transposed: bool = False) -> str:
        value = self._weights[name]
        return self._constant(name, np.ascontiguousarray(value.T) if transposed else value)

    def _mask(self) -> str:
        return self._add("Cast", INPUTS[1], to=TensorProto.FLOAT)

    def _dense(self, name: str, state: str) -> str:
        product = self._add("MatMul", state, self._weight(f"{name}.weight", transposed=True))
        return self._add("Add", product, self._weight(f"{name}.bias"))

    def _norm(self, name: str, state: str) -> str:
        scale, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._add("LayerNormalization", state, scale, bias, epsilon=self._epsilon)

    def _gelu(self, state: str) -> str:
        """``x (1 + erf(x / sqrt 2)) / 2``; written as ONNX Runtime looks for it, to fuse it."""
        erf = self._add("Erf", self._add("Div", state, self._constant("root", np.float32(math.sqrt(2)))))
        grown = self._add("Mul", state, self._add("Add", erf, self._constant("one", np.float32(1))))
        return self._add("Mul", grown, self._constant("half", np.float32(0.5)))

    def _embeddings(self) -> str:
        words = self._add("Gather", self._weight("embeddings.word_embeddings.weight"), INPUTS[0])  # (b, t, d)
        length = self._add("Shape", INPUTS[0], start=1, end=2)
        places = self._weight("embeddings.position_embeddings.weight")
        zero = self._constant("zero", np.array([0]))
        places = self._add("Slice", places, zero, length, zero)  # (t, d)
        # Of the two kinds of text there is only the first.
        kind = self._constant("kind", self._weights["embeddings.token_type_embeddings.weight"][0])
        summed = self._add("Add", self._add("Add", words, kind), places)
        return self._norm("embeddings.LayerNorm", summed)

    def _attention(self, at: str, state: str, bias: str) -> str:
        shape = self._constant("to_heads", np.array([0, 0, self._heads, self._width // self._heads]))

        def heads(part: str, order: list[int]) -> str:
            split = self._add("Reshape", self._dense(f"{at}.attention.self.{part}", state), shape)
            return self._add("Transpose", split, perm=order)

        query, value = heads("query", [0, 2, 1, 3]), heads("value", [0, 2, 1, 3])  # (b, h, t, d / h)
        products = self._add("MatMul", query, heads("key", [0, 2, 3, 1]))  # (b, h, t, t)
        scale = self._constant("scale", np.float32(math.sqrt(self._width // self._heads)))
        biased = self._add("Add", self._add("Div", products, scale), bias)
        read = self._add("MatMul", self._add("Softmax", biased, axis=-1), value)
        joined = self._add("Transpose", read, perm=[0, 2, 1, 3])
        return self._add("Reshape", joined, self._constant("from_heads", np.array([0, 0, self._width])))

    def _pool(self, state: str) -> None:
        """Mean over a text's own tokens, to unit length."""
        mask = self._add("Unsqueeze", self._mask(), self._constant("last", np.array([2])))  # (b, t, 1)
        tokens = self._constant("tokens", np.array([1]))
        total = self._add("ReduceSum", self._add("Mul", state, mask), tokens, keepdims=0)  # (b, d)
        count = self._add("Max", self._add("ReduceSum", mask, tokens, keepdims=0), self._constant(
            "one", np.float32(1)
        ))  # fmt: skip
        mean = self._add("Div", total, count)
        length = self._add("ReduceL2", mean, self._constant("across", np.array([1])), keepdims=1)
        least = self._constant("least", np.float32(1e-12))
        self._add("Div", mean, self._add("Max", length, least), output="vectors")
