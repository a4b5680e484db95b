"""The click classifier as one ONNX graph, checked against torch, and its reader."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoTokenizer

from model_core.language.ctr_text import SEPARATOR, ClickClassifier, pair_tokens
from model_core.release.scorer import open_session

GRAPH, SETTINGS = "classifier.onnx", "classifier.json"
INPUTS = ("input_ids", "attention_mask", "item_mask")
OPSET = 18
TOLERANCE = 1e-4


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
    """Write `classifier.onnx` into the folder of a saved classifier and compare it with torch.

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
    path = folder / GRAPH
    with _no_fast_path():
        _write(path, module, many)
        session = open_session(path, threads=1, exact=True)
        alone = [classifier.tokens([h], [i]) for h, i in zip(histories, items, strict=True)]
        differences = [_difference(module, session, inputs) for inputs in (many, *alone)]
    worst = max(differences)
    if not worst < TOLERANCE:
        path.unlink()
        raise ValueError(f"{GRAPH} must agree with torch to {TOLERANCE}, got {worst:.2e}")
    settings = {"max_tokens": classifier.backbone.max_tokens, "separator": SEPARATOR}
    (folder / SETTINGS).write_text(json.dumps(settings) + "\n", encoding="utf-8")
    return worst


class OnnxClicks:
    """Reads an exported classifier: texts in, probabilities of a click out.

    Raises
    ------
    ValueError
        If the folder holds no exported classifier.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        if not (folder / GRAPH).is_file() or not (folder / SETTINGS).is_file():
            raise ValueError(f"classifier must be a folder with {GRAPH} and {SETTINGS}, got {str(folder)!r}")
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        self._max_tokens, self._separator = int(settings["max_tokens"]), str(settings["separator"])
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._session = open_session(folder / GRAPH, threads=threads)

    def probabilities(self, liked: Sequence[Sequence[str]], items: Sequence[str]) -> NDArray[np.float32]:
        """Compute the probability of a click for pairs: (n,) float32.

        Parameters
        ----------
        liked
            For each pair the titles that the user liked, the most recent last.
        items
            For each pair what `item_text` says of the item.
        """
        joined = [self._separator.join(reversed(titles)) for titles in liked]
        tokens = pair_tokens(self._tokenizer, self._max_tokens, joined, items)
        found = self._session.run(None, {name: value.numpy() for name, value in tokens.items()})[0]
        return np.asarray(found, np.float32)


def _write(path: Path, module: nn.Module, inputs: dict[str, Tensor]) -> None:
    # Tracing suits a transformer, which has no branches, and takes a hundredth of torch.export's time; what
    # it may freeze by mistake, such as a length, shows in the comparison at several sizes.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs[name] for name in INPUTS),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=list(INPUTS),
            output_names=["probability"],
            dynamic_axes={name: {0: "b", 1: "t"} for name in INPUTS} | {"probability": {0: "b"}},
        )


def _difference(module: nn.Module, session: Any, inputs: dict[str, Tensor]) -> float:
    with torch.inference_mode():
        wanted = module(**inputs).numpy()
    got = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return float(np.abs(got.astype(np.float64) - wanted).max())


class _no_fast_path:  # noqa: N801
    """Torch's fused attention has no ONNX form; what the caller had set comes back."""

    def __enter__(self) -> None:
        self._was = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch.backends.mha.set_fastpath_enabled(self._was)
