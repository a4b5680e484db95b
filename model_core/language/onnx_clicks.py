"""Reads an exported click classifier with ONNX Runtime and `tokenizers`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_core.release.folder import TOKENIZER
from model_core.release.scorer import open_session

GRAPH, SETTINGS = "classifier.onnx", "classifier.json"
INPUTS = ("input_ids", "attention_mask", "item_mask")


class OnnxClicks:
    """An exported classifier: texts in, probabilities of a click out.

    Raises
    ------
    ValueError
        If the folder holds no exported classifier.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        if not all((folder / name).is_file() for name in (GRAPH, SETTINGS, TOKENIZER)):
            raise ValueError(
                f"classifier must be a folder with {GRAPH}, {SETTINGS} and {TOKENIZER}, got {str(folder)!r}"
            )
        self._separator = str(json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["separator"])
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
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
        pairs = self._tokenizer.encode_batch(list(zip(joined, items, strict=True)))
        second = [[part == 1 for part in pair.sequence_ids] for pair in pairs]
        tokens = ([pair.ids for pair in pairs], [pair.attention_mask for pair in pairs], second)
        inputs = {name: np.array(values, np.int64) for name, values in zip(INPUTS, tokens, strict=True)}
        return np.asarray(self._session.run(None, inputs)[0], np.float32)
