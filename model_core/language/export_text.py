"""Transformers as ONNX graphs, checked against torch: text encoders and click classifiers."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from model_core.language import onnx_clicks
from model_core.language.backbone import Backbone
from model_core.language.ctr_text import SEPARATOR, ClickClassifier
from model_core.release.bert_graph import describe, save_tokenizer
from model_core.release.folder import TEXT_ENCODER
from model_core.release.scorer import open_session
from model_core.release.text_encoder import INPUTS, PROBE, TextEncoder, fingerprint_of

OPSET = 18
TOLERANCE = 1e-4
EXAMPLES = (PROBE, "", "A short text", "Once upon a time there was a story. " * 9, "cut off at its end " * 99)


def export_encoder(name: str, out: Path, *, max_tokens: int | None = None) -> None:
    """Write the two files of an exported encoder, of any architecture, into the folder `out`.

    Raises
    ------
    ValueError
        If there is no such encoder, or its graph differs from torch by `TOLERANCE` or more.
    """
    backbone = Backbone(name, max_tokens=max_tokens).eval()
    path = out / TEXT_ENCODER
    _write(path, backbone, backbone.tokens(EXAMPLES), INPUTS, "vectors")
    model = onnx.load(str(path))
    width = model.graph.output[0].type.tensor_type.shape.dim[1]
    width.dim_value = backbone.dim
    describe(model, name=name, fingerprint=fingerprint_of(backbone.weights()))
    onnx.save(model, str(path))
    save_tokenizer(
        backbone.tokenizer.backend_tokenizer,
        out,
        pad=backbone.tokenizer.pad_token,
        max_tokens=backbone.max_tokens,
    )
    _check_encoder(TextEncoder(out), backbone)


def check_encoder(encoder: TextEncoder) -> float:
    """Compare an exported encoder with the transformer that it was exported from.

    Returns
    -------
    difference
        Largest absolute difference of a number of a vector.

    Raises
    ------
    ValueError
        If that is `TOLERANCE` or more, or the transformer is not there any more.
    """
    return _check_encoder(encoder, Backbone(encoder.name, max_tokens=None).eval())


def _check_encoder(encoder: TextEncoder, backbone: Backbone) -> float:
    with torch.inference_mode():
        wanted = backbone.encode(EXAMPLES).numpy()
    return _check(TEXT_ENCODER, float(np.abs(encoder.encode(EXAMPLES) - wanted).max()))


class _Probability(nn.Module):
    """The graph's outside: plain names in, a probability out."""

    def __init__(self, classifier: ClickClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor, item_mask: Tensor) -> Tensor:
        return torch.sigmoid(self.classifier(input_ids, attention_mask, item_mask))


def export_classifier(
    folder: Path, classifier: ClickClassifier, histories: Sequence[str], items: Sequence[str]
) -> float:
    """Complete the folder of a saved classifier into one that `OnnxClicks` reads, and compare it with torch.

    Parameters
    ----------
    histories, items
        Example pairs; compared one by one and all together, so that padding and size are told apart.

    Returns
    -------
    difference
        Largest absolute difference of a probability.

    Raises
    ------
    ValueError
        If the graph differs by `TOLERANCE` or more at any of the sizes; the file is removed.
    """
    module = _Probability(classifier).cpu().eval()
    many = classifier.tokens(list(histories), list(items))
    path = folder / onnx_clicks.GRAPH
    _write(path, module, many, onnx_clicks.INPUTS, "probability")
    session = open_session(path, threads=1, exact=True)
    alone = [classifier.tokens([h], [i]) for h, i in zip(histories, items, strict=True)]
    worst = 0.0
    for inputs in (many, *alone):
        with torch.inference_mode():
            wanted = module(**inputs).numpy()
        got = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
        worst = max(worst, float(np.abs(got.astype(np.float64) - wanted).max()))
    try:
        _check(onnx_clicks.GRAPH, worst)
    except ValueError:
        path.unlink()
        raise
    backbone = classifier.backbone
    save_tokenizer(
        backbone.tokenizer.backend_tokenizer,
        folder,
        pad=backbone.tokenizer.pad_token,
        max_tokens=backbone.max_tokens,
    )
    settings = {"separator": SEPARATOR}
    (folder / onnx_clicks.SETTINGS).write_text(json.dumps(settings) + "\n", encoding="utf-8")
    return worst


def _write(
    path: Path, module: nn.Module, inputs: Mapping[str, Tensor], names: Sequence[str], output: str
) -> None:
    # Tracing suits a transformer, which has no branches, and takes a hundredth of torch.export's time; what
    # it may freeze by mistake, such as a length, shows in the comparison at several sizes.
    with torch.no_grad(), warnings.catch_warnings(), _no_fast_path():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs[name] for name in names),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=list(names),
            output_names=[output],
            dynamic_axes={name: {0: "b", 1: "t"} for name in names} | {output: {0: "b"}},
        )


def _check(name: str, difference: float) -> float:
    if not difference < TOLERANCE:
        raise ValueError(f"{name} must agree with torch to {TOLERANCE}, got {difference:.2e}")
    return difference


class _no_fast_path:  # noqa: N801
    """Torch's fused attention has no ONNX form; what the caller had set comes back."""

    def __enter__(self) -> None:
        self._was = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch.backends.mha.set_fastpath_enabled(self._was)
